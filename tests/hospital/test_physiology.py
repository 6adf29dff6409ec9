"""The vital signs against what was planted: drives, onsets, artefacts, chance and blocks."""

from __future__ import annotations

import dataclasses
import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretrace.errors import ConfigError
from caretrace.hospital.physiology import (
    ARTEFACTS,
    CHANNELS,
    DETERIORATIONS,
    KINDS,
    Block,
    Event,
    PhysiologyConfig,
    Plan,
    iter_blocks,
    plan_subject,
    vitals_of,
)
from caretrace.hospital.physiology.artefacts import SENSORS, SHARES, plan_artefacts
from caretrace.hospital.physiology.chance import poisson_days, stream
from caretrace.hospital.physiology.config import DBP, HR, MAP, SBP, SPO2, TEMP
from caretrace.hospital.physiology.deteriorations import plan_events, ramp
from caretrace.hospital.physiology.drives import CIRCADIAN, DRIVES, DriveBank
from caretrace.hospital.physiology.monitor import LIMITS
from caretrace.hospital.physiology.people import draw_person

CALM = PhysiologyConfig(
    hours=24, share_deteriorating=0, artefacts_per_hour=0, disturbances_per_hour=0, seed=7
)
ILL = dataclasses.replace(CALM, share_deteriorating=1, first_onset_hours=3, hours=8)


def whole(plan: Plan, subject: int, config: PhysiologyConfig, block_samples: int) -> Block:
    blocks = list(iter_blocks(plan, subject, config, block_samples))
    names = [field.name for field in dataclasses.fields(Block)]
    return Block(**{n: np.concatenate([getattr(b, n) for b in blocks], axis=-1) for n in names})


def assert_same(one: Block, other: Block, samples: int) -> None:
    for field in dataclasses.fields(Block):
        a, b = getattr(one, field.name)[..., :samples], getattr(other, field.name)[..., :samples]
        np.testing.assert_array_equal(a, b, err_msg=field.name)


# --- stable people -------------------------------------------------------------------------------------------


def test_drives_equal_a_literal_walk() -> None:
    """The filters against the equation of an Ornstein-Uhlenbeck process, step by step."""
    person, step = draw_person(3, 0), 60
    drawn = DriveBank(person, stream(3, 0, "noise"), step).block(500)
    rng = stream(3, 0, "noise")
    last = rng.standard_normal(len(DRIVES), np.float32).astype(float)
    for sample in range(500):
        z = rng.standard_normal(len(DRIVES), np.float32)
        for i, drive in enumerate(DRIVES):
            keep = np.exp(-step / drive.seconds) if drive.seconds else 0.0
            last[i] = keep * last[i] + np.sqrt(1 - keep**2) * z[i]
        np.testing.assert_allclose(drawn[:, sample], last, atol=2e-4)


@pytest.mark.parametrize("step", [20, 600, 3600])
def test_every_step_samples_the_same_process(step: int) -> None:
    """Unit variance and autocorrelation exp(-lag / time constant), whatever the time between samples."""
    lag_seconds = 3600
    series = [DriveBank(draw_person(1, s), stream(1, s, "noise"), step).block(20_000) for s in range(12)]
    lag = lag_seconds // step
    for i, drive in enumerate(DRIVES):
        if not 60 <= drive.seconds <= 2 * 3600:
            continue
        x = np.stack([s[i] for s in series]).astype(float)
        wanted = np.exp(-lag_seconds / drive.seconds)
        # Independent pieces in all series together, for the error of a variance.
        pieces = x.size * min(1.0, step / (2 * drive.seconds))
        assert abs(np.mean(x * x) - 1) < 5 * np.sqrt(2 / pieces), drive.name
        assert abs(np.mean(x[:, lag:] * x[:, :-lag]) - wanted) < 5 * np.sqrt(1.5 / pieces), drive.name


