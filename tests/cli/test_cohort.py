"""`caretrace cohort`: choosing a task, printing attrition, machine output."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
import yaml
from typer.testing import CliRunner

from caretrace import schema
from caretrace.cli.cohort import command
from caretrace.errors import CaretraceError, ConfigError

PREDICATES = {
    "icu_admission": {"code": "ICU_ADMISSION"},
    "icu_discharge": {"code": "ICU_DISCHARGE"},
    "hospital_discharge": {"code": {"regex": "^HOSPITAL_DISCHARGE"}},
    "hospital_death": {"code": "HOSPITAL_DISCHARGE//DIED"},
    "death": {"code": "MEDS_DEATH"},
}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "meds"
    (folder / "data" / "train").mkdir(parents=True)
    (folder / "metadata").mkdir()
    hour = 3_600_000_000
    rows = [
        (1, 0, "ICU_ADMISSION"), (1, 60 * hour, "ICU_DISCHARGE"), (1, 70 * hour, "HOSPITAL_DISCHARGE//ALIVE"),
        (2, 0, "ICU_ADMISSION"), (2, 60 * hour, "MEDS_DEATH"), (2, 60 * hour, "HOSPITAL_DISCHARGE//DIED"),
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["subject_id", "time", "code"], orient="row").with_columns(
        pl.col("time").cast(pl.Datetime("us")),
        numeric_value=pl.lit(None, pl.Float32),
        text_value=pl.lit(None, pl.String),
    )
    frame.write_parquet(folder / "data" / "train" / "0.parquet")
    (folder / schema.DATASET_FILE).write_text("{}")
    frame.select("code").unique().write_parquet(folder / schema.CODES_FILE)
    pl.DataFrame({"subject_id": [1, 2], "split": ["train", "train"]}).write_parquet(
        folder / schema.SPLITS_FILE
    )
    (folder / schema.PREDICATES_FILE).write_text(yaml.safe_dump({"predicates": PREDICATES}))
    return folder


def run(*arguments: Any) -> Any:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_it_writes_labels_prints_attrition_and_the_next_command(dataset: Path, tmp_path: Path) -> None:
    result = run("mortality", dataset, "--out", tmp_path / "labels")
    assert result.exit_code == 0, result.output
    assert "no discharge_or_death in (trigger, trigger" in result.stdout.replace("\n", " ")
    assert "caretrace train mortality" in result.stderr
    assert (tmp_path / "labels" / "labels.parquet").exists()


def test_json_is_one_object(dataset: Path, tmp_path: Path) -> None:
    result = run("mortality", dataset, "--out", tmp_path / "l", "--task", "in_hospital_death_24h", "--json")
    value = json.loads(result.stdout)
    assert value["task"] == "in_hospital_death_24h"
    assert value["counts"]["positives"] == 1
    assert value["rules"][0] == {"rule": "trigger: every icu_admission", "removed": 0, "remaining": 2}
    assert value["discordance"]["in_icu_differs_from_in_hospital"] == 0


def test_a_task_file_of_ones_own(dataset: Path, tmp_path: Path) -> None:
    task = tmp_path / "mine.yaml"
    task.write_text((Path(__file__).parent / "cohort_task.yaml").read_text())
    result = run(task, dataset, "--out", tmp_path / "labels", "--json")
    assert json.loads(result.stdout)["task"] == "mine"
    assert isinstance(run(task, dataset, "--out", tmp_path / "m", "--task", "x").exception, ConfigError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mortalty"], "unknown application 'mortalty': did you mean 'mortality'"),
        (["mortality", "--task", "in_icu_death_24"], "did you mean 'in_icu_death_24h'"),
        (["nowhere.yaml"], "nowhere.yaml: no such file"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(
    dataset: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = run(arguments[0], dataset, "--out", tmp_path / "labels", *arguments[1:])
    assert isinstance(result.exception, CaretraceError)
    assert message in str(result.exception)


def test_one_kind_of_label_is_said_aloud(dataset: Path, tmp_path: Path) -> None:
    path = dataset / schema.PREDICATES_FILE
    path.write_text(yaml.safe_dump({"predicates": {**PREDICATES, "icu_discharge": {"code": "NEVER"}}}))
    result = run("mortality", dataset, "--out", tmp_path / "labels", "--task", "in_icu_death_24h")
    assert "All labels are the same" in result.stderr
