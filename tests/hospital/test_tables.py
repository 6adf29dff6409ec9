"""The raw tables are shaped like a hospital's, and nothing in them is impossible."""

from __future__ import annotations

import re
from typing import Any

import polars as pl
import pytest

from caretrace.hospital.catalogue import LABS, VITALS

COLUMNS = {
    "patients": "subject_id sex birth_date race marital_status",
    "admissions": "admission_id subject_id admit_time discharge_time admission_type admission_location "
    "discharge_location insurance death_time",
    "icu_stays": "stay_id admission_id subject_id care_unit in_time out_time",
    "vitals": "subject_id stay_id time name value unit",
    "labs": "subject_id admission_id collect_time result_time name value unit ref_low ref_high flag",
    "prescriptions": "subject_id admission_id start_time stop_time drug dose dose_unit route",
    "procedures": "subject_id stay_id start_time end_time procedure status",
    "cultures": "subject_id admission_id collect_time result_time specimen test organism antibiotic "
    "sensitivity comment",
    "infusions": "subject_id stay_id start_time end_time fluid amount amount_unit rate rate_unit status",
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_and_row_counts(hospital: Any, name: str) -> None:
    table = hospital.table(name)
    assert table.columns == COLUMNS[name].split()
    assert table.height == hospital.rows[f"{name}.csv"] > 0


@pytest.mark.parametrize("name", COLUMNS)
def test_times_are_written_as_utc_without_fraction(hospital: Any, name: str) -> None:
    raw = pl.read_csv(hospital.folder / f"{name}.csv", infer_schema=False)
    for column in raw.columns:
        if column == "time" or column.endswith("_time"):
            values = raw[column].drop_nulls()
            assert values.str.contains(r"^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d$").all(), column


def test_ids_are_unique_and_refer_to_each_other(hospital: Any) -> None:
    patients, admissions, stays = (hospital.table(n) for n in ("patients", "admissions", "icu_stays"))
    assert patients["subject_id"].is_unique().all()
    assert patients.height == hospital.config.subjects
    assert admissions["admission_id"].is_unique().all()
    assert stays["stay_id"].is_unique().all()
    assert admissions.join(patients, on="subject_id", how="anti").is_empty()
    assert stays.join(admissions, on=["admission_id", "subject_id"], how="anti").is_empty()
    for name in COLUMNS:
        table = hospital.table(name)
        for key, home in (("stay_id", stays), ("admission_id", admissions)):
            if key in table.columns:
                assert table.join(home, on=[key, "subject_id"], how="anti").is_empty(), (name, key)


def test_people_are_adults_admitted_2020_to_2024(hospital: Any) -> None:
    people = hospital.table("admissions").join(hospital.table("patients"), on="subject_id")
    age = (people["admit_time"].cast(pl.Date) - people["birth_date"]).dt.total_days() / 365.25
    assert age.min() > 17.9
    assert age.max() < 103
    assert set(people["sex"].unique()) == {"F", "M"}
    assert people["admit_time"].dt.year().is_between(2020, 2024).all()


def test_admissions_of_a_person_follow_each_other(hospital: Any) -> None:
    table = hospital.table("admissions").sort("subject_id", "admit_time")
    assert (table["discharge_time"] > table["admit_time"]).all()
    later = table.with_columns(before=pl.col("discharge_time").shift().over("subject_id")).drop_nulls(
        "before"
    )
    assert later.height > 20
    assert (later["admit_time"] > later["before"]).all()
    dead = table.with_columns(died=pl.col("death_time").is_not_null().shift().over("subject_id"))
    assert not dead["died"].fill_null(False).any(), "somebody came back from the dead"


def test_stays_lie_inside_their_admission_and_do_not_overlap(hospital: Any) -> None:
    stays = hospital.with_admissions("icu_stays").sort("admission_id", "in_time")
    assert (stays["in_time"] >= stays["admit_time"]).all()
    assert (stays["out_time"] <= stays["discharge_time"]).all()
    assert (stays["out_time"] > stays["in_time"]).all()
    again = stays.with_columns(before=pl.col("out_time").shift().over("admission_id")).drop_nulls("before")
    assert again.height >= 5, "nobody came back to the ICU"
    assert (again["in_time"] > again["before"]).all()


def test_death_closes_the_record(hospital: Any) -> None:
    admissions = hospital.table("admissions")
    died = admissions["death_time"].is_not_null()
    assert (died == (admissions["discharge_location"] == "DIED")).all()
    assert (admissions.filter(died)["death_time"] == admissions.filter(died)["discharge_time"]).all()
    stays = hospital.with_admissions("icu_stays").join(
        hospital.truth("stays").select("stay_id", "died_in_icu", "died_in_hospital"), on="stay_id"
    )
    icu = stays.filter("died_in_icu")
    assert (icu["out_time"] == icu["death_time"]).all()
    assert (stays["died_in_hospital"] == stays["death_time"].is_not_null()).all()
    ward = stays.filter(pl.col("died_in_hospital") & ~pl.col("died_in_icu"))
    assert ward.height >= 3, "nobody died on the ward after the ICU: the two labels never differ"
    assert (ward["death_time"] > ward["out_time"]).all()


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("vitals", ["time"]),
        ("procedures", ["start_time", "end_time"]),
        ("infusions", ["start_time", "end_time"]),
    ],
)
def test_what_belongs_to_a_stay_happens_in_it(hospital: Any, name: str, columns: list[str]) -> None:
    table = hospital.with_stays(name)
    for column in columns:
        assert (table[column] >= table["in_time"]).all(), column
        assert (table[column] <= table["out_time"]).all(), column
    if len(columns) == 2:
        assert (table["end_time"] > table["start_time"]).all()


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("labs", ["collect_time"]),
        ("cultures", ["collect_time"]),
        ("prescriptions", ["start_time", "stop_time"]),
    ],
)
def test_what_belongs_to_an_admission_happens_in_it(hospital: Any, name: str, columns: list[str]) -> None:
    table = hospital.with_admissions(name)
    for column in columns:
        assert (table[column] >= table["admit_time"]).all(), column
        assert (table[column] <= table["discharge_time"]).all(), column


