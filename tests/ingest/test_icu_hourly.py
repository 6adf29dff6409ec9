"""Hourly grids: what a label says is written when it was known, and no cell is lost on the way from wide to long."""

import datetime as dt

import polars as pl
import pytest

from caretrace import schema
from caretrace.errors import ConfigError, InputError
from caretrace.ingest import ingest

STA = {
    "stay_id": [1, 2],
    "age": [50.0, 60.0],
    "sex": ["Male", "Female"],
    "height": [170.0, None],
    "weight": [70.0, 80.0],
}
TASKS = ("mortality24", "sepsis", "los", "aki", "kidney_function")
FOLDERS = [f"{base}/{task}" for base in ("eicu", "mimic3") for task in TASKS]
START = dt.datetime(2000, 1, 1)  # noqa: DTZ001


def hours(*values):
    return pl.Series([dt.timedelta(hours=value) for value in values], dtype=pl.Duration("ms"))


def grid(folder, outc, dyn=None):
    folder.mkdir(parents=True)
    dyn = dyn or {"stay_id": [1, 1, 2], "time": hours(0, 1, 0), "hr": [80.0, float("nan"), None]}
    for name, columns in (("sta", STA), ("dyn", dyn), ("outc", outc)):
        pl.DataFrame(columns).write_parquet(folder / f"{name}.parquet")
    return folder


def measurements(dataset):
    return pl.concat(pl.read_parquet(path) for path in (dataset / schema.DATA_DIR).rglob("*.parquet"))


def outcomes(dataset):
    """Subject, code, value and hours since the start of what comes from the labels."""
    found = measurements(dataset).filter(pl.col("code").str.contains("OUTCOME|ICU_DISCHARGE|MEDS_DEATH"))
    hour = ((pl.col("time") - START).dt.total_minutes() / 60).round(2)
    return sorted(found.select("subject_id", "code", "numeric_value", hour.alias("hour")).rows())


@pytest.mark.parametrize(
    ("folder", "outc", "expected"),
    [
        (
            "mortality24",
            {"stay_id": [1, 2], "label": [0, 1]},
            [
                (1, "ICU_DISCHARGE//ALIVE", None, 48.02),
                (2, "ICU_DISCHARGE//DIED", None, 48.02),
                (2, "MEDS_DEATH", None, 48.02),
            ],
        ),
        # Marked from 6 hours before the onset: first at 3, so the onset falls into hour 9 and is known at 10.
        (
            "aki",
            {"stay_id": [1] * 3 + [2], "time": hours(2, 3, 4, 0), "label": [False, True, True, False]},
            [(1, "OUTCOME//aki", None, 10.0)],
        ),
        ("sepsis", {"stay_id": [1], "time": hours(0), "label": [True]}, [(1, "OUTCOME//sepsis", None, 7.0)]),
        ("some", {"stay_id": [1], "time": hours(0), "label": [True]}, [(1, "OUTCOME//onset", None, 7.0)]),
        # 168 hours left or more says nothing; 3 left at hour 1 is an end in hour 4.
        (
            "los",
            {"stay_id": [1, 1, 2], "time": hours(0, 1, 0), "label": [4.0, 3.0, 168.0]},
            [(1, "OUTCOME//length_of_stay//h", 4.0, 5.0)],
        ),
        (
            "kidney_function",
            {"stay_id": [1, 2], "label": [1.5, None]},
            [(1, "OUTCOME//kidney_function//mg/dL", 1.5, 49.0)],
        ),
        ("other", {"stay_id": [1], "label": [2.5]}, [(1, "OUTCOME//kidney_function//mg/dL", 2.5, 49.0)]),
    ],
)  # fmt: skip
def test_a_label_is_written_when_it_was_known(tmp_path, folder, outc, expected):
    ingest("icu-hourly", grid(tmp_path / folder, outc), tmp_path / "out")
    assert outcomes(tmp_path / "out") == expected


def test_a_value_is_known_when_its_hour_is_over(tmp_path):
    raw = grid(tmp_path / "aki", {"stay_id": [1], "label": [0]})
    quality = ingest("icu-hourly", raw, tmp_path / "out", options={"task": "mortality24"})
    found = measurements(tmp_path / "out").filter(pl.col("code") == "VITAL//heart_rate//bpm")
    assert found.select("time", "numeric_value").rows() == [(START + dt.timedelta(hours=1), 80.0)]
    assert quality["tables"]["series"]["rows_read"] == 1
    assert quality["tables"]["outcomes"]["flags"]["outcome_missing"]["rows"] == 1


