"""What the simulator writes is a source like any other."""

import pytest

from caretrace.hospital import HospitalConfig, simulate
from caretrace.ingest import ingest


@pytest.mark.slow
def test_the_simulated_hospital_ingests_without_a_loss(tmp_path):
    simulate(tmp_path / "raw", HospitalConfig(subjects=20))
    quality = ingest("hospital", tmp_path / "raw", tmp_path / "out")
    assert quality["rows_quarantined"] == 0
    assert quality["subjects"] == 20
    assert quality["unknown_files"] == []
    assert all(table["events"] for table in quality["tables"].values())
