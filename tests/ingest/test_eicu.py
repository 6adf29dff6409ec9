"""eICU has no dates: what the calendar promises, and that nothing known only later is there before."""

import datetime as dt

import polars as pl
import pytest

from caretrace import schema
from caretrace.errors import InputError
from caretrace.ingest import ingest

# What a stay is when a test says nothing else; every column the mapping reads.
STAY = {
    "patientunitstayid": 1, "patienthealthsystemstayid": 1, "uniquepid": "p", "gender": "Male", "age": "60",
    "ethnicity": "", "hospitalid": "", "apacheadmissiondx": "", "admissionheight": "", "admissionweight": "",
    "dischargeweight": "", "hospitaladmittime24": "10:00:00", "hospitaladmitoffset": -60, "hospitaladmitsource": "",
    "hospitaldischargeyear": 2014, "hospitaldischargeoffset": 3000, "hospitaldischargelocation": "Home",
    "hospitaldischargestatus": "Alive", "unittype": "MICU", "unitadmitsource": "", "unitvisitnumber": 1,
    "unitstaytype": "", "unitdischargeoffset": 2000, "unitdischargelocation": "Floor", "unitdischargestatus": "Alive",
}  # fmt: skip


@pytest.fixture
def ingested(tmp_path):
    """Ingest stays (what differs from `STAY`) and further tables; gives the measurements and the report."""

    def run(*stays, **tables):
        raw = tmp_path / "raw"
        raw.mkdir()
        rows = [{column: str(value) for column, value in (STAY | stay).items()} for stay in stays]
        pl.DataFrame(rows).write_csv(raw / "patient.csv")
        for name, table in tables.items():
            pl.DataFrame(table).write_csv(raw / f"{name}.csv")
        quality = ingest("eicu", raw, tmp_path / "out")
        files = (tmp_path / "out" / schema.DATA_DIR).rglob("*.parquet")
        found = pl.concat(pl.read_parquet(path) for path in files).sort("time", maintain_order=True)
        names = pl.read_parquet(tmp_path / "out" / "metadata" / "subject_names.parquet")
        return found.join(names, on="subject_id", maintain_order="left"), quality

    return run


def times(found, code):
    return found.filter(pl.col("code").str.starts_with(code))["time"].to_list()


def at(*when):
    return dt.datetime(*when)  # noqa: DTZ001


def test_unit_stays_of_one_hospital_stay_keep_their_distance(ingested):
    found, _ = ingested(
        {"patientunitstayid": 1, "unitvisitnumber": 1},
        {
            "patientunitstayid": 2,
            "unitvisitnumber": 2,
            "hospitaladmitoffset": -2560,
            "hospitaldischargeoffset": 500,
        },
    )
    assert times(found, "ICU_ADMISSION") == [
        at(2014, 1, 1, 11),
        at(2014, 1, 1, 11) + dt.timedelta(minutes=2500),
    ]
    assert times(found, "HOSPITAL_ADMISSION") == [at(2014, 1, 1, 10)]
    assert times(found, "HOSPITAL_DISCHARGE") == [at(2014, 1, 1, 11) + dt.timedelta(minutes=3000)]


# (the stay that comes first, the one that comes second)
ORDERS = [
    ({"hospitaldischargeyear": 2014}, {"hospitaldischargeyear": 2015}),
    ({"age": "60"}, {"age": "61"}),
    ({"age": "60"}, {"age": "> 89"}),
    ({}, {"hospitaldischargestatus": "Expired"}),
    ({"hospitaldischargeyear": 2015}, {"unitdischargestatus": "Expired"}),
]


def test_hospital_stays_of_one_person_are_in_the_order_that_is_known(ingested):
    stays = []
    for number, (first, second) in enumerate(ORDERS):
        own = {"uniquepid": f"p{number}"}
        for unit, stay, name in ((2 * number, second, "SECOND"), (2 * number + 1, first, "FIRST")):
            ids = {"patientunitstayid": unit, "patienthealthsystemstayid": unit, "unittype": name}
            stays.append(own | ids | stay)
    found, quality = ingested(*stays)
    for number in range(len(ORDERS)):
        own = found.filter(pl.col("subject_name") == f"p{number}")
        begin, end = times(own, "ICU_ADMISSION//SECOND")[0], times(own, "HOSPITAL_DISCHARGE")[0]
        assert times(own, "ICU_ADMISSION//FIRST")[0] < end < begin - dt.timedelta(days=13)
    assert "order_is_convention" not in quality["tables"]["patient"]["flags"]


