"""What a city tries out in turns: staffing that varies by chance, and nothing else that does."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace.errors import ConfigError
from caretrace.hospital.operations import Interventions, OperationsConfig, simulate_operations
from caretrace.hospital.operations.city import City
from caretrace.hospital.operations.config import VARIED, Trials
from caretrace.hospital.operations.trials import arm_on, extra_staff, largest_arm

SMALL = OperationsConfig(size=0.2, start="2023-03-01")
TRYING = dataclasses.replace(SMALL, trials=dataclasses.replace(VARIED, block_days=4))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trials") / "raw"
    simulate_operations(out, TRYING, 24, 5)
    return out


def test_staffing_follows_what_is_tried(raw: Path) -> None:
    tried = pl.read_parquet(raw / "truth" / "trials.parquet")
    assert tried["first_day"].unique().to_list() == [0, 4, 8, 12, 16, 20]
    assert tried["extra_ambulances"].n_unique() > 3
    assert set(tried["extra_nurses"]) <= {0, 1, 2, 3}
    assert tried["discharge_lounge"].n_unique() == 2
    hours = pl.read_csv(raw / "hours.csv", try_parse_dates=True)
    day = (pl.col("hour_time") - hours["hour_time"].min()).dt.total_days()
    means = (
        hours.with_columns(first_day=day // 4 * 4)
        .filter(pl.col("hour_time").dt.hour().is_between(8, 12))
        .group_by("first_day", "site")
        .agg(pl.col("crews", "nurses", "ward_nurses").mean())
        .join(tried, on=["first_day", "site"])
    )
    crews, nurses = means["crews"] - means["extra_ambulances"], means["nurses"] - means["extra_nurses"]
    assert crews.std() < 1.5 < means["extra_ambulances"].std()
    for site in means["site"].unique():
        here = (means["site"] == site).to_numpy()
        assert nurses.to_numpy()[here].std() < 0.5
        assert (
            np.corrcoef(means["ward_nurses"].to_numpy()[here], means["extra_nurses"].to_numpy()[here])[0, 1]
            > 0.8
        )


def test_nothing_tried_is_the_city_as_it_is(tmp_path: Path, raw: Path) -> None:
    for name, config in (("plain", SMALL), ("none", dataclasses.replace(SMALL, trials=Trials(block_days=2)))):
        simulate_operations(tmp_path / name, config, 3, 5)
    plain = sorted(
        path.relative_to(tmp_path / "plain")
        for path in (tmp_path / "plain").rglob("*")
        if path.is_file() and path.name != "simulation.json"
    )
    assert Path("truth/trials.parquet") not in plain
    assert all(
        (tmp_path / "plain" / name).read_bytes() == (tmp_path / "none" / name).read_bytes() for name in plain
    )
    assert json.loads((raw / "simulation.json").read_text())["trials"]["most_ambulances"] == 20


def test_trials_change_neither_demand_nor_whoever_was_there_before():
    base, trying = City(SMALL, 5), City(TRYING, 5)
    for one in (base, trying):
        one.advance(24 * 6)
    began = [{c.number: (c.began, c.triage, c.drive_minutes) for c in one.done} for one in (base, trying)]
    shared = began[0].keys() & began[1].keys()
    assert len(shared) > 0.9 * len(began[0])
    assert all(began[0][n] == began[1][n] for n in shared)
    count = base.staff.base
    assert len(base.staff.posts) == count < len(trying.staff.posts)
    assert (base.staff.posts.unit == trying.staff.posts.unit[:count]).all()
    assert not trying.staff.idle[:count].any()


def test_as_many_are_called_in_as_an_arm_asks_for():
    city = City(TRYING, 5)
    sites = TRYING.sites
    for ambulances, nurses in ((0, 0), (7, 2), (20, 3)):
        arm = dataclasses.replace(largest_arm(TRYING), ambulances=ambulances, nurses=np.full(sites, nurses))
        city._set_arm(arm)
        extra = extra_staff(arm)
        called = np.flatnonzero(~city.staff.idle[city.staff.base :]) + city.staff.base
        for day in range(10):
            planned = city.staff.posts.planned(day)[called]
            unit = city.staff.posts.unit[called]
            for shift in range(3):
                there = np.bincount(unit[planned == shift], minlength=len(extra))
                assert (there == extra[:, shift]).all(), (ambulances, nurses, day, shift)


def test_a_branch_is_tried_on_as_planned():
    city = City(TRYING, 5)
    city.advance(24 * 6)
    branch = city.branch(1)
    before = city.arm.ambulances
    branch.advance(24 * 5)
    assert branch.arm.ambulances == arm_on(TRYING, 5, branch.day_number - 1).ambulances
    assert city.arm.ambulances == before
    assert (city.staff.required == city.required).all()


def test_what_is_tried_comes_on_top_of_what_is_changed_for_good():
    both = dataclasses.replace(TRYING, interventions=Interventions(30, 5, True))
    plain, more = arm_on(TRYING, 1, 9), arm_on(both, 1, 9)
    assert more.ambulances == plain.ambulances + 30
    assert (more.nurses == plain.nurses + 5).all()
    assert more.lounge.all()


@pytest.mark.parametrize(
    ("change", "named"),
    [({"block_days": 0}, "block_days"), ({"most_nurses": -1}, "most_nurses"), ({"lounge_share": 2.0}, "lounge_share")],
)  # fmt: skip
def test_mistakes_are_named(change: dict[str, int | float], named: str) -> None:
    with pytest.raises(ConfigError, match=f"trials.{named}"):
        Trials(**change)  # type: ignore[arg-type]
