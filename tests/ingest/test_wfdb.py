"""WFDB numerics: records written here by the wfdb library itself, and what is wrong with some of them."""

import datetime as dt
import warnings

import numpy as np
import polars as pl
import pytest

from caretrace.errors import InputError
from caretrace.ingest import ingest, source_mapping

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # wfdb 4.3 uses what pandas 3 has deprecated
    import wfdb

GAP = np.nan


def write(folder, name, signals, units, values, **more):
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"fs": 1, "adc_gain": [10.0] * len(signals), "baseline": [0] * len(signals)} | more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wfdb.wrsamp(
            name, units=units, sig_name=signals, p_signal=np.array(values, float), fmt=["16"] * len(signals),
            write_dir=str(folder), **settings,
        )  # fmt: skip


def at(*parts):
    """A time without a zone, as MEDS has them."""
    return dt.datetime(*parts)  # noqa: DTZ001


@pytest.fixture
def run(tmp_path):
    def go(raw=tmp_path / "raw", **options):
        quality = ingest("wfdb", raw, tmp_path / "out", options=options)
        rows = pl.concat(
            [pl.read_parquet(path) for path in sorted((tmp_path / "out" / "data").rglob("*.parquet"))]
        )
        names = pl.read_parquet(tmp_path / "out" / "metadata" / "subject_names.parquet")
        return quality, rows.join(names, on="subject_id", how="left")

    return go


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "raw"


def found(rows, code):
    part = rows.filter(pl.col("code").str.starts_with(code)).sort("subject_name", "time")
    return part.select("time", "numeric_value").rows()


def test_times_follow_from_the_header_and_gaps_are_no_measurements(run, folder):
    start = at(2101, 3, 4, 5, 6, 7)
    write(
        folder,
        "r",
        ["HR", "RESP"],
        ["bpm", "pm"],
        [[80, 12], [GAP, 13], [82, GAP]],
        base_datetime=start,
        fs=1 / 60,
    )
    quality, rows = run()
    assert found(rows, "VITAL//heart_rate//bpm") == [(start, 80), (start + dt.timedelta(minutes=2), 82)]
    assert found(rows, "VITAL//respiratory_rate//breaths/min")[1] == (start + dt.timedelta(minutes=1), 13)
    assert quality["rows_read"] == rows.height == 4
    assert "nominal_time" not in quality["tables"]["samples"]["flags"]
    assert quality["unknown_files"] == []


def test_a_record_without_a_date_starts_at_a_nominal_time(run, folder):
    write(folder, "r", ["HR"], ["bpm"], [[80], [81]], fs=2)
    quality, rows = run()
    times = [time for time, _ in found(rows, "VITAL")]
    assert times == [at(2000, 1, 1), at(2000, 1, 1, 0, 0, 0, 500_000)]
    assert quality["tables"]["samples"]["flags"]["nominal_time"]["rows"] == 2


def test_a_time_of_day_without_a_date_is_kept(run, folder):
    write(folder, "r", ["HR"], ["bpm"], [[80]], base_time=dt.time(7, 30))
    _, rows = run()
    assert found(rows, "VITAL") == [(at(2000, 1, 1, 7, 30), 80)]


@pytest.mark.parametrize(
    ("place", "name", "comments", "options", "subject"),
    [
        ("", "bed7", [], {}, "bed7"),
        ("", "bed7", ["Subject: ward-7"], {}, "ward-7"),
        ("", "bed7", ["<subject_id>: 42"], {}, "42"),
        ("", "bed7", ["subject felt well"], {}, "bed7"),
        ("p00/p000123", "p000123-2101-10-25-07-53n", [], {}, "123"),
        ("p00/p000123", "3141595n", [], {}, "123"),
        ("ward", "bed7", ["Subject: ward-7"], {"subject": "folder"}, "ward"),
        ("ward", "bed7", ["Subject: ward-7"], {"subject": "record"}, "bed7"),
    ],
)
def test_who_it_is(run, folder, place, name, comments, options, subject):
    write(folder / place, name, ["HR"], ["bpm"], [[80]], comments=comments)
    assert run(**options)[1]["subject_name"].unique().to_list() == [subject]


def test_several_records_of_one_subject_are_one_subject(run, folder):
    for hour in (7, 9):
        start = at(2101, 3, 4, hour)
        write(folder / "p01" / "p010001", f"r{hour}n", ["HR"], ["bpm"], [[80]], base_datetime=start)
    quality, rows = run()
    assert quality["subjects"] == 1
    assert len(found(rows, "VITAL//heart_rate")) == 2


