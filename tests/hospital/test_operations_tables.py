"""The folder a city writes: whole, repeatable, truth apart, and saying what the simulation did."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace.config import from_dict
from caretrace.errors import ConfigError, OutputExistsError
from caretrace.files import read_json
from caretrace.hospital.operations import OperationsConfig, simulate_operations

SMALL = OperationsConfig(size=0.2, start="2023-03-01")
DAYS = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("city") / "raw"
    rows = simulate_operations(out, SMALL, DAYS, 7)
    assert rows["visits.csv"] > 1500
    return out


def read(folder: Path, name: str) -> pl.DataFrame:
    if name.startswith("truth/"):
        return pl.read_parquet(folder / f"{name}.parquet")
    return pl.read_csv(folder / f"{name}.csv", try_parse_dates=True, infer_schema_length=None)


def test_same_seed_same_bytes_and_another_seed_other_people(folder, tmp_path):
    simulate_operations(tmp_path / "again", SMALL, DAYS, 7)
    simulate_operations(tmp_path / "other", SMALL, DAYS, 8)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert len(names) > 18
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    assert (folder / "visits.csv").read_bytes() != (tmp_path / "other" / "visits.csv").read_bytes()


def test_a_longer_period_repeats_the_whole_weeks(folder, tmp_path):
    simulate_operations(tmp_path / "longer", SMALL, DAYS + 3, 7)
    short, long = (
        read(f, "visits").select("visit_id", "arrival_time", "departure_time", "heart_rate")
        for f in (folder, tmp_path / "longer")
    )
    cut = pl.datetime(2023, 3, 7)
    assert short.filter(pl.col("departure_time") < cut).equals(long.filter(pl.col("departure_time") < cut))


def test_replications_are_independent():
    from caretrace.hospital.operations.city import City

    counts = []
    for seed in range(8):
        city = City(dataclasses.replace(SMALL, warm_up_days=0), seed)
        city.advance(24 * 6)
        arrived = [c.began for c in city.done if c.site >= 0]
        counts.append(np.bincount((np.array(arrived) // 360).astype(int), minlength=24)[:20])
    counts = np.array(counts, float)
    residual = counts - counts.mean(0)  # what day and hour explain is shared, the rest is not
    between = np.corrcoef(residual)[np.triu_indices(8, 1)]
    assert abs(between.mean() + 1 / 7) < 0.15  # centring alone gives -1/7


def test_keys_fit_together(folder):
    visits, runs = read(folder, "visits"), read(folder, "runs")
    assert visits["visit_id"].is_unique().all()
    assert runs["run_id"].is_unique().all()
    assert set(visits["run_id"].drop_nulls()) <= set(
        runs.filter(pl.col("outcome") == "transported")["run_id"]
    )
    assert set(read(folder, "handoffs")["run_id"]) == set(visits["run_id"].drop_nulls())
    assert set(read(folder, "truth/visits")["visit_id"]) == set(visits["visit_id"])
    assert set(read(folder, "incidents")["visit_id"]) <= set(
        read(folder, "truth/visits").filter(pl.col("adverse"))["visit_id"]
    )
    assert set(visits["site"]) == set(read(folder, "sites")["site"])
    assert set(read(folder, "duties")["staff_id"]) <= set(read(folder, "truth/staff")["staff_id"])


def test_nothing_lies_outside_the_period(folder):
    end = pl.datetime(2023, 3, 1) + pl.duration(days=DAYS)
    for path in folder.glob("*.csv"):
        table = read(folder, path.stem)
        for name in table.columns:
            if name.endswith("_time") and table[name].dtype == pl.Datetime("us"):
                late = table.filter(pl.col(name) > end)
                assert late.is_empty(), (path.name, name)
    first = read(folder, "visits")["arrival_time"].min()
    assert first.isoformat()[:10] == "2023-03-01"


def test_status_is_known_at_discharge_only(folder):
    visits = read(folder, "visits")
    assert visits.filter(pl.col("discharge_time").is_null())["status"].null_count() == (
        visits["discharge_time"].null_count()
    )
    over = visits.join(read(folder, "truth/visits").select("visit_id", "died"), on="visit_id").drop_nulls(
        "status"
    )
    assert ((over["status"] == "died") == over["died"]).all()


def test_hourly_states_are_complete_and_add_up(folder):
    hours, truth, visits = read(folder, "hours"), read(folder, "truth/hours"), read(folder, "visits")
    assert hours.height == truth.height == 24 * DAYS * SMALL.sites
    assert hours.select("hour_time", "site").is_unique().all()
    at = hours.filter(pl.col("hour_time") == pl.datetime(2023, 3, 3, 18))
    for row in at.iter_rows(named=True):
        here = visits.filter(
            (pl.col("site") == row["site"])
            & (pl.col("arrival_time") < row["hour_time"])
            & (pl.col("departure_time") >= row["hour_time"])
        )
        assert here.height == row["patients"]
    assert set(truth["crisis_level"]) <= {0, 1, 2, 3, 4}
    assert truth["crisis_level"].n_unique() >= 2


def test_truth_is_nowhere_in_the_raw_tables(folder):
    hidden = {"severity", "burnout", "kss", "crisis_level", "adverse", "died", "overdue", "leave_probability"}
    for path in folder.glob("*.csv"):
        assert not hidden & set(read(folder, path.stem).columns), path.name


def test_tables_have_gaps_as_real_ones_do(folder):
    visits = read(folder, "visits")
    for name in ("heart_rate", "complaint", "temperature"):
        assert 0.02 < visits[name].null_count() / visits.height < 0.4


def test_severity_shows_in_vital_signs(folder):
    both = read(folder, "visits").join(read(folder, "truth/visits"), on="visit_id")
    assert both.select(pl.corr("heart_rate", "severity")).item() > 0.25
    assert both.select(pl.corr("spo2", "severity")).item() < -0.25


def test_settings_come_back(folder):
    stored = read_json(folder / "simulation.json")
    assert (stored.pop("days"), stored.pop("seed")) == (DAYS, 7)
    assert from_dict(OperationsConfig, stored) == SMALL
    table = read(folder, "truth/parameters")
    assert {"name", "value", "unit", "source", "assumed"} == set(table.columns)


def test_refuses_a_taken_folder_and_senseless_periods(folder, tmp_path):
    with pytest.raises(OutputExistsError):
        simulate_operations(folder, SMALL, 1, 0)
    with pytest.raises(ConfigError, match="days"):
        simulate_operations(tmp_path / "a", SMALL, 0, 0)
    with pytest.raises(ConfigError, match="seed"):
        simulate_operations(tmp_path / "a", SMALL, 1, -1)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("size", [0.1, 0.2])
def test_the_smallest_cities_run(tmp_path, size):
    rows = simulate_operations(tmp_path / "city", OperationsConfig(size=size), 2, 0)
    assert rows["hours.csv"] == 48 * max(1, round(10 * size))
