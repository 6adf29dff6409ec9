"""Who is who in the city: every subject registered once, the dead gone, the audit late."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace.hospital.operations import OperationsConfig, simulate_operations
from caretrace.hospital.operations.case import DURATIONS, SETTLED, Case
from caretrace.hospital.operations.register import ANOTHER_PERSON, FIRST_PERSON, Register

DAYS = 45


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("city") / "raw"
    simulate_operations(out, OperationsConfig(size=0.2), DAYS, 3)
    return out


def read(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(folder / f"{name}.csv", try_parse_dates=True, infer_schema_length=None)


def test_every_subject_of_every_table_is_in_the_register_once(folder: Path) -> None:
    register = read(folder, "register")
    assert register["subject_id"].is_unique().all()
    kinds = {
        "patient": ("runs", "visits"),
        "site": ("hours", "audit", "calendar"),
        "staff": ("duties", "sleepiness", "survey", "staff_changes"),
    }
    for kind, names in kinds.items():
        listed = set(register.filter(kind=kind)["subject_id"])
        found = {subject for name in names for subject in read(folder, name)["subject_id"]}
        assert found <= listed, kind
        # Hospitals and staff are there whether or not anything is told of them; patients only with a case.
        assert kind == "staff" or found == listed
    assert set(register["kind"]) == set(kinds)
    staff = read(folder, "duties").with_columns(name=pl.col("group") + " " + pl.col("unit"))
    both = staff.join(register, on=["subject_id", "name"], how="anti")
    assert both.is_empty()


def test_nobody_comes_back_from_the_dead(folder: Path) -> None:
    visits, runs = read(folder, "visits"), read(folder, "runs")
    dead = visits.filter(status="died").select("subject_id", death="discharge_time")
    assert dead.height > 20
    assert dead["subject_id"].is_unique().all()
    for table, time in ((visits, "discharge_time"), (visits, "departure_time"), (runs, "clear_time")):
        later = table.join(dead, on="subject_id").filter(pl.col(time) > pl.col("death"))
        assert later.is_empty(), time


def case(number: int, subject: int, end: float) -> Case:
    settled = [0] * len(SETTLED)
    settled[SETTLED.index("number")], settled[SETTLED.index("subject_id")] = number, subject
    made = Case(settled, [0.0] * len(DURATIONS))
    made.began, made.departed = end - 10, end
    return made


def test_who_comes_after_a_death_is_somebody_else() -> None:
    register, person = Register(), FIRST_PERSON + 7
    early, dies, late = case(1, person, 50), case(2, person, 100), case(3, person, 200)
    register.bury([late, dies, early], {2})
    assert [c.subject_id for c in (early, dies, late)] == [person, person, person + ANOTHER_PERSON]
    assert register.people([early, dies, late])["subject_id"].to_list() == [person, person + ANOTHER_PERSON]
    again = case(4, person, 300)
    register.bury([again], {4})  # the other one dies as well, so a third comes
    last = case(5, person, 400)
    register.bury([last], set())
    assert [again.subject_id, last.subject_id] == [person + ANOTHER_PERSON, person + 2 * ANOTHER_PERSON]
    assert register.people([again, last])["subject_id"].to_list() == [last.subject_id]
    # Somebody whose later end is already written does not die before it.
    other = FIRST_PERSON + 2
    register.people([case(6, other, 900)])
    dying = case(7, other, 500)
    register.bury([dying], {7})
    assert dying.subject_id == other + ANOTHER_PERSON


def test_the_audit_says_what_was_true_once_the_hour_is_over(folder: Path) -> None:
    audit = read(folder, "audit")
    truth = pl.read_parquet(folder / "truth" / "hours.parquet")
    both = audit.join(truth, on=["hour_time", "site"], validate="1:1")
    assert both.height == audit.height == DAYS * 24 * 2
    assert (both["level"] == both["crisis_level"]).all()
    assert (both["audit_time"] - both["hour_time"]).unique().to_list() == [
        pl.select(pl.duration(hours=1)).item()
    ]


def test_sleepiness_is_put_down_at_the_end_of_a_duty(folder: Path) -> None:
    answers = read(folder, "sleepiness")
    truth = pl.read_parquet(folder / "truth" / "duties.parquet")
    duties = read(folder, "duties").with_columns(truth["kss"])
    both = answers.join(duties, left_on=["staff_id", "answer_time"], right_on=["staff_id", "end_time"])
    assert both.height == answers.height
    assert 0.25 < answers.height / duties.height < 0.40
    assert set(answers["rating"]) <= set(range(1, 10))
    assert np.corrcoef(both["rating"], both["kss"])[0, 1] > 0.8


def test_an_event_of_the_city_stands_with_every_hospital(folder: Path) -> None:
    calendar = read(folder, "calendar")
    everywhere = calendar.filter(pl.col("kind") != "IT outage").group_by("kind", "start_time").len()
    assert (everywhere["len"] == 2).all()
    assert calendar["site"].null_count() == 0
