"""`caretrace generate`, and what it says when it cannot."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from caretrace.apps.synth.codes.sequences import Records
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.export import read_subjects
from caretrace.apps.synth.models.counting import CountGenerator
from caretrace.apps.synth.models.storing import save_generator
from caretrace.cli import build_app
from caretrace.errors import BundleError, ConfigError
from caretrace.evaluation.histories import Histories
from caretrace.files import write_json

VOCABULARY = Vocabulary.of(["25000", "4019"])


@pytest.fixture
def run(tmp_path):
    h = Histories([60] * 20, [0, 1] * 10, [1] * 20, [1] * 20, np.arange(20) % 2, VOCABULARY.n_codes)
    save_generator(CountGenerator.fit(Records(h), VOCABULARY, "marginals"), tmp_path / "run" / "bundle")
    write_json(tmp_path / "run" / "run.json", {"application": "synth"})
    return tmp_path / "run"


def test_generate_writes_what_was_asked_for(run, tmp_path):
    out = tmp_path / "out"
    arguments = ["generate", str(run), "--n", "30", "--age", "44", "--sex", "M", "--format", "omop"]
    done = CliRunner().invoke(build_app(), [*arguments, "--out", str(out), "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    read = read_subjects(out, "omop", VOCABULARY)
    assert said["subjects"] == len(read) == 30
    assert said["visits"] == len(read.code_count)
    assert set(read.age.tolist()) == {44}
    assert set(read.sex.tolist()) == {1}


def test_a_run_of_another_application_writes_no_histories(run, tmp_path):
    write_json(run / "run.json", {"application": "mortality"})
    arguments = ["generate", str(run), "--n", "3", "--out", str(tmp_path / "out")]
    failed = CliRunner().invoke(build_app(), arguments)
    assert isinstance(failed.exception, ConfigError)
    assert "mortality cannot generate; those that can: synth" in str(failed.exception)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run_is_told(tmp_path):
    failed = CliRunner().invoke(
        build_app(), ["generate", str(tmp_path), "--n", "3", "--out", str(tmp_path / "o")]
    )
    assert isinstance(failed.exception, BundleError)
    assert "is not a run" in str(failed.exception)
