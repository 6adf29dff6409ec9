"""Open data as sequences: nothing that is known only afterwards, nothing learned from what is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace.apps.safety.model import QUANTILES
from caretrace.apps.safety.real import (
    ARRIVALS_AHEAD_HOURS,
    constant_quantiles,
    hour_of_week,
    last_month,
    mean_of_training,
    read_arrivals,
    read_attendances,
    read_fire_calls,
    read_survey,
)
from caretrace.apps.safety.sequences import HOUR, RESAMPLED
from caretrace.errors import InputError


def _known(sequences):
    return sequences.steps.filter(pl.col(sequences.targets[0]).is_not_null())


@pytest.fixture(scope="module")
def fire(tmp_path_factory):
    rng = np.random.default_rng(0)
    n = 200
    file = tmp_path_factory.mktemp("fire") / "calls.csv"
    pl.DataFrame(
        {
            "IncidentNumber": rng.integers(0, 120, n),
            "CallDate": "2002-01-11",
            "CallType": rng.choice(["Medical Incident", "Alarms"], n),
            "UnitType": rng.choice(["ENGINE", "MEDIC"], n),
            "Battalion": rng.choice(["B01", "B02"], n),
            "ALSUnit": rng.choice(["true", "false"], n),
            "NumAlarms": 1,
            "UnitSequenceInCallDispatch": rng.integers(1, 4, n),
            "OriginalPriority": rng.choice(["2", "3", "E"], n),
            "CallFinalDisposition": "Other",
            "Delay": rng.lognormal(1, 0.5, n),
        }
    ).write_csv(file)
    return file


def test_an_incident_is_learned_from_or_judged_never_both(fire):
    parts = read_fire_calls(fire, None)
    assert len(parts) == 5
    judged = [_known(part.held_out) for part in parts]
    assert sum(len(each) for each in judged) == 200
    for part in parts:
        names = [set(_known(each)[RESAMPLED]) for each in (part.train, part.tuning, part.held_out)]
        assert all(names)
        assert not names[0] & names[1]
        assert not names[2] & (names[0] | names[1])
    assert not {"CallFinalDisposition", "Delay", "AvailableDtTm"} & set(parts[0].train.numeric)
    said = constant_quantiles(QUANTILES)(parts[0])
    assert said.shape == (len(parts[0].held_out.steps), len(QUANTILES))
    assert said[0, 1] == pytest.approx(np.median(_known(parts[0].train)["delay"]))


def test_rows_given_to_be_judged_are_only_judged(fire, tmp_path):
    other = tmp_path / "other.csv"
    pl.read_csv(fire).head(40).with_columns(IncidentNumber=pl.int_range(1000, 1040)).write_csv(other)
    (part,) = read_fire_calls(fire, other)
    assert set(part.held_out.steps[RESAMPLED]) == set(range(1000, 1040))
    assert max(part.train.steps[RESAMPLED]) < 1000 > max(part.tuning.steps[RESAMPLED])


def test_exhaustion_is_not_foreseen_from_the_same_inventory(tmp_path):
    rng = np.random.default_rng(1)
    names = ("age", "sex", "part", "job", "psyt", "glang", "cesd", "mbi_ex", "mbi_cy", "mbi_ea")
    table = {name: rng.integers(5, 30, 80) for name in names}
    pl.DataFrame({"id": np.arange(80), **table}).write_csv(tmp_path / "survey.csv")
    parts = read_survey(tmp_path / "survey.csv", None)
    assert set(parts[0].train.numeric) == {"age", "cesd"}
    assert mean_of_training(parts[0])[0] == pytest.approx(_known(parts[0].train)["burnout"].mean())


def test_next_month_is_asked_of_months_that_come_before_it(tmp_path):
    months = [f"{year}-{month:02d}-01" for year in (2016, 2017, 2018) for month in range(1, 13)]
    rows = [
        {
            "period": month,
            "org_code": org,
            "type": "1",
            "attendances": 1000,
            "breaches": 10 * place + add,
            "admissions": 300,
        }
        for org, add in (("A", 0), ("B", 5))
        for place, month in enumerate(months)
        if not (org == "B" and place == 20)
    ]
    pl.DataFrame([*rows, {**rows[0], "type": "other"}]).write_csv(tmp_path / "ae.csv")
    (part,) = read_attendances(tmp_path / "ae.csv", None)
    for each in (part.train, part.tuning, part.held_out):
        known = _known(each).filter(pl.col("org_code") == "A")
        place = known["rate"] * 100
        assert (known["breach"] * 100 - place).to_list() == pytest.approx([1.0] * len(known))
    assert (
        _known(part.held_out)[HOUR].min() > _known(part.tuning)[HOUR].max() > _known(part.train)[HOUR].max()
    )
    # The month before the missing one has nothing to foresee.
    b = pl.concat([_known(each) for each in (part.train, part.tuning, part.held_out)]).filter(
        pl.col("org_code") == "B"
    )
    assert 19 not in ((b["rate"] * 100 - 0.5).round().to_list())
    last = part.held_out.steps.filter(pl.col("breach").is_not_null())
    assert len(last) == 12
    assert (last_month(part) == part.held_out.steps["rate"].to_numpy()).all()


def test_arrivals_ahead_do_not_reach_back_into_training(tmp_path):
    rng = np.random.default_rng(2)
    start = np.datetime64("2031-03-03T00:00:00")
    hour = np.repeat(np.arange(24 * 120), 1 + (np.arange(24 * 120) % 24 == 12) * 5)
    time = (
        start + hour * np.timedelta64(3600, "s") + rng.integers(0, 3600, len(hour)).astype("timedelta64[s]")
    )
    pl.DataFrame({"arrival_datetime": np.sort(time).astype("datetime64[s]").astype(str)}).with_columns(
        pl.col("arrival_datetime").str.replace("T", " ")
    ).write_csv(tmp_path / "arrivals.csv")
    (part,) = read_arrivals(tmp_path / "arrivals.csv", None)
    known = [_known(each)[HOUR] for each in (part.train, part.tuning, part.held_out)]
    assert known[0].max() + ARRIVALS_AHEAD_HOURS < known[1].min()
    assert known[1].max() + ARRIVALS_AHEAD_HOURS < known[2].min()
    # One an hour, and six at noon: eight hours have eight, or thirteen.
    assert set(_known(part.held_out)["admissions"]) == {8.0, 13.0}
    said = hour_of_week(QUANTILES)(part)
    truth = part.held_out.steps["admissions"].to_numpy()
    rows = ~np.isnan(truth.astype(float))
    assert (said[rows, 1] == truth[rows]).all()


def test_a_missing_file_or_column_is_told(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_fire_calls(tmp_path / "calls.csv", None)
    (tmp_path / "survey.csv").write_text("id,age\n1,20\n")
    with pytest.raises(InputError, match="no column 'mbi_ex'"):
        read_survey(tmp_path / "survey.csv", None)


@pytest.mark.data
@pytest.mark.parametrize(
    ("reader", "place", "count"),
    [
        (read_fire_calls, "emergency-ops/sf_fire_calls_2002_sample.csv", 667),
        (read_survey, "burnout-survey/medical_student_burnout.csv", 591),
    ],
)
def test_the_open_tables_are_read_whole(caretrace_data: Path, reader, place, count):
    parts = reader(caretrace_data / place, None)
    assert sum(len(_known(part.held_out)) for part in parts) == count