def test_coupling_of_channels_is_that_of_the_gains() -> None:
    config = dataclasses.replace(CALM, hours=24 * 40, step_seconds=3600)
    bank = [DriveBank(draw_person(5, s), stream(5, s, "noise"), 3600) for s in range(60)]
    own = [b.signs(b.block(config.samples), 0) - b.signs(np.zeros((len(DRIVES), config.samples), np.float32), 0)
           for b in bank]  # fmt: skip
    scale = np.array([[d.gains.get(c, 0.0) for d in DRIVES] for c in range(len(CHANNELS))])
    planted = scale @ scale.T
    seen = np.mean([np.corrcoef(np.delete(x, MAP, 0)) for x in own], axis=0)
    kept = [c for c in range(len(CHANNELS)) if c != MAP]
    sd = np.sqrt(np.diag(planted)[kept])
    np.testing.assert_allclose(seen, planted[np.ix_(kept, kept)] / np.outer(sd, sd), atol=0.06)
    assert planted[HR, SPO2] < 0 < planted[HR, TEMP]


def test_the_daily_wave_has_its_top_at_the_stated_hour() -> None:
    person = draw_person(2, 1)
    bank = DriveBank(person, stream(2, 1, "noise"), 60)
    signs = bank.signs(np.zeros((len(DRIVES), 1440), np.float32), 0)
    for channel, (amplitude, top) in CIRCADIAN.items():
        second = (person.start + 60 * int(signs[channel].argmax())) % 86_400
        assert abs((second / 3600 - top + 12) % 24 - 12) < 0.5, CHANNELS[channel]
        assert np.ptp(signs[channel]) == pytest.approx(2 * amplitude, rel=1e-3)


def test_the_screen_shows_whole_numbers_within_limits_and_pressures_in_order() -> None:
    seen = np.concatenate([vitals_of(s, CALM).block.values for s in range(4)], axis=1)
    clean = np.concatenate([vitals_of(s, CALM).block.clean for s in range(4)], axis=1)
    assert not np.isnan(seen).any()
    np.testing.assert_array_equal(np.delete(seen, TEMP, 0) % 1, 0)
    np.testing.assert_allclose(seen[TEMP] * 10, np.rint(seen[TEMP] * 10), atol=1e-3)
    assert seen[SPO2].max() == 100
    assert (clean[DBP] < clean[MAP]).all()
    assert (clean[MAP] < clean[SBP]).all()
    np.testing.assert_allclose(seen[HR], clean[HR], atol=0.501)


# --- deteriorations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_differs_before_the_onset_and_something_from_the_next_second_on(kind: str) -> None:
    config = dataclasses.replace(ILL, kinds=(kind,))
    courses = set()
    for subject in range(12):
        ill, well = (
            vitals_of(subject, config),
            vitals_of(subject, dataclasses.replace(config, share_deteriorating=0)),
        )
        event = ill.plan.events[0]
        courses.add(event.course)
        differs = (ill.block.clean != well.block.clean).any(axis=0)
        assert np.flatnonzero(differs)[0] == event.onset + 1
        assert np.flatnonzero(ill.block.course)[0] == event.onset + 1
        if event.end < config.seconds:
            until = ill.plan.events[1].onset + 1 if len(ill.plan.events) > 1 else config.seconds
            assert not differs[event.end : until].any()
            assert ill.block.course[event.end - 1] > 0
        assert not well.block.course.any()
    expected = DETERIORATIONS[kind].abrupt
    assert courses == ({"gradual"} if expected == 0 else courses & {"abrupt", "gradual"})


