"""The page of a dataset that was read from bad raw files: everything is said, nothing is run."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from caretrace.dataset import Dataset
from caretrace.ingest import ingest, source_mapping
from caretrace.report.dataset_page import render_dataset_page
from caretrace.report.export import csv_safe, csv_safe_texts

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(source_mapping("mimic-iv").folder / "sample" / "raw", folder / "raw")
    items, events = folder / "raw/icu/d_items.csv", folder / "raw/icu/ingredientevents.csv"
    label = items.read_text().splitlines()[1].split(",")[1]
    items.write_text(items.read_text().replace(label, SCRIPT))
    events.write_text(
        events.read_text() + events.read_text().splitlines()[1].replace("mL/hour", SCRIPT) + "\n"
    )
    with (folder / "raw/icu/icustays.csv").open("a") as stays:
        stays.write(f"99,999,9999,{SCRIPT},{SCRIPT},2150-01-01 00:00:00,2150-01-02 00:00:00,1.0\n")
    (folder / "raw/<img src=x onerror=alert(1)>.csv").write_text("a,b\n")
    ingest("mimic-iv", folder / "raw", folder / "out")
    return render_dataset_page(Dataset(folder / "out"), folder / "page.html").read_text()


def test_no_text_of_the_data_becomes_a_tag(page):
    assert SCRIPT not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;img src=x onerror=alert(1)&gt;.csv" in page


def test_quarantine_flags_units_and_what_was_not_mapped_are_told(page):
    assert "subject is not in patients" in page
    assert "icu/icustays.csv" in page  # the place of the quarantined row
    assert "Codes in several units" in page
    assert "INFUSION//220490" in page
    assert "hosp/provider.csv" in page
    assert "a bare list of staff ids" in page
    assert (
        "<code>no_time</code>" in page
        or "<code>never_reported</code>" in page
        or 'class="sub"><code>' in page
    )


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1"])
def test_a_text_that_a_spreadsheet_would_run_is_defused(cell):
    assert csv_safe(cell) == "'" + cell


@pytest.mark.parametrize("cell", [-5, -5.5, None, "", "12", "plain", "a=b", "2021-03-26"])
def test_numbers_and_harmless_text_stay(cell):
    assert csv_safe(cell) == cell
    assert type(csv_safe(cell)) is type(cell)


def test_a_table_is_made_safe_cell_by_cell():
    table = pl.DataFrame(
        {"code": ["=1+1", "428.0", None, " -x"], "n": [1, -2, 3, 4], "name": ["a", "@b", "c", "d"]}
    )
    assert csv_safe_texts(table).to_dict(as_series=False) == {
        "code": ["'=1+1", "428.0", None, "' -x"], "n": [1, -2, 3, 4], "name": ["a", "'@b", "c", "d"],
    }  # fmt: skip


def test_only_export_writes_csv():
    """A new CSV export must go through `csv_safe`: whoever adds one adds it here, having looked."""
    source = Path(__file__).parents[2] / "src" / "caretrace"
    writers = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if any(
            word in path.read_text() for word in (".write_csv(", ".to_csv(", "csv.writer(", "csv.DictWriter(")
        )
    }
    # What the virtual hospital invents holds no text that anybody typed.
    invented = {"hospital/writer.py", "hospital/histories/tables.py", "hospital/operations/stream.py"}
    allowed = invented | {name for name in writers if name.startswith("ingest/")}
    # Codes come from the training data, where somebody may have typed them: they leave through `csv_safe_texts`.
    assert writers <= allowed | {"apps/synth/export/csv.py"}
