"""What is read of a city: what its tables say, at the hour it was known, and nothing of later."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.apps.safety.blocks import block_of, split_blocks
from caretrace.apps.safety.config import SafetyConfig
from caretrace.apps.safety.hospital_steps import CRISIS, HORIZONS_HOURS, hospital_sequences
from caretrace.apps.safety.pathways import EPISODE, collect_episodes
from caretrace.apps.safety.reading import read_splits, read_whole
from caretrace.apps.safety.sequences import (
    HOSPITAL,
    HOUR,
    KINDS,
    PATHWAY,
    SEQUENCE,
    STAFF,
    Scaling,
    Sequences,
)
from caretrace.apps.safety.site_hours import collect_site_hours
from caretrace.dataset import Dataset
from caretrace.errors import CohortError

from .small_city import cut

START = dt.datetime(2023, 1, 2)  # noqa: DTZ001 - polars keeps UTC without saying so
MOMENT = START + dt.timedelta(days=10, hours=10, minutes=30)


@pytest.fixture(scope="module")
def past(small_city, tmp_path_factory):
    """The dataset as it stood at half past ten on the eleventh day."""
    return Dataset(cut(small_city[1], tmp_path_factory.mktemp("past") / "data", MOMENT))


def test_every_visit_and_run_of_the_raw_tables_is_an_episode(small_city):
    raw, data = small_city
    found = collect_episodes(Dataset(data))
    visits = pl.read_csv(raw / "visits.csv", infer_schema_length=None, try_parse_dates=True)
    runs = pl.read_csv(raw / "runs.csv", infer_schema_length=None, try_parse_dates=True)
    own = found.drop_nulls("arrival").sort("subject_id", "arrival")
    given = visits.sort("subject_id", "arrival_time")
    assert own["arrival"].to_list() == given["arrival_time"].to_list()
    names = {
        "site": "site",
        "triage_level": "triage",
        "departure": "departure_time",
        "physician": "physician_time",
    }
    for (
        ours,
        theirs,
    ) in names.items():  # who comes again before the last visit is over mixes the two: a few in a thousand
        assert own[ours].eq_missing(given[theirs].cast(own[ours].dtype)).mean() > 0.995, ours
    assert own["by_ambulance"].to_list() == given["run_id"].is_not_null().to_list()
    assert found["call"].is_not_null().sum() == len(runs)
    rated = pl.read_csv(raw / "handoffs.csv", infer_schema_length=None)["rating"].drop_nulls()
    assert found["handoff"].sum() == rated.sum()


def test_waits_and_levels_are_those_of_the_truth(small_city, site_hours):
    truth = pl.read_parquet(small_city[0] / "truth" / "hours.parquet").sort("site", "hour_time")
    hours = truth["hour_time"].n_unique()
    level = truth["crisis_level"].to_numpy().reshape(-1, hours)
    known = ~np.isnan(site_hours.level[:, :hours])
    assert known.mean() > 0.98
    assert (site_hours.level[:, :hours][known] == level[known]).all()
    # Whoever came before the first day, or was there on the last, is not in the tables.
    for ours, theirs in (("overdue", "overdue"), ("crews_held", "held_late")):
        count = truth[theirs].to_numpy().reshape(-1, hours)
        same = site_hours.channel(ours)[:, :hours] == count
        assert same[:, 24:-24].mean() > (0.99 if ours == "overdue" else 0.93), ours


def test_the_level_of_an_hour_is_known_an_hour_later(site_hours):
    known = site_hours.channel("last_level")[:, 1:]
    assert np.array_equal(known, site_hours.level[:, :-1].astype(np.float32), equal_nan=True)


def test_hours_know_nothing_of_later(site_hours, past):
    then = collect_site_hours(past, collect_episodes(past))
    whole = int((MOMENT - site_hours.start).total_seconds() // 3600) + 1
    assert then.n_hours == whole
    assert np.array_equal(then.values, site_hours.values[:, :whole], equal_nan=True)


@pytest.mark.parametrize("kind", [PATHWAY, STAFF])
def test_steps_know_nothing_of_later(kind, kinds, past):
    then, now = read_whole(past, SafetyConfig())[kind], kinds[kind]
    last = (MOMENT - START).total_seconds() / 3600
    keys = [schema.SUBJECT_ID, HOUR] + ([EPISODE, "stage"] if kind == PATHWAY else [])
    names = [name for name in (*now.numeric, *now.categorical) if name not in keys]
    wanted = [*keys, *names]
    # Whose hour of reading is not over yet cannot be on the earlier grid.
    both = (
        then.steps.filter(pl.col(HOUR) <= last - 1)
        .select(wanted)
        .join(now.steps.select(wanted), on=keys, how="inner", suffix=" later")
    )
    assert len(both) > 500
    for name in names:
        assert both[name].equals(both[f"{name} later"], null_equal=True), name


def test_that_age_is_missing_tells_nothing_before_the_arrival(kinds):
    steps = kinds[PATHWAY].steps
    before = steps.filter(pl.col("stage").is_in(["call", "dispatch", "on_scene", "at_hospital"]))
    assert before["age"].is_null().all()
    assert before["sex"].is_null().all()
    assert steps.filter(pl.col("stage") == "triage")["age"].is_not_null().all()


def test_targets_of_pathways_stand_at_their_stage(kinds):
    steps = kinds[PATHWAY].steps
    for target, stage in {
        "delay": "call",
        "handoff": "at_hospital",
        "documentation": "decision",
        "adverse": "decision",
    }.items():
        known = steps.filter(pl.col(target).is_not_null())
        assert len(known)
        assert set(known["stage"]) == {stage}
    assert steps["delay"].min() > 0


def test_a_crisis_foreseen_is_the_level_that_came(site_hours):
    sequences = hospital_sequences(site_hours, 0)
    for name, ahead in zip(CRISIS, HORIZONS_HOURS, strict=True):
        found = sequences.steps[name].to_numpy().reshape(site_hours.level.shape)
        assert np.isnan(found[:, :24]).all()
        end = site_hours.n_hours - ahead
        assert np.array_equal(
            found[:, 24:end], site_hours.level[:, 24 + ahead :][:, : end - 24], equal_nan=True
        )


def test_answers_are_foreseen_at_the_last_duty_before_them(kinds):
    steps = kinds[STAFF].steps
    assert steps["fatigue"].drop_nulls().is_between(0, 1).all()
    assert len(steps["fatigue"].drop_nulls()) > 100
    twice = steps.drop_nulls("burnout").group_by(schema.SUBJECT_ID).len()
    assert (twice["len"] == 1).all() or not len(twice)


def test_blocks_share_no_hour_and_no_target_crosses_one(small_city):
    config = SafetyConfig(block_days=3)
    splits = read_splits(Dataset(small_city[1]), config, schema.SPLITS)
    hours = {
        split: {kind: set((each.steps[HOUR] // 1).to_list()) for kind, each in parts.items()}
        for split, parts in splits.items()
    }
    for kind in KINDS:
        train, tuning, held_out = (hours[split].get(kind, set()) for split in schema.SPLITS)
        assert train
        assert len(train | tuning | held_out) == len(train) + len(tuning) + len(held_out)
    hospital = splits[schema.TRAIN][HOSPITAL].steps
    for name, ahead in zip(CRISIS, HORIZONS_HOURS, strict=True):
        known = hospital.filter(pl.col(name).is_not_nan() & pl.col(name).is_not_null())
        assert (known[HOUR] % 72 + ahead < 72).all()
        assert (known[HOUR] % 72 >= 24).all()


def test_a_split_by_patient_would_leak_the_state_of_the_hospital(kinds):
    """Patients present together share it: from training patients alone, one reads off the level held-out ones meet."""
    steps = kinds[PATHWAY].steps.filter(pl.col("stage") == "triage").drop_nulls("here//last_level")
    steps = steps.with_columns(at=pl.col(HOUR) // 1)
    held_out = pl.col(schema.SUBJECT_ID).hash(0) % 5 == 0

    def read_off(train: pl.DataFrame, other: pl.DataFrame) -> float:
        table = train.group_by("site", "at").agg(seen=pl.col("here//last_level").first())
        both = other.join(table, on=["site", "at"], how="left")
        return float((both["seen"] == both["here//last_level"]).fill_null(False).mean())

    assert read_off(steps.filter(~held_out), steps.filter(held_out)) > 0.9
    block = block_of(steps[HOUR].to_numpy(), 3)
    mine = np.isin(block, split_blocks(22 * 24, 3)[schema.HELD_OUT])
    assert read_off(steps.filter(~mine), steps.filter(mine)) == 0.0


def test_blocks_are_dealt_out_the_same_every_time():
    found = split_blocks(364 * 24, 28)
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(13))
    assert {split: len(part) for split, part in found.items()} == {"tuning": 2, "held_out": 2, "train": 9}
    with pytest.raises(CohortError, match="2 blocks of 28 days"):
        split_blocks(56 * 24, 28)


def test_scaling_is_of_the_training_steps_alone():
    steps = pl.DataFrame(
        {
            SEQUENCE: [0, 0, 1],
            HOUR: [0.0, 1.0, 2.0],
            "x": [1.0, 3.0, None],
            "n": ["a", None, "b"],
            "y": [None, 1.0, None],
        }
    )
    train = Sequences(STAFF, steps, ("x",), ("n",), ("y",))
    scaling = Scaling.fit(train)
    assert Scaling.from_dict(scaling.to_dict()) == scaling
    other = Sequences(STAFF, steps.with_columns(x=pl.lit(1e9), n=pl.lit("new")), ("x",), ("n",), ("y",))
    found = scaling.apply(other)
    assert (found.values == 8.0).all()
    assert (found.names == 0).all()
    own = scaling.apply(train)
    assert own.values[:, 0] == pytest.approx([-(2**-0.5), 2**-0.5, np.nan], nan_ok=True)
    assert own.names[:, 0].tolist() == [1, 0, 2]
    assert own.begins.tolist() == [0, 2, 3]


def test_a_dataset_without_a_city_says_what_to_do(tiny_dataset):
    with pytest.raises(CohortError, match="ingest `hospital-operations`"):
        collect_episodes(Dataset(tiny_dataset))
