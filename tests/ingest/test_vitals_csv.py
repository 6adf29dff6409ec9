"""Tables of vital signs as people have them: columns by flags, by a file, by their names; shapes that are no series."""

import gzip
import random

import polars as pl
import pytest

from caretrace import schema
from caretrace.errors import ConfigError, InputError
from caretrace.ingest import ingest
from caretrace.ingest.vital_columns import Wishes, concept_of, resolve, time_unit_of

WARD = (
    "id,time,HR,SpO2\na,2024-01-01 08:00:00,80,97\na,2024-01-01 08:01:00,81,96\na,2024-01-01 08:02:00,82,95\n"
)


@pytest.fixture
def run(tmp_path):
    """Ingests files (name → text or frame), or one text, and gives the report and the measurements."""

    def go(content, **options):
        raw = tmp_path / "raw"
        if isinstance(content, str):
            raw = tmp_path / "raw.csv"
            raw.write_text(content, encoding="utf-8")
        else:
            for name, text in content.items():
                (raw / name).parent.mkdir(parents=True, exist_ok=True)
                if isinstance(text, pl.DataFrame):
                    text.write_parquet(raw / name)
                else:
                    (raw / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        out = tmp_path / "out"
        quality = ingest("vitals-csv", raw, out, options=options)
        rows = pl.concat([pl.read_parquet(path) for path in sorted((out / "data").rglob("*.parquet"))])
        names = pl.read_parquet(out / "metadata" / "subject_names.parquet")
        quality["out"] = out
        return quality, rows.join(names, on="subject_id")

    return go


def values(rows, code):
    found = rows.filter(pl.col("code").str.starts_with(code)).sort("subject_name", "time")
    return found["numeric_value"].to_list()


def flags(quality):
    return {
        name: flag
        for part in ("tables", "views")
        for table in quality[part].values()
        for name, flag in table["flags"].items()
    }


# Shapes


def kaggle(rows):
    """The shape of the Kaggle table: each row another patient, the time stamps one minute apart and backwards."""
    draw = random.Random(5)
    lines = ["Patient ID,Heart Rate,Respiratory Rate,Timestamp,Body Temperature,Oxygen Saturation,Age,Gender,"
             "Weight (kg),Height (m),Derived_BMI,Risk Category"]  # fmt: skip
    for number in range(rows):
        left = rows - number
        lines.append(
            f"{number + 1},{draw.randint(60, 99)},{draw.randint(12, 19)},"
            f"2024-07-19 {left // 60:02d}:{left % 60:02d}:45.729,"
            f"{draw.uniform(36, 37.5)},{draw.uniform(95, 100)},{draw.randint(18, 89)},Male,"
            f"{draw.uniform(50, 100)},{draw.uniform(1.5, 2)},{draw.uniform(15, 40)},High Risk"
        )
    return "\n".join(lines) + "\n"


def test_one_row_per_subject_is_said_to_be_no_series(run):
    quality, rows = run(kaggle(300))
    flag = quality["views"]["people"]["flags"]["one_row_per_subject"]
    assert flag["rows"] == 300 == quality["subjects"]
    assert flag["meaning"] == (
        "one row per subject: this is a cross-section, not a time series; windows over it mean nothing"
    )
    assert flags(quality)["time_runs_backwards"]["by"] == {"raw.csv": 1}
    assert flags(quality)["rows_in_file"]["by"] == {"raw.csv: 300 rows": 1}
    # 12 columns but subject and time; all of them are accounted for.
    assert quality["rows_read"] == 300 * 10
    assert quality["rows_quarantined"] == 0
    assert flags(quality)["column_not_mapped"]["rows"] == 300
    assert "column_kept_as_other" in flags(quality)
    assert max(values(rows, "VITAL//height//cm")) <= 200


def test_at_most_two_rows_per_subject_is_said_to_be_no_series(run):
    lines = [f"{number},2024-01-01 00:00:{number % 60:02d},{60 + number % 40}" for number in range(199)]
    lines.append("7,2024-01-02 00:00:00,80")
    quality, _ = run("Patient_ID,Timestamp,Heart_Rate\n" + "\n".join(lines) + "\n")
    assert quality["views"]["people"]["flags"]["at_most_two_rows_per_subject"]["rows"] == 199
    assert "one_row_per_subject" not in flags(quality)


def test_a_series_is_not_flagged(run):
    quality, rows = run(WARD)
    assert set(flags(quality)) == {"column_guessed", "rows_in_file"}
    assert values(rows, "VITAL//heart_rate//bpm") == [80, 81, 82]
    assert values(rows, "VITAL//oxygen_saturation//%") == [97, 96, 95]


def test_a_long_table_is_no_series_when_every_subject_has_one_time(run):
    text = "subject,time,name,value\n" + "".join(
        f"{who},2024-01-01 08:00:00,{name},{value}\n"
        for who in "ab"
        for name, value in [("HR", 80), ("RR", 14), ("SpO2", 97)]
    )
    assert "one_row_per_subject" in flags(run(text)[0])


# Columns


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        ("HR", ("heart_rate", None)), ("Heart Rate", ("heart_rate", None)), ("heart_rate_bpm", ("heart_rate", "bpm")),
        ("HeartRate", ("heart_rate", None)), ("Heart Rate (resting)", ("heart_rate", None)),
        ("SpO2", ("oxygen_saturation", None)), ("Oxygen Saturation (%)", ("oxygen_saturation", "%")),
        ("RR", ("respiratory_rate", None)), ("Respiratory Rate [breaths/min]", ("respiratory_rate", "breaths/min")),
        ("Temp", ("temperature", None)), ("Body Temperature (°F)", ("temperature", "°F")),
        ("temp_c", ("temperature", "c")),
        ("SBP", ("systolic_pressure", None)), ("Diastolic Blood Pressure", ("diastolic_pressure", None)),
        ("MAP", ("mean_pressure", None)), ("Weight (kg)", ("weight", "kg")), ("Derived_MAP", (None, None)),
        ("Temporal", (None, None)), ("Risk Category", (None, None)), ("", (None, None)),
    ],
)  # fmt: skip
def test_what_common_names_mean(header, meant):
    assert concept_of(header) == meant


