"""The open data as a user has it: every row of every table is accounted for."""

import csv
import gzip
import io
import time

import polars as pl
import pytest

from caretrace import schema
from caretrace.ingest import ingest

pytestmark = pytest.mark.data


def rows_of(path):
    """Rows of a CSV by Python's own reader, a second opinion on what DuckDB read."""
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode("utf-8")
    return sum(1 for _ in csv.reader(io.StringIO(text, newline=""), strict=True)) - 1


def test_every_row_of_the_mimic_iv_demo(caretrace_data, tmp_path):
    raw = caretrace_data / "mimic-iv-demo-2.2"
    quality = ingest("mimic-iv", raw, tmp_path / "out")
    counted = {file: None for table in quality["tables"].values() for file in table["files"]}
    for table in quality["tables"].values():
        assert len(table["files"]) == 1
        counted[table["files"][0]] = table["rows_read"]
        assert table["rows_quarantined"] == 0
        assert "no_event" not in table["flags"]
        if table["events"]:
            assert table["rows_without_event"] == 0
    counted |= {entry["file"]: entry["rows"] for entry in quality["not_mapped"]}
    files = {path.relative_to(raw).as_posix(): path for path in raw.rglob("*.csv*")}
    assert set(counted) == set(files)
    assert len(files) == 31
    for name, path in files.items():
        assert counted[name] == rows_of(path), name
    assert quality["unknown_files"] == []
    died = pl.read_parquet(tmp_path / "out" / schema.CODES_FILE).filter(
        pl.col("code") == "HOSPITAL_DISCHARGE//DIED"
    )
    assert died["count"].to_list() == [15]


@pytest.mark.slow
def test_physionet_2012_in_under_a_minute(caretrace_data, tmp_path):
    start = time.monotonic()
    quality = ingest("physionet-2012", caretrace_data / "physionet2012", tmp_path / "out")
    assert time.monotonic() - start < 60
    assert quality["subjects"] == 8000
    assert quality["splits"]["held_out"] == 4000
    assert quality["tables"]["series"]["rows_read"] == 1_753_980 + 1_758_535
    assert quality["rows_quarantined"] == 0
    codes = dict(pl.read_parquet(tmp_path / "out" / schema.CODES_FILE).select("code", "count").rows())
    assert codes["HOSPITAL_DISCHARGE//DIED"] == codes["MEDS_DEATH"] == 1122
    assert codes["HR//bpm"] == 457_144
    assert not [code for code in codes if code.startswith(("SAPS", "SOFA", "Length", "Survival"))]