def test_the_full_effect_is_the_planted_one() -> None:
    checked = 0
    for subject in range(40):
        config = dataclasses.replace(ILL, step_seconds=30, hours=30)
        ill, well = (
            vitals_of(subject, config),
            vitals_of(subject, dataclasses.replace(config, share_deteriorating=0)),
        )
        event = ill.plan.events[0]
        full = (ill.block.second >= event.peak) & (ill.block.second <= min(event.turn, config.seconds))
        if event.kind in ("arrhythmia", "sepsis") or not full.any():  # one is irregular, one warms slowly
            continue
        change = ill.block.clean[:, full] - well.block.clean[:, full]
        for channel in (HR, SBP):
            planted = DETERIORATIONS[event.kind].effects[channel] * event.severity * event.response[channel]
            above = ill.block.clean[channel, full] > LIMITS[channel][0]  # a body has limits
            np.testing.assert_allclose(change[channel, above], planted, atol=1e-2)
        np.testing.assert_allclose(ill.block.course[full], event.severity, rtol=1e-6)
        checked += 1
    assert checked >= 15


def event(**change: Any) -> Event:
    base: dict[str, Any] = {
        "kind": "bleeding",
        "course": "gradual",
        "severity": 1.0,
        "onset": 100,
        "peak": 200,
    }
    return Event(**(base | {"turn": 300, "end": 500, "response": (1.0,) * 7} | change))


def test_the_ramp_is_exact_and_a_reserve_delays_a_channel() -> None:
    second = np.array([0, 100, 101, 150, 200, 250, 300, 400, 499, 500, 900])
    np.testing.assert_allclose(ramp(event(), second), [0, 0, 0.01, 0.5, 1, 1, 1, 0.5, 0.005, 0, 0], atol=1e-6)
    pressure = ramp(event(), np.array([100, 130, 131, 200]), SBP)
    np.testing.assert_allclose(pressure, [0, 0, 0.01 / 0.7, 1], atol=1e-6)
    assert ramp(event(), np.array([200]), TEMP)[0] == pytest.approx(100 / 7200)


def test_some_never_deteriorate_and_kinds_are_as_asked() -> None:
    config = PhysiologyConfig(
        hours=48, share_deteriorating=0.3, kinds=("sepsis", "bleeding"), step_seconds=3600
    )
    events = [plan_subject(s, config).events for s in range(1500)]
    assert abs(np.mean([bool(e) for e in events]) - 0.3) < 4 * np.sqrt(0.21 / 1500)
    kinds = [one.kind for e in events for one in e]
    assert abs(kinds.count("sepsis") / len(kinds) - 0.5) < 4 * np.sqrt(0.25 / len(kinds))
    assert set(kinds) == {"sepsis", "bleeding"}
    for own in events:
        assert all(a.onset < a.peak < a.turn < a.end for a in own)
        assert all(b.onset >= a.end + 6 * 3600 for a, b in itertools.pairwise(own))
        assert not own or 3600 <= own[0].onset < 20 * 3600


def test_abrupt_and_gradual_courses_come_as_often_as_stated() -> None:
    config = PhysiologyConfig(hours=24, share_deteriorating=1)
    drawn = [e for s in range(1500) for e in plan_events(config, 0.0, stream(0, s, "deteriorations"))]
    for name in KINDS:
        own = [e for e in drawn if e.kind == name]
        share = np.mean([e.course == "abrupt" for e in own])
        p = DETERIORATIONS[name].abrupt
        assert abs(share - p) <= 4 * np.sqrt(p * (1 - p) / len(own)), name
        for e in own:
            low, high = (
                DETERIORATIONS[name].abrupt_rise
                if e.course == "abrupt"
                else DETERIORATIONS[name].gradual_rise
            )
            assert low <= e.peak - e.onset <= high


# --- artefacts and disturbances ------------------------------------------------------------------------------


def test_artefacts_come_at_the_stated_rate_and_mix() -> None:
    config = PhysiologyConfig(hours=240, artefacts_per_hour=1.5)
    drawn = [plan_artefacts(config, stream(4, s, "artefacts")) for s in range(40)]
    count, expected = sum(len(a.start) for a in drawn), 1.5 * 240 * 40
    assert abs(count - expected) < 4 * np.sqrt(expected)
    kind = np.concatenate([a.kind for a in drawn])
    for i, share in enumerate(SHARES):
        assert abs(np.mean(kind == i) - share) < 4 * np.sqrt(share * (1 - share) / count), ARTEFACTS[i]
    gaps = np.concatenate([np.diff(a.start) for a in drawn])
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # exponential
    length = np.concatenate([a.end - a.start for a in drawn])[kind == 0]
    assert np.median(length) == pytest.approx(25, abs=1.5)


