"""The open data as a user has it: every row of every table is accounted for."""

import polars as pl
import pytest

from caretrace import schema
from caretrace.ingest import ingest

pytestmark = pytest.mark.data


@pytest.mark.slow
def test_physionet_2012(caretrace_data, tmp_path):
    quality = ingest("physionet-2012", caretrace_data / "physionet2012", tmp_path / "out")
    assert quality["subjects"] == 8000
    assert quality["splits"]["held_out"] == 4000
    assert quality["tables"]["series"]["rows_read"] == 1_753_980 + 1_758_535
    quarantined = pl.read_parquet(tmp_path / "out" / schema.QUARANTINE_DIR / "series.parquet")
    parameters = dict(quarantined["raw.Parameter"].value_counts().rows())
    assert parameters == {"Weight": 255, "Temp": 205, "Height": 20, "pH": 15, "Urine": 2, "WBC": 1, "K": 1}
    assert quarantined["reason"].str.contains("is outside what is possible").all()
    codes = dict(pl.read_parquet(tmp_path / "out" / schema.CODES_FILE).select("code", "count").rows())
    assert codes["HOSPITAL_DISCHARGE//DIED"] == codes["MEDS_DEATH"] == 1122
    assert codes["HR//bpm"] == 457_144
    assert not [code for code in codes if code.startswith(("SAPS", "SOFA", "Length", "Survival"))]
