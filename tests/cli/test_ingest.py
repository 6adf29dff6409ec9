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


def test_sources_tells_all_about_one(app):
    found = json.loads(CliRunner().invoke(app, ["sources", "vitals-csv", "--json"]).stdout)
    assert found["options"]["time"]
    assert found["tables"][0]["needed"] is True
    assert "did you mean 'mimic-iv'" in str(CliRunner().invoke(app, ["sources", "mimic4"]).exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["subject"], "must be written name=value"),
        (["subject=a", "subject=b"], "given twice"),
        (["subjct=a"], "did you mean 'subject'"),
    ],
)
def test_options_are_checked_before_anything_is_read(app, tmp_path, options, message):
    arguments = [part for option in options for part in ("--option", option)]
    (tmp_path / "raw").mkdir()
    result = CliRunner().invoke(
        app, ["ingest", "vitals-csv", str(tmp_path / "raw"), str(tmp_path / "o"), *arguments]
    )
    assert message in str(result.exception)
    assert not (tmp_path / "o").exists()


def test_an_output_that_exists_is_refused_before_a_demo_is_fetched(app, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "mine").write_text("mine")
    arguments = ["ingest", "mimic-iv", "--fetch-demo", "--fetch-url", "http://localhost:9/none"]
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "raw"), str(tmp_path / "o")])
    assert "already exists" in str(result.exception)
    assert not (tmp_path / "raw").exists()