@pytest.mark.parametrize("time", [pl.Series([0.0, 1.0, 0.0]), hours(0, 1, 0).cast(pl.Duration("us"))])
def test_times_may_be_hours_or_any_duration(tmp_path, time):
    dyn = {"stay_id": [1, 1, 2], "time": time, "hr": [80.0, 81.0, 82.0]}
    ingest(
        "icu-hourly", grid(tmp_path / "mortality24", {"stay_id": [1], "label": [0]}, dyn), tmp_path / "out"
    )
    found = measurements(tmp_path / "out").filter(pl.col("code") == "VITAL//heart_rate//bpm")
    assert sorted(found["time"].dt.hour().to_list()) == [1, 1, 2]


def test_an_infinite_value_is_quarantined_with_its_row(tmp_path):
    dyn = {"stay_id": [1, 1, 2], "time": hours(0, 1, 0), "hr": [80.0, float("inf"), 82.0]}
    raw = grid(tmp_path / "mortality24", {"stay_id": [1], "label": [0]}, dyn)
    quality = ingest("icu-hourly", raw, tmp_path / "out")
    assert quality["rows_quarantined"] == 1
    kept = pl.read_parquet(tmp_path / "out" / schema.QUARANTINE_DIR / "series.parquet")
    assert kept.select("raw.stay_id", "raw.dyn_row", "column").rows() == [("1", "2", "value")]


LABELS = {"stay_id": [1], "label": [0]}
DATES = {"stay_id": [1], "time": [dt.date(2020, 1, 1)], "hr": [1.0]}


@pytest.mark.parametrize(
    ("outc", "dyn", "options", "error", "message"),
    [
        (LABELS, DATES, {}, InputError, "durations since the ICU admission"),
        (LABELS, {"stay_id": [1], "hr": [1.0]}, {}, InputError, "'time'"),
        ({"stay_id": [1], "outcome": [0]}, None, {}, InputError, "'label'"),
        (LABELS, None, {"task": "sepsys"}, ConfigError, "sepsis"),
        (LABELS, None, {"task": "sepsis"}, InputError, "need a column time"),
        (LABELS, None, {"tasks": "sepsis"}, ConfigError, "task"),
    ],
)
def test_what_is_refused(tmp_path, outc, dyn, options, error, message):
    with pytest.raises(error, match=message):
        ingest("icu-hourly", grid(tmp_path / "raw", outc, dyn), tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["dyn", "sta", "outc"])
def test_a_file_that_is_cut_off_is_refused(tmp_path, name):
    raw = grid(tmp_path / "mortality24", LABELS)
    whole = (raw / f"{name}.parquet").read_bytes()
    (raw / f"{name}.parquet").write_bytes(whole[:-20])
    with pytest.raises(InputError, match="fetch"):
        ingest("icu-hourly", raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.data
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_cell_of_the_demo_grids(caretrace_data, tmp_path, folder):
    raw = caretrace_data / "icu-demo-hourly" / folder
    quality = ingest("icu-hourly", raw, tmp_path / "out")
    dyn, sta = pl.read_parquet(raw / "dyn.parquet"), pl.read_parquet(raw / "sta.parquet")
    cells = dyn.drop("stay_id", "time").select(pl.all().fill_nan(None).count()).sum_horizontal().item()
    series = quality["tables"]["series"]
    assert series["rows_read"] == cells
    assert series["rows_loaded"] + series["rows_quarantined"] == cells
    assert series["rows_without_event"] == 0
    assert quality["subjects"] == sta.height
    assert quality["unknown_files"] == []
    assert not any("no_event" in table["flags"] for table in quality["tables"].values())
    _check_outcomes(folder, raw, outcomes(tmp_path / "out"), measurements(tmp_path / "out"))


def _check_outcomes(folder, raw, found, everything):
    outc = pl.read_parquet(raw / "outc.parquet")
    codes = [code for _, code, _, _ in found]
    if folder.endswith("mortality24"):
        assert (
            codes.count("MEDS_DEATH")
            == codes.count("ICU_DISCHARGE//DIED")
            == {"eicu": 47, "mimic3": 21}[folder.split("/")[0]]
        )
        assert codes.count("ICU_DISCHARGE//ALIVE") == outc.height - codes.count("MEDS_DEATH")
        end = everything.filter(pl.col("code").str.contains("^(VITAL|LAB|SUBJECT)"))["time"].max()
        assert end == START + dt.timedelta(hours=25)
    elif folder.endswith(("aki", "sepsis")):
        assert len(found) == outc.filter("label")["stay_id"].n_unique()
    elif folder.endswith("los"):
        # Nothing of a stay is known after its end.
        last = dict(
            everything.filter(pl.col("code").str.starts_with("VITAL"))
            .group_by("subject_id")
            .agg(pl.col("time").max())
            .rows()
        )
        assert len(found) > 0.9 * outc["stay_id"].n_unique()
        for stay, _, _, hour in found:
            assert last.get(stay, START) <= START + dt.timedelta(hours=hour)
    else:
        assert len(found) == outc.height