def test_results_take_their_time(hospital: Any) -> None:
    minutes = {
        name: ((t := hospital.table(name))["result_time"] - t["collect_time"]).dt.total_minutes()
        for name in ("labs", "cultures")
    }
    assert minutes["labs"].min() >= 20
    assert minutes["labs"].max() <= 90
    assert minutes["cultures"].min() >= 24 * 60
    assert minutes["cultures"].max() <= 72 * 60


@pytest.mark.parametrize(("name", "kinds"), [("vitals", VITALS), ("labs", LABS)])
def test_values_stay_within_what_is_possible(hospital: Any, name: str, kinds: Any) -> None:
    table = hospital.table(name)
    assert table["value"].is_finite().all()
    assert set(table["name"].unique()) == {k.name for k in kinds}
    for kind in kinds:
        rows = table.filter(name=kind.name)
        assert rows["value"].is_between(kind.low, kind.high).all(), kind.name
        assert rows["unit"].unique().to_list() == [kind.unit]
        # A value that only ever sits at its limit is not a measurement.
        assert rows["value"].n_unique() >= 10, kind.name


def test_pressures_are_in_order(hospital: Any) -> None:
    wide = hospital.table("vitals").pivot(on="name", index=["stay_id", "time"], values="value")
    wide = wide.drop_nulls(["SBP", "DBP", "MAP"])
    assert (wide["DBP"] < wide["SBP"]).mean() > 0.999
    assert wide["MAP"].is_between(wide["DBP"] - 12, wide["SBP"] + 12).mean() > 0.99


def test_typical_values_are_those_of_an_icu(hospital: Any) -> None:
    medians = dict(hospital.table("vitals").group_by("name").agg(pl.col("value").median()).iter_rows())
    bands = {"HR": (75, 100), "SpO2": (93, 98), "RESP": (14, 24), "SBP": (100, 130), "DBP": (50, 72)}
    bands |= {"MAP": (65, 92), "TEMP": (36.5, 37.6), "GCS": (11, 15)}
    for name, (low, high) in bands.items():
        assert low <= medians[name] <= high, (name, medians[name])


def test_flags_follow_the_reference_range(hospital: Any) -> None:
    table = hospital.table("labs")
    assert (table.filter(flag="high")["value"] > table.filter(flag="high")["ref_high"]).all()
    assert (table.filter(flag="low")["value"] < table.filter(flag="low")["ref_low"]).all()
    plain = table.filter(pl.col("flag").is_null())
    assert plain["value"].is_between(plain["ref_low"], plain["ref_high"]).all()


def test_cultures_that_grow_name_what_was_tested(hospital: Any) -> None:
    table = hospital.table("cultures")
    grown = table.filter(pl.col("organism").is_not_null())
    assert 0.05 < grown.height / table.height < 0.8
    assert grown["antibiotic"].is_not_null().all()
    assert set(grown["sensitivity"].unique()) == {"S", "I", "R"}
    none = table.filter(pl.col("organism").is_null())
    assert none["antibiotic"].is_null().all()
    assert none["sensitivity"].is_null().all()
    assert none["comment"].str.starts_with("No growth").all()


def test_amounts_of_infusions_are_rate_times_time(hospital: Any) -> None:
    table = hospital.table("infusions").filter(rate_unit="mL/h")
    hours = (table["end_time"] - table["start_time"]).dt.total_seconds() / 3600
    assert ((table["rate"] * hours - table["amount"]).abs() <= 0.06).all()


def test_the_folder_says_simulated(hospital: Any) -> None:
    assert "simulated" in (hospital.folder / "README.md").read_text()
    assert "never reads" in re.sub(r"\s+", " ", (hospital.folder / "truth" / "README.md").read_text())