@pytest.mark.parametrize(
    ("header", "unit"),
    [("time (s)", "s"), ("Hours", "h"), ("elapsed_min", "min"), ("time", None), ("Timestamp", None)],
)
def test_units_of_time_in_names(header, unit):
    assert time_unit_of(header) == unit


def test_columns_by_flags(run):
    quality, rows = run(
        "who,when,p,q\nx,2024-01-01 08:00:00,70,98.6\n",
        subject="who", time="when", heart_rate="p", temperature="q", units="temperature=F",
    )  # fmt: skip
    assert values(rows, "VITAL//heart_rate//bpm") == [70]
    assert values(rows, "VITAL//temperature//°C") == [37]
    assert "column_guessed" not in flags(quality)


def test_columns_by_a_file(run, tmp_path):
    (tmp_path / "columns.yaml").write_text(
        "who: subject\nwhen: time\np: heart_rate\nq: {as: temperature, unit: F}\nnote: skip\ndevice: other\n"
    )
    text = "who,when,p,q,note,device\nx,2024-01-01 08:00:00,70,98.6,hello,A1\n"
    quality, rows = run(text, columns=str(tmp_path / "columns.yaml"))
    assert values(rows, "VITAL//temperature//°C") == [37]
    assert rows.filter(pl.col("code") == "OTHER//device")["text_value"].to_list() == ["A1"]
    assert flags(quality)["column_not_mapped"]["by"] == {"note: you asked to leave it out": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("p: heartrate\n", "did you mean 'heart_rate'"),
        ("p: {as: heart_rate, units: F}\n", "unknown key 'units'"),
    ],
)
def test_a_faulty_file_of_columns(run, tmp_path, content, words):
    (tmp_path / "columns.yaml").write_text(content)
    with pytest.raises(ConfigError, match=words):
        run(WARD, columns=str(tmp_path / "columns.yaml"))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("id,time,HR,Heart Rate", "columns 'HR' and 'Heart Rate' can both mean heart_rate; say which one with "
                                  '--option heart_rate="HR" .* --option skip="Heart Rate"'),
        ("patient_id,stay_id,time,HR", "'patient_id' and 'stay_id' can both mean subject"),
        ("id,Date,Time,HR", "'Date' and 'Time' can both mean time"),
        ("time,HR", "no column is known to name the subject .*--option subject_is=NAME"),
        ("id,HR", "no column is known to hold the time.*--option time=COLUMN.*--option step=0.5"),
        ("id,time,x,y", "no column is known to hold a vital sign .*--option heart_rate=COLUMN; known are"),
        ("id,time,name,x", "needs a column with the name and one with the value"),
    ],
)  # fmt: skip
def test_what_cannot_be_guessed_is_refused_with_the_flags_to_give(run, header, words):
    row = ",".join(
        "2024-01-01 08:00:00" if name.lower() in ("time", "date") else "1" for name in header.split(",")
    )
    with pytest.raises(ConfigError, match=words):
        run(f"{header}\n{row}\n")