def test_an_order_nobody_knows_is_counted(ingested):
    stays = [{"patientunitstayid": number, "patienthealthsystemstayid": number} for number in (1, 2)]
    found, quality = ingested(
        *stays, {"patientunitstayid": 3, "patienthealthsystemstayid": 3, "uniquepid": "q"}
    )
    assert quality["tables"]["patient"]["flags"]["order_is_convention"]["rows"] == 2
    own = found.filter(pl.col("subject_name") == "p")
    assert times(own, "ICU_ADMISSION")[1] > times(own, "HOSPITAL_DISCHARGE")[0]


def test_a_person_with_many_long_stays_never_overlaps(ingested):
    stays = [
        {
            "patientunitstayid": number,
            "patienthealthsystemstayid": number,
            "hospitaldischargeoffset": 1000 * (number % 7) + 90_000 * (number % 3),
        }
        for number in range(1, 30)
    ]
    found, quality = ingested(*stays)
    order = found.filter(pl.col("code").str.contains("^HOSPITAL_(ADM|DIS)"))["code"].str.slice(9, 3).to_list()
    assert order == ["ADM", "DIS"] * 29
    assert quality["tables"]["patient"]["flags"]["year_is_convention"]["rows"] > 0


# (hospital status, unit status) → what is written about the end
ENDS = {
    ("Alive", "Alive"): ["HOSPITAL_DISCHARGE//Home", "ICU_DISCHARGE//Floor"],
    ("Expired", "Alive"): ["HOSPITAL_DISCHARGE//DIED", "ICU_DISCHARGE//Floor", "MEDS_DEATH"],
    ("Expired", "Expired"): ["HOSPITAL_DISCHARGE//DIED", "ICU_DISCHARGE//DIED", "MEDS_DEATH"],
    ("Alive", "Expired"): ["ICU_DISCHARGE//DIED", "MEDS_DEATH"],
    ("", "Alive"): ["ICU_DISCHARGE//Floor"],
    ("", "Expired"): ["ICU_DISCHARGE//DIED", "MEDS_DEATH"],
    ("Alive", ""): ["HOSPITAL_DISCHARGE//Home"],
}


def test_an_unknown_end_is_not_a_survivor(ingested):
    stays = []
    for number, (hospital, unit) in enumerate(ENDS):
        ids = {"patientunitstayid": number, "patienthealthsystemstayid": number, "uniquepid": f"p{number}"}
        stays.append(ids | {"hospitaldischargestatus": hospital, "unitdischargestatus": unit})
    found, _ = ingested(*stays)
    for number, ((_, unit), codes) in enumerate(ENDS.items()):
        own = found.filter(pl.col("subject_name") == f"p{number}")
        assert sorted(own.filter(pl.col("code").str.contains("DISCHARGE|DEATH"))["code"]) == codes
        if "MEDS_DEATH" in codes:
            minutes = 2000 if unit == "Expired" else 3000
            assert times(own, "MEDS_DEATH") == [at(2014, 1, 1, 11) + dt.timedelta(minutes=minutes)]


CELLS = {
    "401.9, I10": ["ICD//9//4019", "ICD//10//I10"],
    "E980.2, 965.00, T40.60": ["ICD//9//E9802", "ICD//9//96500", "ICD//10//T4060"],
    "486, 486, 486, 486, 486, J18.9": ["ICD//9//486", "ICD//10//J189"],
    "E87.1": ["ICD//10//E871"],
    "V45.82": ["ICD//9//V4582"],
    "31.1": ["EICU//a|b"],
    "": ["EICU//a|b"],
}


def test_codes_in_one_cell_are_taken_apart(ingested):
    rows = [
        {
            "diagnosisid": 1,
            "patientunitstayid": 1,
            "diagnosisoffset": minute,
            "diagnosisstring": "a|b",
            "icd9code": cell,
        }
        for minute, cell in enumerate(CELLS)
    ]
    for number, row in enumerate(rows):
        row |= {"diagnosisid": number, "diagnosispriority": "Major"}
    again = rows[0] | {"diagnosisid": 99, "diagnosisoffset": 95}
    found, quality = ingested({}, diagnosis=[again, *rows])
    written = found.filter(pl.col("code").str.starts_with("DIAGNOSIS"))
    for minute, codes in enumerate(CELLS.values()):
        then = written.filter(pl.col("time") == at(2014, 1, 1, 11, minute))
        assert sorted(then["code"].str.slice(11)) == sorted(codes)
    assert times(written, "DIAGNOSIS//ICD//10//I10") == [at(2014, 1, 1, 11), at(2014, 1, 1, 12, 35)]
    flags = quality["tables"]["diagnosis"]["flags"]
    assert [flags[name]["rows"] for name in ("repeated", "no_icd_code", "procedure_code")] == [1, 1, 1]


