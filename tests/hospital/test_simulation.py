"""The same seed writes the same bytes, more subjects leave earlier ones alone, and errors teach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from caretrace.errors import ConfigError, OutputExistsError
from caretrace.hospital import HospitalConfig, simulate

SMALL = HospitalConfig(subjects=40, seed=3, oracle_replicates=5)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    assert simulate(tmp_path / "a", SMALL) == simulate(tmp_path / "b", SMALL)
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert len(first) == 14
    assert first == second


def test_another_seed_writes_other_people(tmp_path: Path) -> None:
    simulate(tmp_path / "a", SMALL)
    simulate(tmp_path / "b", HospitalConfig(subjects=40, seed=4, oracle_replicates=5))
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    for name in first:
        assert (first[name] == second[name]) == name.endswith("README.md"), name


def test_more_subjects_leave_the_earlier_ones_as_they_were(tmp_path: Path, hospital: Any) -> None:
    fewer = HospitalConfig(subjects=300, seed=11, oracle_replicates=60)
    simulate(tmp_path / "a", fewer)
    for path in sorted((tmp_path / "a").glob("*.csv")):
        less = path.read_bytes()
        more = (hospital.folder / path.name).read_bytes()
        assert len(less) < len(more)
        assert more.startswith(less), path.name


def test_the_oracle_changes_nothing_but_itself(tmp_path: Path) -> None:
    simulate(tmp_path / "a", SMALL)
    simulate(tmp_path / "b", HospitalConfig(subjects=40, seed=3, oracle_replicates=7))
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"simulation.json", "truth/stays.parquet"}


def test_a_hospital_without_an_icu_has_no_stays(tmp_path: Path) -> None:
    rows = simulate(tmp_path / "a", HospitalConfig(subjects=30, icu_probability=0.0))
    assert rows["icu_stays.csv"] == rows["vitals.csv"] == rows["truth/stays.parquet"] == 0
    assert rows["labs.csv"] > 0
    assert (tmp_path / "a" / "vitals.csv").read_text() == "subject_id,stay_id,time,name,value,unit\n"


def test_a_single_subject_is_a_hospital(tmp_path: Path) -> None:
    assert simulate(tmp_path / "a", HospitalConfig(subjects=1, oracle_replicates=1))["patients.csv"] == 1


def test_progress_counts_every_subject(tmp_path: Path) -> None:
    done: list[float] = []
    simulate(tmp_path / "a", HospitalConfig(subjects=260, oracle_replicates=1), done.append)
    assert done == [250, 10]


def test_what_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("keep")
    with pytest.raises(OutputExistsError, match="already exists"):
        simulate(tmp_path / "a", SMALL)
    assert contents(tmp_path) == {"a/mine.txt": b"keep"}


def test_a_run_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "a", SMALL, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("subjects", 0), ("seed", -1), ("icu_probability", 1.5), ("noise", -0.1), ("oracle_replicates", 0)],
)
def test_impossible_settings_name_themselves(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{key}: got {value}; give"):
        HospitalConfig(**{key: value})  # type: ignore[arg-type]


def test_sicker_patients_look_sicker_and_are_looked_at_more(hospital: Any) -> None:
    paths = hospital.truth("severity")
    vitals = hospital.with_stays("vitals").with_columns(
        hour=((pl.col("time") - pl.col("in_time")).dt.total_seconds() // 3600).cast(pl.Int16)
    )
    hourly = vitals.pivot(on="name", index=["stay_id", "hour"], values="value", aggregate_function="mean")
    both = hourly.join(paths, on=["stay_id", "hour"], how="inner", validate="1:1")
    for name, sign in {"HR": 1, "RESP": 1, "SpO2": -1, "SBP": -1, "GCS": -1}.items():
        seen = both.drop_nulls(name)
        correlation = seen.select(pl.corr(name, "severity", method="spearman")).item()
        assert sign * correlation > 0.15, (name, correlation)
    looks = vitals.filter(name="HR").group_by("stay_id", "hour").len("looks")
    dense = paths.join(looks, on=["stay_id", "hour"], how="left").with_columns(pl.col("looks").fill_null(0))
    mild, severe = (
        dense.filter(cut)["looks"].mean() for cut in (pl.col("severity") < 0.5, pl.col("severity") > 2)
    )
    assert severe > 1.3 * mild


def test_gases_are_asked_for_when_somebody_looks_ill(hospital: Any) -> None:
    labs = (
        hospital.table("labs")
        .group_by("admission_id")
        .agg(gases=(pl.col("name") == "Lactate").sum(), routine=(pl.col("name") == "Sodium").sum())
    )
    worst = hospital.truth("stays").group_by("admission_id").agg(pl.col("severity_mean").max())
    both = labs.join(worst, on="admission_id").with_columns(share=pl.col("gases") / pl.col("routine"))
    assert both.select(pl.corr("share", "severity_mean", method="spearman")).item() > 0.3


def test_a_stay_of_an_hour_has_no_landmark(hospital: Any) -> None:
    truth = hospital.truth("stays")
    for hour in (24, 48):
        there = truth[f"oracle_icu_death_{hour}h"].is_not_null()
        # Minutes are cut off, so a stay of 24 h and some seconds may count as 24 h.
        assert (there == (truth["hours"] >= hour)).mean() > 0.995
        assert (truth[f"severity_{hour}h"].is_not_null() == there).all()
        reached = truth.filter(there)
        for place in ("icu", "hospital"):
            assert reached[f"oracle_{place}_death_{hour}h"].is_between(0, 1).all()


def test_the_oracle_answers_the_question_of_the_label(hospital: Any) -> None:
    """Deaths of the stays a task keeps are as many as the oracle expects; counting the gap's would be more."""
    stays = hospital.with_admissions("icu_stays").join(
        hospital.truth("stays").drop("admission_id", "subject_id"), on="stay_id", validate="1:1"
    )
    later = pl.col("in_time").shift(-1).over("admission_id", order_by="in_time")
    stays = stays.with_columns(again=later, until=pl.col("in_time") + pl.duration(hours=48))
    kept = {
        "icu": stays.filter(pl.col("out_time") > pl.col("until")),
        "hospital": stays.filter(
            pl.col("discharge_time") > pl.col("until"), ~(pl.col("again") <= pl.col("until")).fill_null(False)
        ),
    }
    for place, label in (("icu", "died_in_icu"), ("hospital", "died_in_hospital")):
        cohort = kept[place].drop_nulls(f"oracle_{place}_death_24h")
        chance, died = cohort[f"oracle_{place}_death_24h"], cohort[label].sum()
        spread = float((chance * (1 - chance)).sum()) ** 0.5
        assert died > 20
        assert abs(died - chance.sum()) < 3 * spread, (place, died, chance.sum())