def test_impossible_samples_are_quarantined_with_record_and_sample(run, folder, tmp_path):
    write(folder, "r", ["HR", "SpO2"], ["bpm", "%"], [[80, 97], [500, 96], [81, 101]])
    quality, rows = run()
    assert quality["rows_quarantined"] == 2
    kept = pl.read_parquet(tmp_path / "out" / "quarantine" / "samples.parquet").sort("raw.row")
    assert kept.select("raw.file", "raw.row", "raw.name").rows() == [
        ("r.hea", "2", "HR"),
        ("r.hea", "3", "SpO2"),
    ]
    assert rows.height == 4


def test_waveforms_are_named_and_not_read(run, folder):
    write(folder, "ecg", ["II"], ["mV"], [[0.1], [0.2]], fs=125, comments=["Subject: x"])
    write(folder, "num", ["HR"], ["bpm"], [[80]], comments=["Subject: x"])
    quality, rows = run()
    assert quality["tables"]["samples"]["flags"]["waveform_not_read"]["by"] == {"a waveform of 125 Hz": 1}
    assert rows["code"].to_list() == ["VITAL//heart_rate//bpm"]


def test_a_signal_without_samples_is_named(run, folder):
    write(folder, "r", ["HR", "ABPMean"], ["bpm", "mmHg"], [[80, GAP], [81, GAP]])
    quality, _ = run()
    assert quality["tables"]["samples"]["flags"]["signal_without_samples"]["by"] == {"ABPMean": 1}


def test_invasive_and_cuff_pressures_are_kept_apart(run, folder):
    signals = ["ABPSys", "ABP DIAS", "NBP Mean", "CVP", "PULSE"]
    write(folder, "r", signals, ["mmHg"] * 4 + ["bpm"], [[120, 70, 85, 8, 79]])
    assert sorted(run()[1]["code"]) == [
        "VITAL//central_venous_pressure//mmHg",
        "VITAL//diastolic_pressure//mmHg",
        "VITAL//noninvasive_mean_pressure//mmHg",
        "VITAL//pulse_rate//bpm",
        "VITAL//systolic_pressure//mmHg",
    ]


def test_a_record_longer_than_one_piece(run, folder):
    number = (1 << 16) + 5
    values = (np.arange(number) % 100 + 50)[:, None]
    write(folder, "r", ["HR"], ["bpm"], values)
    quality, rows = run()
    assert quality["rows_read"] == number
    last = found(rows, "VITAL")[-1]
    assert last == (at(2000, 1, 1) + dt.timedelta(seconds=number - 1), values[-1, 0])


def test_a_record_in_segments_is_read_once(run, folder):
    write(folder, "r_1", ["HR"], ["bpm"], [[80], [81]])
    write(folder, "r_2", ["HR"], ["bpm"], [[82]])
    (folder / "r.hea").write_text("r/2 1 1 3\nr_1 2\nr_2 1\n# Subject: x\n")
    quality, rows = run()
    assert [value for _, value in found(rows, "VITAL")] == [80, 81, 82]
    assert rows["subject_name"].unique().to_list() == ["x"]
    assert quality["unknown_files"] == []


# What is wrong with some


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "r.dat").unlink(), r"r\.hea .*cannot be read.*Fetch the record again"),
        (lambda folder: (folder / "r.dat").write_bytes(b"\0\0"), r"r\.hea.*[Ff]etch the record again"),
        (lambda folder: (folder / "r.hea").write_text("what\n"), r"r\.hea is not a WFDB header"),
        (lambda folder: (folder / "r.hea").write_bytes(b"\xff\xfe\x00"), r"r\.hea cannot be read"),
        (
            lambda folder: (folder / "r.hea").write_text(
                "r 1 1 2\n../../secret.dat 16 1/bpm 16 0 0 0 0 HR\n"
            ),
            r"names the file '\.\./\.\./secret\.dat' outside its folder",
        ),
        (
            lambda folder: (folder / "r.hea").write_text("r 1 1 2\n/etc/passwd 16 1/bpm 16 0 0 0 0 HR\n"),
            "names the file '/etc/passwd' outside its folder",
        ),
    ],
)
def test_a_damaged_record_is_refused(run, folder, tmp_path, damage, words):
    write(folder, "r", ["HR"], ["bpm"], [[80], [81]])
    damage(folder)
    with pytest.raises(InputError, match=words):
        run()
    assert not (tmp_path / "out").exists()


def test_a_folder_without_records(run, folder):
    folder.mkdir()
    (folder / "x.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match="no WFDB record"):
        run()


def test_without_the_library_the_message_names_the_extra(run, monkeypatch):
    import importlib

    def missing(name, *args):
        if name == "wfdb":
            raise ImportError("No module named 'wfdb'")
        return original(name, *args)

    original = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"pip install 'caretrace\[wfdb\]'"):
        run(source_mapping("wfdb").folder / "sample" / "raw")