def test_file_names_in_lower_case_and_the_subset_of_labs(ingested):
    lab = {
        "patientunitstayid": [1], "labresultoffset": [10], "labname": ["sodium"], "labresult": [140],
        "labresulttext": ["140"], "labmeasurenamesystem": ["mmol/L"], "labmeasurenameinterface": ["MEQ/L"],
        "labresultrevisedoffset": [""],
    }  # fmt: skip
    microlab = {
        "patientunitstayid": [1], "culturetakenoffset": [0], "culturesite": ["Skin"], "organism": ["yeast"],
        "antibiotic": [""], "sensitivitylevel": [""],
    }  # fmt: skip
    found, quality = ingested({}, lab_subset=lab, microlab=microlab)
    assert times(found, "LAB//RESULT//sodium//mmol/L") == [at(2014, 1, 1, 11, 10)]
    assert times(found, "MICROBIOLOGY//Skin") == [at(2014, 1, 6, 11)]
    assert quality["tables"]["lab"]["flags"]["no_revised_time"]["rows"] == 1


def test_a_folder_without_patients_is_refused(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "lab.csv").write_text("labid\n1\n")
    with pytest.raises(InputError, match="patient"):
        ingest("eicu", tmp_path / "raw", tmp_path / "out")


ROWS = {
    "admissiondrug": 5_223, "admissiondx": 5_273, "allergy": 1_881, "apacheapsvar": 1_521, "apachepatientresult": 2_562,
    "apachepredvar": 1_521, "diagnosis": 17_710, "hospital": 186, "infusiondrug": 29_048, "intakeoutput": 73_082,
    "lab": 22_427, "medication": 53_223, "microlab": 278, "pasthistory": 8_550, "patient": 1_734,
    "respiratorycare": 4_000, "respiratorycharting": 126_252, "treatment": 27_686, "vitalaperiodic": 196_639,
}  # fmt: skip


@pytest.mark.data
@pytest.mark.slow
def test_every_row_of_the_demo(caretrace_data, tmp_path):
    quality = ingest("eicu", caretrace_data / "eicu-demo-2.0.1", tmp_path / "out")
    tables = quality["tables"]
    assert {name: tables[name]["rows_read"] for name in ROWS} == ROWS
    for name, table in tables.items():
        assert table["rows_read"] == table["rows_loaded"] + table["rows_quarantined"], name
        assert not {"no_event", "no_time"} & set(table["flags"]), name
    assert quality["subjects"] == 1266
    assert quality["unknown_files"] == []
    counted = dict(pl.read_parquet(tmp_path / "out" / schema.CODES_FILE).select("code", "count").rows())
    assert counted["HOSPITAL_DISCHARGE//DIED"] == len(died_in_hospital(caretrace_data))
    assert sum(n for code, n in counted.items() if code.startswith("ICU_ADMISSION//")) == 1734
    assert counted["ICU_DISCHARGE//DIED"] == 86
    apache = {code.split("//")[-1] for code in counted if code.startswith("APACHE//")}
    assert "predictedhospitalmortality" in apache
    assert not [name for name in apache if name.startswith(("actual", "unabridged", "died", "discharge"))]
    assert tables["diagnosis"]["flags"]["no_icd_code"]["rows"] == 2728
    assert tables["patient"]["flags"]["died_before"]["rows"] == 1
    files = (tmp_path / "out" / schema.DATA_DIR).rglob("*.parquet")
    check_order(pl.concat(pl.read_parquet(path) for path in files))


def died_in_hospital(data):
    patients = pl.read_csv(data / "eicu-demo-2.0.1" / "patient.csv.gz", infer_schema=False)
    died = patients.filter(pl.col("hospitaldischargestatus") == "Expired")
    return set(died["patienthealthsystemstayid"])


def check_order(found):
    """Hospital stays follow each other, and nobody is admitted after death but where the data say so."""
    stays = found.filter(pl.col("code").str.contains("^(HOSPITAL_ADMISSION//|ICU_ADMISSION//|MEDS_DEATH)"))
    death = pl.col("time").filter(pl.col("code") == "MEDS_DEATH").min()
    after = stays.filter(pl.col("time") > death.over("subject_id"))
    # One person died in two hospital stays, as the flag `died_before` says.
    assert after["subject_id"].n_unique() == 1
    assert after["code"].str.slice(0, 10).to_list() == ["HOSPITAL_A", "ICU_ADMISS", "MEDS_DEATH"]
    begins = found.filter(pl.col("code").str.starts_with("HOSPITAL_ADMISSION//")).sort("subject_id", "time")
    gaps = begins.select((pl.col("time") - pl.col("time").shift()).over("subject_id").alias("gap"))["gap"]
    assert gaps.drop_nulls().min() > dt.timedelta(days=14)
    assert begins.height == 1489
