"""Every mistake a user can mend: one line that says how, exit code 1, and nothing written."""

import json
import shutil
import signal

import pytest

from caretrace import cli


@pytest.fixture
def places(tiny_dataset, tiny_run, tmp_path):
    """Names for what a command line may mention."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("precious")
    (tmp_path / "file").write_text("")
    return {"DATA": tiny_dataset, "RUN": tiny_run, "TMP": tmp_path}


def filled(arguments, places):
    for name, path in places.items():
        arguments = [each.replace(name, str(path)) for each in arguments]
    return arguments


TRAIN = ["train", "mortality", "DATA", "--out", "TMP/run"]

MISTAKES = {
    "a dataset that is not there": (
        ["train", "mortality", "TMP/nowhere", "--out", "TMP/run"],
        "nowhere: no such dataset folder; make one with `caretrace ingest",
    ),
    "a folder that is no dataset": (["inspect", "TMP/taken"], "is not a MEDS dataset: data is missing"),
    "a run folder that is taken": (
        ["train", "mortality", "DATA", "--out", "TMP/taken"],
        "taken already exists: choose another output path",
    ),
    "an unknown application": (
        ["train", "mortalty", "DATA", "--out", "TMP/run"],
        "unknown application 'mortalty': did you mean 'mortality'?",
    ),
    "an unknown backbone": ([*TRAIN, "--backbone", "grru"], "unknown backbone 'grru': did you mean 'gru'?"),
    "an unknown setting": (
        [*TRAIN, "--set", "training.member=1"],
        "unknown setting 'training.member': did you mean 'training.members'?",
    ),
    "a setting of the wrong kind": (
        [*TRAIN, "--set", "d_model=wide"],
        "d_model: expected a value of kind int, got 'wide'",
    ),
    "a setting without a value": ([*TRAIN, "--set", "d_model"], "--set 'd_model': write it as key=value"),
    "a setting that cannot be": (
        [*TRAIN, "--set", "training.learning_rate=-1"],
        "training.learning_rate: got -1.0, it must be above 0",
    ),
    "an unknown task": (
        [*TRAIN, "--task", "in_icu_death_24"],
        "'in_icu_death_24': did you mean 'in_icu_death_24h'?",
    ),
    "a config file that is not there": ([*TRAIN, "--config", "TMP/no.yaml"], "no.yaml: no such file"),
    "labels that are not there": (
        [*TRAIN, "--labels", "TMP/no"],
        "no such labels; make them with `caretrace cohort",
    ),
    "a resume of nothing": ([*TRAIN, "--resume"], "is not a run: run.json is missing"),
    "an evaluation of nothing": (["evaluate", "TMP/taken"], "is not a run: run.json is missing"),
    "a prediction by nothing": (
        ["predict", "TMP/no", "DATA", "--out", "TMP/p.parquet"],
        "is not a run: run.json is missing",
    ),
    "a report of nothing": (["report", "TMP/no"], "run"),
    "an unknown split to judge": (
        ["evaluate", "COPY", "--split", "heldout"],
        "unknown split 'heldout': did you mean 'held_out'?",
    ),
    "an unknown split to predict": (
        ["predict", "RUN", "DATA", "--out", "TMP/p.parquet", "--split", "test"],
        "unknown split 'test'",
    ),
    "predictions that are there": (
        ["predict", "RUN", "DATA", "--out", "TMP/taken"],
        "taken already exists: choose another output path",
    ),
    "an unknown task of a cohort": (
        ["cohort", "mortality", "DATA", "--task", "in_icu_deat_24h", "--out", "TMP/labels"],
        "did you mean 'in_icu_death_24h'?",
    ),
    "an unknown source": (["ingest", "mimc_iv", "TMP/taken", "TMP/out"], "did you mean 'mimic-iv'?"),
    "raw tables that are not there": (["ingest", "mimic-iv", "TMP/no", "TMP/out"], "no"),
    "a place where nothing can be written": (
        ["predict", "RUN", "DATA", "--out", "TMP/file/p.parquet"],
        "file: File exists; check the path, its permissions and the space left",
    ),
    "a demo where something is": (["demo", "--out", "TMP/taken"], "taken already exists"),
    "a simulation where something is": (["simulate", "TMP/taken"], "taken already exists"),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_gets_one_line_and_leaves_nothing(caretrace, places, tmp_path, mistake):
    arguments, told = MISTAKES[mistake]
    if "COPY" in arguments:
        places["COPY"] = tmp_path / "copy"
        shutil.copytree(places["RUN"], places["COPY"])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    answer = caretrace(*filled(arguments, places), "--quiet")
    assert answer.code == 1, answer.err
    assert answer.out == ""
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("caretrace: ")
    assert told in answer.err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["trian"],
        ["train"],
        ["train", "mortality"],
        ["train", "mortality", "DATA"],
        [*TRAIN, "--bacbone", "gru"],
        [*TRAIN, "--backbone"],
        ["evaluate", "RUN", "--replicates", "many"],
        ["evaluate", "RUN", "--replicates", "3"],
        ["demo", "--subjects", "1"],
        ["inspect", "DATA", "--codes", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(caretrace, places, arguments):
    answer = caretrace(*filled(arguments, places))
    assert answer.code == 2
    assert answer.out == ""
    assert "Usage: caretrace" in answer.err or "Error" in answer.err
    assert "Traceback" not in answer.err


def test_the_message_is_whole_however_narrow_the_terminal(caretrace, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    answer = caretrace("inspect", tmp_path / "nowhere")
    assert answer.err.count("\n") == 1
    assert "`caretrace ingest SOURCE RAW" in answer.err


def test_what_looks_like_markup_is_printed_as_it_is(caretrace, tmp_path):
    answer = caretrace("inspect", tmp_path / "[bold]x[/bold]")
    assert "[bold]x[/bold]: no such dataset folder" in answer.err


def test_a_mistake_under_json_prints_no_json(caretrace, tmp_path):
    answer = caretrace("inspect", tmp_path / "nowhere", "--json")
    assert (answer.code, answer.out) == (1, "")


def test_an_interrupted_training_says_how_to_go_on(caretrace, places, tmp_path, monkeypatch):
    from caretrace.data.module import SampleModule

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(SampleModule, "val_dataloader", interrupted)
    answer = caretrace(*filled(TRAIN, places), "--quiet", "--set", "training.members=1")
    assert answer.code == 1
    assert "run is there, the same command with --resume goes on" in answer.err
    assert answer.err.startswith("caretrace: interrupted")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert json.loads((tmp_path / "run" / "run.json").read_text())["application"] == "mortality"


def test_ctrl_c_that_a_query_sees_first_ends_as_ctrl_c(monkeypatch):
    def stopped(said):
        def app(**_):
            raise RuntimeError(said)

        monkeypatch.setattr(cli, "build_app", lambda: app)
        cli.main()

    with pytest.raises(SystemExit, match="130"):
        stopped("Query interrupted")
    with pytest.raises(RuntimeError, match="a fault"):
        stopped("a fault")