def test_one_of_two_readings_is_chosen_and_the_other_kept(run):
    text = "id,time,HR,Pulse\nx,2024-01-01 08:00:00,70,71\n"
    quality, rows = run(text, heart_rate="Pulse")
    assert values(rows, "VITAL//heart_rate") == [71]
    assert values(rows, "OTHER//HR") == [70]
    assert quality["rows_read"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heart_rate": "hr"}, "unknown column 'hr': .*valid names are HR"),
        ({"heart_rate": "HR", "other": "HR"}, "'HR' is given twice"),
        ({"heartrate": "HR"}, "unknown option of vitals-csv 'heartrate': did you mean 'heart_rate'"),
        ({"units": "temperature"}, "expected `name=unit"),
        ({"time_unit": "weeks"}, "must be one of ms, s, min, h, d"),
        ({"step": "0"}, "must be a number above 0"),
        ({"step": "1", "time": "time"}, "two answers to one question"),
        ({"start": "noon", "step": "1"}, "is not a time; write it like"),
    ],
)
def test_options_that_do_not_fit(run, options, words):
    with pytest.raises(ConfigError, match=words):
        run(WARD, **options)


def test_a_label_is_left_out_unless_asked_for(run):
    text = "id,time,HR,Target\nx,2024-01-01 08:00:00,70,1\n"
    quality, rows = run(text, other="Target")
    assert values(rows, "OTHER//Target") == [1]
    assert "column_not_mapped" not in flags(quality)


def test_columns_may_be_called_anything(run):
    text = '_subject,_time,HR,_good,"it\'s ""so""",raw.HR\nx,2024-01-01 08:00:00,70,1,2,3\n'
    _, rows = run(text, subject="_subject", time="_time")
    assert dict(rows.select("code", "numeric_value").rows()) == {
        "VITAL//heart_rate//bpm": 70, "OTHER//_good": 1, "OTHER//it's \"so\"": 2, "OTHER//raw.HR": 3,
    }  # fmt: skip


# Subjects and time


def test_one_person(run):
    _, rows = run("time,HR\n2024-01-01 08:00:00,70\n", subject_is="Ada")
    assert rows["subject_name"].to_list() == ["Ada"]


def test_each_file_is_one_person(run):
    text = "time,HR\n2024-01-01 08:00:00,70\n"
    _, rows = run({"T1.csv": text, "T2.csv.gz": gzip.compress(text.encode())}, subject_is="file")
    assert sorted(rows["subject_name"]) == ["T1", "T2"]


def test_subject_is_does_not_lose_a_column(run):
    quality, rows = run(WARD, subject_is="Ada")
    assert rows.filter(pl.col("code") == "OTHER//id")["text_value"].to_list() == ["a"] * 3
    assert quality["rows_read"] == 9


def test_leading_zeros_make_another_subject(run):
    _, rows = run("id,time,HR\n007,2024-01-01,70\n7,2024-01-01,71\n")
    assert sorted(rows["subject_name"]) == ["007", "7"]


@pytest.mark.parametrize(
    ("options", "header", "times", "expected"),
    [
        ({"time_unit": "s"}, "time", ("0", "0.5"), ("2000-01-01 00:00:00", "2000-01-01 00:00:00.500000")),
        ({}, "time (min)", ("0", "90"), ("2000-01-01 00:00:00", "2000-01-01 01:30:00")),
        ({}, "hours", ("-1", "2"), ("1999-12-31 23:00:00", "2000-01-01 02:00:00")),
        ({"time_unit": "d", "start": "2024-02-28"}, "time", ("1", "2"), ("2024-02-29 00:00:00", "2024-03-01 00:00:00")),
        ({"time_unit": "epoch"}, "time", ("1700000000", "1700000001"), ("2023-11-14 22:13:20", "2023-11-14 22:13:21")),
        ({"time_format": "%d/%m/%Y %H:%M"}, "time", ("03/01/2024 10:00", "04/01/2024 10:00"),
         ("2024-01-03 10:00:00", "2024-01-04 10:00:00")),
        ({"step": "0.5"}, "ignored", ("1", "2"), ("2000-01-01 00:00:00", "2000-01-01 00:00:00.500000")),
        ({"step": "2", "time_unit": "min"}, "ignored", ("1", "2"), ("2000-01-01 00:00:00", "2000-01-01 00:02:00")),
    ],
)  # fmt: skip
def test_ways_to_tell_the_time(run, options, header, times, expected):
    text = f"id,{header},HR\nx,{times[0]},70\nx,{times[1]},71\n"
    quality, rows = run(text, **options)
    found = rows.filter(pl.col("code").str.starts_with("VITAL")).sort("time")["time"].cast(str).to_list()
    assert [time.removesuffix(".000000") for time in found] == list(expected)
    nominal = expected[0][:10] in ("2000-01-01", "1999-12-31")
    assert ("nominal_time" in flags(quality)) is nominal


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ("12.5", "'12.5' is not a time .*--option time_unit=s"),
        ("3 May 2024", '--option time_format="%d/%m/%Y %H:%M"'),
    ],
)
def test_a_time_that_cannot_be_read_names_the_flag(run, time, words):
    with pytest.raises(ConfigError, match=words):
        run(f"id,time,HR\nx,{time},70\n")


