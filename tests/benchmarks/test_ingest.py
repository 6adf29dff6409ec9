"""The benchmark of ingest: its tables are what they claim, its measurements see what they should."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from caretrace.ingest import ingest, source_mapping

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    from mimic_tables import write_tables

    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        assert write_tables(tmp_path / name, 30_000, seed) == 30_000
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.gz"))
    assert len(files) == 31
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    charted = Path("icu/chartevents.csv.gz")
    assert (tmp_path / "one" / charted).read_bytes() != (tmp_path / "other" / charted).read_bytes()


def test_ingest_finds_every_table_and_nothing_to_complain_about(tmp_path):
    from mimic_tables import write_tables

    rows = write_tables(tmp_path / "raw", 30_000)
    quality = ingest("mimic-iv", tmp_path / "raw", tmp_path / "out")
    assert quality["rows_quarantined"] == 0
    charted = quality["tables"]["chartevents"]
    assert charted["rows_read"] == charted["events"] == rows
    # Repeated and out of order, as in the published file; but no unit or value that it would not have.
    assert not charted["flags"].keys() - {"duplicate", "out_of_order"}
    files = {file for table in source_mapping("mimic-iv").tables.values() for file in table.files}
    assert {file for file in files if file.startswith(("hosp/", "icu/"))}.isdisjoint(
        quality["missing_optional"]
    )


def test_memory_is_that_of_all_processes_together(tmp_path):
    from measure import measured

    code = """
        import subprocess, sys, time
        if len(sys.argv) > 1:
            held = bytearray(200 << 20)
            time.sleep(1)
        else:
            open("written", "wb").write(b"1" * (5 << 20))
            [child.wait() for child in [subprocess.Popen([sys.executable, __file__, "x"]) for _ in range(2)]]
            sys.exit("done")
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code).replace('"written"', f'"{tmp_path}/written"'))
    found = measured([sys.executable, str(tmp_path / "code.py")], log=tmp_path / "log", watch=tmp_path)
    assert 400 < found.peak_mib < 600
    assert found.disk_mib > 5
    assert found.seconds > 1
    assert 0.02 < found.cpu_seconds < found.seconds * 2
    assert (found.code, found.output) == (1, "done")


def test_a_command_that_does_not_end_is_killed_with_its_children(tmp_path):
    from measure import measured

    command = ["sh", "-c", "sleep 60 & sleep 60"]
    found = measured(command, log=tmp_path / "log", timeout_seconds=0.5)
    assert found.seconds < 10
    assert found.code == -9


PEER = """#!{python}
import pathlib, sys
import pyarrow as pa, pyarrow.parquet as pq
out = pathlib.Path(sys.argv[2])
(out / "data").mkdir(parents=True)
rows = 30_000 if "cpp" in sys.argv else 7
pq.write_table(pa.table({{"code": ["x"] * rows}}), out / "data" / "0.parquet")
"""


@pytest.mark.slow
def test_the_benchmark_reports_ours_and_whoever_did_the_whole_work(tmp_path):
    program = tmp_path / "peers" / "meds_etl" / "bin" / "meds_etl_mimic"
    program.parent.mkdir(parents=True)
    program.write_text(PEER.format(python=sys.executable))
    program.chmod(0o755)
    options = ["--rows", "15e3", "30e3", "--peer-rows", "30e3", "--peers", "peers", "--work", str(tmp_path)]
    command = [sys.executable, str(BENCHMARKS / "ingest.py"), *options, "--result", str(tmp_path / "result")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "MEDS-extract is not in peers: make it with" in done.stderr
    assert "left out: meds_etl (polars) wrote 7 rows where chartevents alone has 30,000" in done.stderr
    assert "memory: at most" in done.stderr
    found = json.loads((tmp_path / "result").read_text())
    assert found["threads"] == 2
    cases = {case["case"]: case for case in found["cases"]}
    full = cases["30,000 rows"]
    assert full["unit"] == "rows/s"
    assert full["peers"].keys() == full["speedup"].keys() == {"meds_etl (cpp)", "DuckDB alone"}
    assert full["speedup"]["meds_etl (cpp)"] == pytest.approx(full["ours"] / full["peers"]["meds_etl (cpp)"])
    assert 100 < full["peak_mib"] < 4096
    assert not cases["15,000 rows"]["peers"]
    assert "rows/s at 30,000 over rows/s at 15,000 rows" in cases
    assert "30,000 rows, each peer at its best size" in cases
    assert not list(tmp_path.glob("bench-ingest-*")), "tables were left behind"
