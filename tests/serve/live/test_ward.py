"""Live scores and alarms are those of a stored recording, however the samples came, and after a restart."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caretrace import schema
from caretrace.apps.vitals.alarms import AlarmMachine
from caretrace.data.grid import CHANNEL, GridSettings, stretches
from caretrace.serve.live.follower import SCORES
from caretrace.serve.live.samples import CHANNELS as ALL
from caretrace.serve.live.samples import NOTHING
from caretrace.serve.live.settings import LiveSettings
from caretrace.serve.live.ward import Scored, Ward
from caretrace.serve.store.columns import Samples, pack, unpack
from caretrace.serve.store.log import Entry

from .small import CHANNELS, GAP, STEP, alarm_key, entries, model, recording

LIVE = LiveSettings()


def stored(samples):
    """The grid that the application makes of the same samples as a dataset."""
    table = pl.DataFrame(
        {
            schema.SUBJECT_ID: samples.subject,
            schema.TIME: pl.Series(np.rint(samples.time * 1e6).astype(np.int64)).cast(pl.Datetime("us")),
            CHANNEL: [ALL[number] for number in samples.channel],
            schema.NUMERIC_VALUE: samples.value,
        }
    )
    return stretches(table, GridSettings(CHANNELS, STEP, max_gap_seconds=GAP))


def close(samples, seq):
    """What ends the last steps: the clock, by an entry of the log."""
    subjects = np.unique(samples.subject)
    when = np.full(len(subjects), samples.time.max() + 2 * STEP)
    nothing = np.full(len(subjects), NOTHING, np.int16)
    return Entry(seq, 0.0, Samples(subjects, when, nothing, np.zeros(len(subjects), np.float32)))


def run(watched, log, calls=1):
    ward = Ward(watched, LIVE)
    for part in np.array_split(np.arange(len(log)), calls):
        ward.take([log[i] for i in part])
    return ward


def sorted_scored(ward):
    found = ward.take_scored()
    order = np.lexsort((found.step, found.subject))
    return Scored(*(column[order] for column in found))


@pytest.mark.parametrize("backbone", ["gru", "lstm", "mamba"])
def test_live_scores_and_alarms_are_those_of_a_stored_recording(backbone):
    samples = recording()
    watched = model(backbone=backbone)
    limits = _limits(watched, samples)
    watched = model(limits, backbone)
    log = entries(samples, range(50, len(samples.time), 50))
    ward = run(watched, [*log, close(samples, len(log) + 1)], 7)
    found = sorted_scored(ward)
    grid = stored(samples)
    assert len({stretch.subject for stretch in grid}) < len(grid)  # a gap has begun another recording
    scored = watched.scorer.score([stretch.values for stretch in grid])
    np.testing.assert_array_equal(found.subject, np.concatenate([[s.subject] * len(s) for s in grid]))
    np.testing.assert_array_equal(found.step, np.concatenate([s.first + np.arange(len(s)) for s in grid]))
    np.testing.assert_array_equal(found.values, np.concatenate([s.values.T for s in grid]))
    for place, name in enumerate(SCORES):
        expected = np.concatenate([each.scores[name] for each in scored])
        np.testing.assert_allclose(found.scores[:, place], expected, atol=2e-5)
    _check_alarms(ward, watched, grid, scored)


def _limits(watched, samples):
    scored = watched.scorer.score([stretch.values for stretch in stored(samples)])
    return {
        name: float(np.quantile(np.concatenate([s.scores[name] for s in scored]), 0.7))
        for name in ("sudden", "lasting")
    }


def _check_alarms(ward, watched, grid, scored):
    """Every alarm of a stored recording was raised at its moment; ours know nothing else."""
    expected = set()
    for stretch, each in zip(grid, scored, strict=True):
        times = (stretch.first + np.arange(len(stretch))) * STEP + STEP
        for reason, policy in watched.alarms.items():
            for change in AlarmMachine(policy).advance(times, each.scores[reason].astype(float)):
                if change.state == "active":
                    expected.add((stretch.subject, reason, change.time))
    outcome = ward.lifecycle.take()
    assert len(outcome.alarms) > 4
    alarms = {alarm.id: alarm for alarm in outcome.alarms if alarm.kind == "physiological"}
    heard = {
        (alarms[change.alarm_id].subject_id, alarms[change.alarm_id].reason, change.time)
        for change in outcome.changes
        if change.state == "active" and change.alarm_id in alarms
    }
    # An alarm that is active when a recording ends stays; a stored recording would raise it anew.
    still = {(who, why) for who, why, _ in expected - heard}
    assert heard <= expected
    assert len(expected - heard) <= len(still)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_ward_does_not_depend_on_batches_or_calls(data):
    samples = recording(subjects=3, seconds=500)
    n = len(samples.time)
    cuts = sorted(set(data.draw(st.lists(st.integers(1, n - 1), max_size=20), label="cuts")))
    calls = data.draw(st.integers(1, 5), label="calls")
    watched = model()
    whole = run(watched, entries(samples, []))
    cut = run(watched, entries(samples, cuts), calls)
    one, other = sorted_scored(whole), sorted_scored(cut)
    np.testing.assert_array_equal(one.step, other.step)
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_allclose(one.scores, other.scores, atol=2e-5)
    first, second = whole.lifecycle.take(), cut.lifecycle.take()
    assert sorted(map(alarm_key, first.alarms)) == sorted(map(alarm_key, second.alarms))
    changes = [sorted((c.alarm_id, c.time, c.state) for c in o.changes) for o in (first, second)]
    assert changes[0] == changes[1]
    assert whole.grid.too_late == cut.grid.too_late == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 29), st.integers(1, 29))
def test_a_ward_goes_on_from_a_snapshot_as_if_nothing_had_been(at, later):
    log = entries(recording(subjects=3, seconds=600), range(20, 620, 20))
    watched = model()
    whole = run(watched, log)
    before = run(watched, log[: min(at, later)])
    arrays = unpack(pack(before.arrays()))
    after = Ward(watched, LIVE)
    after.restore(before.seq, arrays)
    after.take(log[min(at, later) : max(at, later)], alarms=False)
    known = run(watched, log[: max(at, later)])
    outcome = known.lifecycle.take()
    after.lifecycle.restore(outcome.machines, outcome.alarms, 0.0)
    after.wake()
    after.take(log[max(at, later) :])
    parts = [part for part in (known.take_scored(), after.take_scored()) if part is not None]
    again = Scored(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    order = np.lexsort((again.step, again.subject))
    every = sorted_scored(whole)
    np.testing.assert_array_equal(again.step[order], every.step)
    np.testing.assert_allclose(again.scores[order], every.scores, atol=2e-5)
    expected = whole.lifecycle.take()
    changed = {alarm.id: alarm for alarm in [*outcome.alarms, *after.lifecycle.take().alarms]}
    assert sorted(map(alarm_key, changed.values())) == sorted(map(alarm_key, expected.alarms))


def test_what_comes_too_late_is_kept_apart_and_counted():
    samples = recording(subjects=1, seconds=100)
    ward = run(model(), entries(samples, []))
    late = samples.take(np.arange(5))
    ward.take([Entry(2, 0.0, late)])
    assert ward.grid.too_late == 5
    np.testing.assert_array_equal(ward.take_scored().step, np.unique(stored(samples)[0].first + np.arange(9)))


def test_what_no_body_can_have_is_not_scored():
    samples = recording(subjects=1, seconds=100)
    odd = samples._replace(value=np.where(np.arange(len(samples.time)) == 3, 900, samples.value))
    ward = run(model(), entries(odd, []))
    assert ward.counts.implausible == 1
    kept = samples.take(np.arange(len(samples.time)) != 3)
    np.testing.assert_array_equal(
        ward.take_scored().values, run(model(), entries(kept, [])).take_scored().values
    )


def test_a_backbone_that_remembers_everything_is_refused():
    from caretrace.errors import ConfigError

    with pytest.raises(ConfigError, match=r"serve a run with detector\.backbone gru"):
        Ward(model(backbone="transformer"), LIVE)


def test_who_left_is_forgotten_and_the_place_is_used_again():
    samples = recording(subjects=2, seconds=100)
    ward = run(model(), entries(samples, []))
    slot = ward.slot_of[100]
    ward.leave(100, samples.time.max() + 1)
    assert ward.slot_of.keys() == {101}
    other = samples.take(samples.subject == 100)._replace(subject=np.full((samples.subject == 100).sum(), 7))
    before = ward.take_scored()
    ward.take([Entry(2, 0.0, other)])
    assert ward.slot_of[7] == slot
    again = ward.take_scored()
    mine = before.subject == 100
    np.testing.assert_allclose(again.scores, before.scores[mine], atol=2e-5)


def test_times_of_steps_are_those_of_the_dataset():
    assert dt.datetime.fromtimestamp(stored(recording(1, 60))[0].first * STEP, dt.UTC).year == 2023
