"""Faults between bedside and table: as often as asked for, listed in the truth, and nothing else changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from caretrace.errors import ConfigError
from caretrace.hospital import Faults, HospitalConfig, simulate

RATE = 0.03
RATES = Faults(artefact=RATE, wrong_unit=RATE, correction=RATE, misspelling=RATE)
BASE: dict[str, Any] = {"subjects": 120, "seed": 5, "oracle_replicates": 1}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("faults")
    simulate(folder / "clean", HospitalConfig(**BASE))
    simulate(folder / "spoiled", HospitalConfig(**BASE, faults=RATES))
    return folder / "clean", folder / "spoiled"


def read(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(folder / f"{name}.csv", try_parse_dates=True, infer_schema_length=None)


def faults(folder: Path, kind: str, table: str) -> pl.DataFrame:
    return pl.read_parquet(folder / "truth" / "faults.parquet").filter(fault=kind, table=table)


def test_only_three_tables_change(pair: tuple[Path, Path]) -> None:
    clean, spoiled = pair
    same = {p.name: p.read_bytes() == (spoiled / p.name).read_bytes() for p in clean.glob("*.csv")}
    assert {name for name, equal in same.items() if not equal} == {
        "vitals.csv",
        "labs.csv",
        "prescriptions.csv",
    }


def test_every_spoiled_vital_sign_is_listed_with_its_right_value(pair: tuple[Path, Path]) -> None:
    clean, spoiled = (read(folder, "vitals") for folder in pair)
    changed = clean.with_columns(wrong=spoiled["value"]).filter(pl.col("value") != pl.col("wrong"))
    units = changed.filter(name="TEMP")
    assert ((units["value"] * 1.8 + 32 - units["wrong"]).abs() < 0.051).all()
    artefacts = changed.filter(pl.col("name") != "TEMP")
    assert set(artefacts.filter(name="HR")["wrong"]) == {0.0, 220.0}
    for rows, kind, share in (
        (units, "wrong_unit", clean.filter(name="TEMP").height),
        (artefacts, "artefact", clean.filter(~pl.col("name").is_in(["TEMP", "GCS"])).height),
    ):
        # A saturation of 100 % flushed to 100 % is listed and looks the same.
        listed = faults(pair[1], kind, "vitals").with_columns(pl.col("right").cast(pl.Float64))
        found = rows.join(
            listed,
            left_on=["stay_id", "time", "name", "value"],
            right_on=["key", "time", "name", "right"],
            how="semi",
        )
        assert found.height == rows.height > 0
        assert abs(listed.height / share - RATE) < 4 * (RATE / share) ** 0.5


def test_a_wrong_lab_result_is_put_right_later(pair: tuple[Path, Path]) -> None:
    clean, spoiled = (read(folder, "labs") for folder in pair)
    listed = faults(pair[1], "correction", "labs")
    assert spoiled.height == clean.height + listed.height
    sample = ["admission_id", "collect_time", "name"]
    twice = spoiled.filter(pl.struct(sample).is_duplicated()).sort(*sample, "result_time")
    before = clean.filter(pl.struct(sample).is_duplicated())  # drawn twice in the same minute
    twice = twice.join(before, on=sample, how="anti")
    assert 0 <= 2 * listed.height - twice.height <= 2 * before.height
    pairs = twice.group_by(sample).agg(
        pl.len(),
        first=pl.col("value").first(),
        last=pl.col("value").last(),
        hours=(pl.col("result_time").last() - pl.col("result_time").first()).dt.total_minutes() / 60,
    )
    assert (pairs["len"] == 2).all()
    assert pairs["hours"].is_between(2, 12).all()
    ratio = pairs["first"] / pairs["last"]
    tenfold = (ratio.is_between(9.5, 10.5) | ratio.is_between(0.05, 0.15)).mean()
    assert tenfold > 0.85, tenfold  # small numbers are rounded, and some are in a wrong unit as well


def test_misspelt_drugs_keep_their_letters(pair: tuple[Path, Path]) -> None:
    clean, spoiled = (read(folder, "prescriptions") for folder in pair)
    changed = clean.with_columns(wrong=spoiled["drug"]).filter(pl.col("drug") != pl.col("wrong"))
    assert changed.height > 20
    for right, wrong in changed.select("drug", "wrong").iter_rows():
        assert sorted(right) == sorted(wrong)
        assert right[0] == wrong[0]
    listed = faults(pair[1], "misspelling", "prescriptions")
    assert set(changed["drug"]) <= set(listed["right"])
    assert listed.height >= changed.height


def test_planted_events_are_never_spoiled(tmp_path: Path) -> None:
    simulate(
        tmp_path / "raw",
        HospitalConfig(**BASE, rules=("single", "ordered"), faults=Faults(1.0, 1.0, 1.0, 1.0)),
    )
    drugs, labs = read(tmp_path / "raw", "prescriptions"), read(tmp_path / "raw", "labs")
    listed = pl.read_parquet(tmp_path / "raw" / "truth" / "rule_events.parquet")
    assert drugs.filter(drug="Amiodarone 200 mg tablet").height == listed.filter(rule="single").height > 0
    troponin = listed.filter(table="labs")
    assert labs.filter(name="Troponin T, high sensitivity").height == troponin.height > 0


def test_a_rate_is_a_share() -> None:
    with pytest.raises(ConfigError, match=r"faults.artefact: got 1.5; give"):
        Faults(artefact=1.5)