def test_no_time_at_all(run):
    quality, _ = run("id,HR\nx,70\ny,71\n", time="none")
    assert {"nominal_time", "one_row_per_subject"} <= set(flags(quality))


def test_no_time_is_refused_where_subjects_have_several_rows(run):
    with pytest.raises(ConfigError, match="would all fall on one moment"):
        run("id,HR\nx,70\nx,71\n", time="none")


# Rows and values


def test_quarantined_values_point_to_the_users_file_and_row(run):
    text = (
        "id,time,HR,SpO2\n"
        "x,2024-01-01 08:00:00,70,97\n"
        "x,2024-01-01 08:01:00\n"
        "x,2024-01-01 08:02:00,72,140\n"
        "x,2024-01-01 08:03:00,73,97,1\n"
        "x,soon,74,95\n"
        "x,2024-01-01 08:05:00,,\n"
        ",2024-01-01 08:06:00,76,94\n"
        "x,2024-01-01 08:07:00,1e999,94\n"
    )
    quality, rows = run({"b/ward.csv": text, "a.csv": WARD})
    kept = pl.read_parquet(quality["out"] / schema.QUARANTINE_DIR / "measurements.parquet").sort("raw.row")
    assert set(kept["raw.file"]) == {"b/ward.csv"}
    assert kept.select("raw.row", "column").rows() == [
        ("2", "malformed_line"), ("3", "number"), ("4", "malformed_line"), ("5", "time"), ("5", "time"),
        ("7", "subject"), ("7", "subject"), ("8", "number"),
    ]  # fmt: skip
    assert kept.filter(pl.col("raw.row") == "2")["value"].item().endswith("x,2024-01-01 08:01:00")
    assert flags(quality)["row_without_value"]["rows"] == 1
    assert flags(quality)["rows_in_file"]["by"] == {"a.csv: 3 rows": 1, "b/ward.csv: 8 rows": 1}
    assert values(rows.filter(pl.col("subject_name") == "x"), "VITAL//heart_rate") == [70, 72]


def test_every_value_is_accounted_for(run):
    quality, rows = run(WARD + "b,2024-01-01 08:00:00,,97\nb,2024-01-01 08:01:00,60,\n")
    assert quality["rows_read"] == 8
    assert quality["rows_loaded"] + quality["rows_quarantined"] == 8
    assert rows.height == 8


def test_long_form_by_flags(run):
    text = "who;x,when,param,val,unit\na,2024-01-01 08:00:00,Temp,98.6,F\na,2024-01-01 08:00:00,Mood,good,\n"
    quality, rows = run(
        text.replace("who;x", "who"), subject="who", time="when", name="param", value="val", unit="unit"
    )
    assert values(rows, "VITAL//temperature//°C") == [37]
    assert rows.filter(pl.col("code") == "OTHER//Mood")["text_value"].to_list() == ["good"]
    assert flags(quality)["column_guessed"]["by"] == {"Temp → temperature": 1}


def test_parquet_with_types(run):
    frame = pl.read_csv(WARD.encode()).with_columns(pl.col("time").str.to_datetime())
    _, rows = run({"ward.parquet": frame})
    assert values(rows, "VITAL//heart_rate") == [80, 81, 82]


def test_age_and_sex_are_written_once(run):
    text = "id,time,HR,Age,Sex\nx,2024-06-02,70,50,F\nx,2024-06-01,70,50,female\n"
    text += "y,2024-06-01,70,,M\ny,2024-06-02,70,,F\n"
    quality, rows = run(text)
    assert sorted(rows.filter(pl.col("code").str.starts_with("GENDER"))["code"]) == ["GENDER//F", "GENDER//F"]
    assert rows.filter(pl.col("code") == "MEDS_BIRTH")["time"].dt.year().to_list() == [1974]
    assert flags(quality)["several_genders"]["rows"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id;time;HR\nx;2024-01-01;70\n", "another separator than the comma"),
        ('id,time,HR\nx,2024-01-01,70\nx,"2024-01-01,70\n', "quote"),
        ("", "empty"),
    ],
)
def test_files_that_cannot_be_trusted(run, text, words):
    with pytest.raises(InputError, match=words):
        run(text)


def test_a_folder_without_a_table(run, tmp_path):
    with pytest.raises(InputError, match=r"no file that ends with \.csv"):
        run({"notes.txt": "hello"})


def test_every_column_gets_a_use():
    uses = resolve(["", "id", "time", "HR", "Ward", "Status"], Wishes.read({}), "x.csv")
    assert [use.role for use in uses] == ["other", "subject", "time", "vital", "other", "not_mapped"]
