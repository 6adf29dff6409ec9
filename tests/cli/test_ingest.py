import json

import pytest
import typer
from typer.testing import CliRunner

from caretrace.cli import ingest, sources
from caretrace.ingest import source_mapping

SAMPLE = source_mapping("hospital").folder / "sample" / "raw"


@pytest.fixture
def app():
    app = typer.Typer()
    app.command("sources")(sources.command)
    app.command("ingest")(ingest.command)
    return app


def test_sources_lists_every_source(app):
    result = CliRunner().invoke(app, ["sources", "--json"])
    assert result.exit_code == 0, result.exception
    assert {source["name"] for source in json.loads(result.stdout)["sources"]} >= {
        "mimic-iv",
        "physionet-2012",
        "hospital",
    }
    assert "mimic-iv" in CliRunner().invoke(app, ["sources"]).stdout


def test_ingest_prints_the_quality_report(app, tmp_path):
    arguments = [
        "ingest",
        "hospital",
        str(SAMPLE),
        str(tmp_path / "out"),
        "--max-quarantined",
        "0.2",
        "--json",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((tmp_path / "out/metadata/quality.json").read_text())


def test_too_many_quarantined_rows_leave_the_dataset_and_exit_three(app, tmp_path):
    result = CliRunner().invoke(app, ["ingest", "hospital", str(SAMPLE), str(tmp_path / "out")])
    assert result.exit_code == 3
    assert "2 of 22 rows were quarantined" in result.stderr
    assert "never_reported" in result.stdout
    assert (tmp_path / "out" / "metadata" / "quality.json").exists()


def test_a_setting_that_does_not_exist_is_a_usage_error(app, tmp_path):
    result = CliRunner().invoke(
        app, ["ingest", "hospital", str(SAMPLE), str(tmp_path / "o"), "--splits", "mine"]
    )
    assert result.exit_code == 2
