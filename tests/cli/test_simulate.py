"""`caretrace simulate` through its command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from caretrace.cli.simulate import command
from caretrace.errors import ConfigError, OutputExistsError

app = typer.Typer()
app.command()(command)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_is_one_object_with_the_rows(tmp_path: Path) -> None:
    printed = run(
        str(tmp_path / "raw"),
        "--subjects",
        "20",
        "--seed",
        "5",
        "--set",
        "oracle_replicates=2",
        "--json",
        "-q",
    )
    value = json.loads(printed)
    assert value["subjects"] == value["rows"]["patients.csv"] == 20
    assert json.loads((tmp_path / "raw" / "simulation.json").read_text())["seed"] == 5


def test_the_settings_of_a_run_repeat_it(tmp_path: Path) -> None:
    run(str(tmp_path / "a"), "--subjects", "20", "--set", "oracle_replicates=2", "--set", "noise=0.5", "-q")
    run(str(tmp_path / "b"), "--config", str(tmp_path / "a" / "simulation.json"), "-q")
    assert (tmp_path / "a" / "vitals.csv").read_bytes() == (tmp_path / "b" / "vitals.csv").read_bytes()


def test_rules_are_switched_on_by_option_or_setting(tmp_path: Path) -> None:
    few = ("--subjects", "20", "--set", "oracle_replicates=1", "-q")
    run(str(tmp_path / "a"), *few, "--rule", "single", "--rule", "decoy")
    run(str(tmp_path / "b"), *few, "--set", "rules=[single,decoy]")
    for folder in "ab":
        assert json.loads((tmp_path / folder / "simulation.json").read_text())["rules"] == ["single", "decoy"]
    listed = "truth/rule_events.parquet"
    assert (tmp_path / "a" / listed).read_bytes() == (tmp_path / "b" / listed).read_bytes()
    with pytest.raises(ConfigError, match="did you mean 'ordered'"):
        run(str(tmp_path / "c"), "--rule", "orderd")


def test_the_end_names_the_files_and_the_next_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, [str(tmp_path / "raw"), "--subjects", "5", "--set", "oracle_replicates=1"]
    )
    assert "vitals.csv" in result.stdout
    assert "caretrace ingest hospital" in result.stderr


def test_mistakes_are_answered_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'subjects'"):
        run(str(tmp_path / "raw"), "--set", "subject=3")
    with pytest.raises(ConfigError, match="subjects: got 0"):
        run(str(tmp_path / "raw"), "--subjects", "0")
    (tmp_path / "taken").write_text("x")
    with pytest.raises(OutputExistsError, match="choose another"):
        run(str(tmp_path / "taken"), "--subjects", "5")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_check_compares_with_published_numbers_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["--check", "--seeds", "2", "--json", "-q"])
    found = json.loads(result.stdout)
    inside = {band["name"]: band["low"] <= band["value"] <= band["high"] for band in found["bands"]}
    assert inside == {band["name"]: band["inside"] for band in found["bands"]}
    assert found["all_inside"] is all(inside.values())
    assert result.exit_code == (0 if all(inside.values()) else 1)
    assert len(inside) > 20
    assert not list(tmp_path.iterdir())


def test_a_folder_or_a_check_is_needed() -> None:
    assert CliRunner().invoke(app, []).exit_code == 2