def test_only_labelled_samples_are_touched_and_they_all_are() -> None:
    config = dataclasses.replace(CALM, artefacts_per_hour=20, hours=12)
    untouched = 0
    for subject in range(3):
        struck, free = vitals_of(subject, config), vitals_of(subject, CALM)
        values, clean = struck.block.values, free.block.values[:, : config.samples]
        plan = struck.plan.artefacts
        labelled = np.zeros((len(ARTEFACTS), *values.shape), bool)
        for i in range(len(plan.start)):
            labelled[plan.kind[i], list(plan.channels(i)), plan.start[i] : plan.end[i]] = True
        differs = ~((values == clean) | (np.isnan(values) & np.isnan(clean)))
        assert not (differs & ~labelled.any(axis=0)).any()
        untouched += int((~labelled.any(axis=0)).sum())
        drop_out = labelled[ARTEFACTS.index("drop-out")]
        assert np.isnan(values[drop_out]).all()
        alone = labelled[0, SPO2] & ~labelled[1:, SPO2].any(axis=0)
        assert (values[SPO2, alone] < clean[SPO2, alone]).mean() > 0.99
        for i in np.flatnonzero(plan.kind == ARTEFACTS.index("flat line")):
            for channel in plan.channels(i):
                span = slice(plan.start[i], plan.end[i])
                others = labelled[:3, channel, span].any(axis=0)
                overlaid = [j for j in np.flatnonzero(plan.kind == 3) if j != i and channel in plan.channels(j)
                            and plan.start[j] < plan.end[i] and plan.end[j] > plan.start[i]]  # fmt: skip
                if not overlaid:
                    assert len(np.unique(values[channel, span][~others])) <= 1
    assert untouched > 0


def test_a_loose_thermometer_cools_and_a_loose_probe_falls_silent() -> None:
    config = dataclasses.replace(CALM, artefacts_per_hour=4, hours=48)
    seen = {SPO2: 0, TEMP: 0}
    for subject in range(3):
        struck = vitals_of(subject, config)
        plan, values = struck.plan.artefacts, struck.block.values
        for i in np.flatnonzero(plan.kind == ARTEFACTS.index("probe off")):
            (channel,) = plan.channels(i)
            shown = values[channel, plan.start[i] : min(plan.end[i], config.seconds)]
            if channel == SPO2:
                assert np.isnan(shown[8:]).all()
            elif len(shown) > 200 and not np.isnan(shown).any() and np.ptp(shown) > 0:
                assert shown[-1] < shown[0] - 3
            seen[channel] += 1
    assert min(seen.values()) > 5


def test_disturbances_come_at_the_stated_rate_and_lower_or_raise() -> None:
    config = dataclasses.replace(CALM, disturbances_per_hour=3.0)
    for subject in range(3):
        moved, still = vitals_of(subject, config), vitals_of(subject, CALM)
        plan = moved.plan.disturbances
        inside = np.zeros(config.samples, bool)
        for i in range(len(plan.start)):
            inside[plan.start[i] : plan.end[i]] = True
        change = moved.block.clean - still.block.clean
        assert not change[:, ~inside].any()
        assert change[HR].max() > 5
        assert change[SPO2].min() < -2
    count = sum(len(plan_subject(s, config).disturbances.start) for s in range(60))
    assert abs(count - 3 * 24 * 60) < 4 * np.sqrt(3 * 24 * 60)


# --- chance, blocks, memory ----------------------------------------------------------------------------------


BUSY = PhysiologyConfig(hours=9, share_deteriorating=1, first_onset_hours=2, artefacts_per_hour=12, seed=3)


