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
        "--part",
        "stays",
        "--json",
        "-q",
    )
    value = json.loads(printed)
    assert value["parts"] == ["stays"]
    assert not (tmp_path / "raw" / "operations").exists()
    assert value["subjects"] == value["rows"]["patients.csv"] == 20
    assert json.loads((tmp_path / "raw" / "simulation.json").read_text())["seed"] == 5


def test_the_settings_of_a_run_repeat_it(tmp_path: Path) -> None:
    settings = ("noise=0.5", "oracle_replicates=2", "operations.size=0.1", "monitors.people=2")
    chosen = [word for setting in settings for word in ("--set", setting)]
    run(str(tmp_path / "a"), "--subjects", "20", "--days", "2", "--seed", "9", *chosen, "-q")
    run(str(tmp_path / "b"), "--config", str(tmp_path / "a" / "simulation.json"), "-q")
    names = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert {name.parts[0] for name in names} >= {"vitals.csv", "histories", "monitors", "operations"}
    for name in names:
        first, second = tmp_path / "a" / name, tmp_path / "b" / name
        if name.name == "simulation.json":  # 111 there may be 111.0 here
            assert json.loads(first.read_text()) == json.loads(second.read_text())
        else:
            assert first.read_bytes() == second.read_bytes(), name


def test_rules_are_switched_on_by_option_or_setting(tmp_path: Path) -> None:
    few = ("--subjects", "20", "--part", "stays", "--set", "oracle_replicates=1", "-q")
    run(str(tmp_path / "a"), *few, "--rule", "single", "--rule", "decoy")
    run(str(tmp_path / "b"), *few, "--set", "rules=[single,decoy]")
    for folder in "ab":
        assert json.loads((tmp_path / folder / "simulation.json").read_text())["rules"] == ["single", "decoy"]
    listed = "truth/rule_events.parquet"
    assert (tmp_path / "a" / listed).read_bytes() == (tmp_path / "b" / listed).read_bytes()
    with pytest.raises(ConfigError, match="did you mean 'ordered'"):
        run(str(tmp_path / "c"), "--rule", "orderd")


def test_the_end_names_the_files_and_the_next_command_of_every_part(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    result = CliRunner().invoke(
        app,
        f"{raw} --subjects 5 --days 1 --set oracle_replicates=1 --set monitors.people=1 --set operations.size=0.1",
    )
    assert "vitals.csv" in result.stdout
    assert "operations/hours.csv" in result.stdout
    told = [line.split() for line in result.stderr.splitlines() if line.startswith("Next: ")]
    assert [line[1:4] for line in told] == [
        ["caretrace", "ingest", name]
        for name in ("hospital", "hospital-histories", "hospital-vitals", "hospital-operations")
    ]
    for line in told:
        assert Path(line[4]).is_dir()


def test_parts_may_be_chosen(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    printed = run(
        str(raw), "--part", "vitals", "--part", "histories", "--subjects", "5", "--days", "1", "--json", "-q"
    )
    value = json.loads(printed)
    assert {Path(name).parts[0] for name in value["rows"]} == {"histories", "monitors"}
    assert sorted(p.name for p in raw.iterdir()) == ["README.md", "histories", "monitors", "simulation.json"]
    with pytest.raises(ConfigError, match="did you mean 'vitals'"):
        run(str(tmp_path / "b"), "--part", "vital")


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