@given(block=st.integers(1, 4000), step=st.sampled_from([7, 60, 300, 3600]))
def test_blocks_join_without_a_seam(block: int, step: int) -> None:
    config = dataclasses.replace(BUSY, step_seconds=step)
    plan = plan_subject(2, config)
    assert_same(whole(plan, 2, config, block), whole(plan, 2, config, 100_000), config.samples)


@pytest.mark.parametrize("hours", [0.5, 4.0, 25.0])
def test_a_longer_recording_begins_with_the_shorter_one(hours: float) -> None:
    short, long = dataclasses.replace(BUSY, hours=hours), dataclasses.replace(BUSY, hours=50)
    one, other = vitals_of(1, short), vitals_of(1, long)
    assert_same(one.block, other.block, short.samples)
    assert one.plan.events == other.plan.events[: len(one.plan.events)]
    n = len(one.plan.artefacts.start)
    np.testing.assert_array_equal(one.plan.artefacts.end, other.plan.artefacts.end[:n])


def test_one_seed_one_result_other_seeds_and_people_have_nothing_to_do_with_it() -> None:
    config = dataclasses.replace(CALM, step_seconds=60)
    again = vitals_of(0, dataclasses.replace(config, subjects=3))
    assert_same(vitals_of(0, config).block, again.block, config.samples)
    banks = [DriveBank(draw_person(seed, s), stream(seed, s, "noise"), 60).block(20_000)
             for seed in range(3) for s in range(3)]  # fmt: skip
    noise = np.stack([b[-2] for b in banks])  # the drive without memory: independent samples
    off = np.corrcoef(noise)[~np.eye(len(banks), dtype=bool)]
    assert np.abs(off).max() < 4.5 / np.sqrt(20_000)
    levels = np.stack([[draw_person(seed, s).level[HR] for s in range(400)] for seed in (0, 1)])
    assert abs(np.corrcoef(levels)[0, 1]) < 4.5 / 20


def test_switching_artefacts_leaves_the_body_alone() -> None:
    with_them, without = BUSY, dataclasses.replace(BUSY, artefacts_per_hour=0)
    np.testing.assert_array_equal(vitals_of(0, with_them).block.clean, vitals_of(0, without).block.clean)


def test_points_of_a_day_do_not_depend_on_the_days_after_it() -> None:
    time, mark = poisson_days(np.random.default_rng(1), 2.0, 5 * 86_400, 2)
    first, first_mark = poisson_days(np.random.default_rng(1), 2.0, 100_000, 2)
    np.testing.assert_array_equal(first, time[time < 100_000])
    np.testing.assert_array_equal(first_mark, mark[time < 100_000])
    assert (np.diff(time) >= 0).all()


def test_memory_does_not_grow_with_the_recording() -> None:
    peaks = []
    for hours in (12, 120):
        config = PhysiologyConfig(hours=hours, share_deteriorating=1)
        tracemalloc.start()
        for _ in iter_blocks(plan_subject(0, config), 0, config):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subjects": 0}, "subjects: got 0"),
        ({"step_seconds": 0}, "step_seconds: got 0; give 1"),
        ({"hours": 0.0}, "hours: got 0.0"),
        ({"share_deteriorating": 1.5}, "give a share from 0 to 1"),
        ({"kinds": ()}, "name at least one of sepsis"),
        ({"kinds": ("bleedng",)}, "bleeding"),
        ({"first_onset_hours": 1.0}, "first_onset_hours: got 1.0"),
        ({"artefacts_per_hour": -1.0}, "artefacts_per_hour: got -1.0; give a rate"),
        ({"disturbances_per_hour": 61.0}, "disturbances_per_hour: got 61.0"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_wrong_settings_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PhysiologyConfig(**change)


def test_a_negative_subject_is_refused() -> None:
    with pytest.raises(ConfigError, match="numbered from 0"):
        vitals_of(-1, CALM)


def test_every_sensor_feeds_known_channels() -> None:
    assert len(SENSORS) == len(ARTEFACTS) == len(SHARES)
    assert sum(SHARES) == pytest.approx(1)
