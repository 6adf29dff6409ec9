import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caretrace.errors import BundleError
from caretrace.report import render_run_report

from . import example_run
from .pages import Page


def render(tmp_path: Path, **changes: Any) -> Page:
    page = Page(render_run_report(example_run.write_run(tmp_path / "run", **changes)))
    page.check()
    return page


def test_a_whole_run_has_every_section_and_figure(tmp_path: Path) -> None:
    page = render(tmp_path)
    sections = [values["id"] for tag, values in page.tags if tag == "section"]
    expected = (
        "summary cohort discrimination calibration decision comparators subgroups training quality limits"
    )
    assert sections == [*expected.split(), "making"]
    drawn = [tag for tag, _ in page.tags if tag == "svg"]
    assert len(drawn) == 2 + 2 + 3 * 2 + 1 + 1 + 2
    assert "caretrace evaluate" in page.text  # the commands to make it again
    assert "Not evaluated yet" not in page.text
    assert "nan" not in page.html.lower().replace("nanochat", "").split("<style>")[0]


def test_the_numbers_shown_are_those_of_the_json(tmp_path: Path) -> None:
    page = render(tmp_path)
    evaluation = example_run.evaluation()
    for values in [evaluation["metrics"], *evaluation["comparators"].values()]:
        for value in values.values():
            assert f"{value['value']:.3f} {value['low']:.3f} to {value['high']:.3f}" in page.text
    for differences in evaluation["paired"].values():
        for value in differences.values():
            shown = f"{value['difference']:+.3f} {value['low']:+.3f} to {value['high']:+.3f}".replace(
                "-", "−"
            )
            assert shown in page.text
    for row in example_run.attrition()["rules"]:
        assert f"{row['rule']} {row['removed']:,} {row['remaining']:,}" in page.text
    assert "221 of 1,565 (14.1 %)" in page.text
    assert "records 3,412,881 3,412,640 241 <0.1 % 3,398,002" in page.text
    assert "its outcomes were never published (4,000 rows)" in page.text


@pytest.mark.parametrize("part", ["epochs", "attrition", "evaluation", "curves", "quality", "subgroups"])
def test_a_missing_part_is_said_not_fatal(tmp_path: Path, part: str) -> None:
    page = render(tmp_path, **{part: None})
    if part in {"evaluation", "curves"}:
        assert f"run caretrace evaluate {tmp_path / 'run'}" in page.text


def test_a_run_with_nothing_but_run_json(tmp_path: Path) -> None:
    parts = dict.fromkeys(example_run.parts())
    page = render(tmp_path, **parts | {"run": {"application": "mortality"}})
    assert "Not evaluated yet" in page.text
    assert "Anything at all before it is evaluated" in page.text


@pytest.mark.parametrize("part", ["run", "evaluation", "curves", "attrition", "quality", "subgroups"])
def test_an_empty_part_is_drawn_as_far_as_it_goes(tmp_path: Path, part: str) -> None:
    render(tmp_path, **{part: {}})


def test_not_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"run\.json is missing.*caretrace train"):
        render_run_report(tmp_path)


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    run = example_run.write_run(tmp_path / "run")
    (run / "evaluation" / "evaluation.json").write_text('{"n": ')
    with pytest.raises(BundleError, match=r"evaluation\.json: not readable as JSON"):
        render_run_report(run)
    assert not (run / "report.html").exists()


def test_a_last_metrics_line_cut_short_is_left_out(tmp_path: Path) -> None:
    run = example_run.write_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"member": 2, "epoch": 1')
    Page(render_run_report(run)).check()


def test_hostile_names_are_escaped_everywhere(tmp_path: Path) -> None:
    hostile = "<script>alert('x')</script>\"&"
    parts = {name: poison(value, hostile) for name, value in example_run.parts().items()}
    page = Page(render_run_report(example_run.write_run(tmp_path / "run", **parts)))
    page.check()
    assert "<script" not in page.html
    assert "alert" in page.text


def poison(value: Any, hostile: str) -> Any:
    """Every string and every free name of a JSON value made hostile."""
    fixed = {"caretrace", "logistic", "boosted_trees"}
    if isinstance(value, str):
        return value if value in fixed else value + hostile
    if isinstance(value, list):
        return [poison(item, hostile) for item in value]
    if isinstance(value, dict):
        free = {
            "records",
            "outcomes",
            "number_unreadable",
            "python",
            "max_epochs",
            "train",
            "logistic",
            "calibration",
        }
        return {key + hostile if key in free else key: poison(item, hostile) for key, item in value.items()}
    return value


def test_hostile_model_names_reach_the_drawings_escaped(tmp_path: Path) -> None:
    evaluation, curves = example_run.evaluation(), example_run.curves()
    name = "</text><script>alert(1)</script>"
    for values in (evaluation["comparators"], evaluation["paired"], curves["models"]):
        values[name] = values.pop("logistic")
    page = render(tmp_path, evaluation=evaluation, curves=curves)
    assert "<script" not in page.html


def test_the_comparator_wins_and_the_page_says_so(tmp_path: Path) -> None:
    evaluation = example_run.evaluation()
    evaluation["paired"]["boosted_trees"]["auroc"] = {"difference": -0.03, "low": -0.05, "high": -0.01}
    evaluation["recommended"] = {
        "name": "boosted_trees",
        "reason": "boosted_trees ranks better than caretrace.",
    }
    page = render(tmp_path, evaluation=evaluation)
    assert "Use Boosted trees, not this model" in page.text
    assert "−0.030 (−0.050 to −0.010)" in page.text
    assert "comparator better (interval excludes 0)" in page.text


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.002, 0.02, "Use this model (for research)"), (-0.002, 0.02, "Not shown to beat Boosted trees")],
)
def test_the_verdict_follows_the_interval(tmp_path: Path, low: float, high: float, said: str) -> None:
    evaluation = example_run.evaluation()
    evaluation["paired"]["boosted_trees"]["auroc"] = {"difference": 0.009, "low": low, "high": high}
    assert said in render(tmp_path, evaluation=evaluation).text


def test_lower_is_better_for_errors(tmp_path: Path) -> None:
    text = render(tmp_path).text
    assert "Logistic Brier score −0.006 −0.010 to −0.003 this model better (interval excludes 0)" in text


@pytest.mark.parametrize(("positives", "too_small"), [(99, True), (100, False)])
def test_under_a_hundred_positives_nothing_is_claimed(
    tmp_path: Path, positives: int, too_small: bool
) -> None:
    page = render(tmp_path, evaluation=example_run.evaluation() | {"positives": positives})
    assert ("Too small to judge" in page.text) == too_small


@pytest.mark.parametrize(("source", "said"), [("hospital", True), ("physionet_2012", False)])
def test_simulated_data_is_called_so(tmp_path: Path, source: str, said: bool) -> None:
    page = render(tmp_path, run=example_run.run() | {"source": source})
    assert ("the data are simulated" in page.text) == said


def test_a_red_gate_becomes_a_limit(tmp_path: Path) -> None:
    gates = {"calibration": {"passed": False, "value": 0.091, "bound": 0.05}}
    page = render(tmp_path, evaluation=example_run.evaluation() | {"gates": gates})
    assert (
        "Reading its scores as risks: the gate “Calibration” failed (measured 0.091, bound 0.050)"
        in page.text
    )


def test_figures_on_training_subjects_are_not_quoted(tmp_path: Path) -> None:
    page = render(tmp_path, evaluation=example_run.evaluation() | {"split": "train"})
    assert "they were not computed on held-out subjects" in page.text


def test_judged_on_another_dataset(tmp_path: Path) -> None:
    elsewhere = {"path": "data/other-hospital", "fingerprint": "ab"}
    page = render(tmp_path, evaluation=example_run.evaluation() | {"dataset": elsewhere, "split": "all"})
    assert "of another dataset, other-hospital," in page.text


def test_the_task_file_asks_the_question(tmp_path: Path) -> None:
    run = example_run.write_run(tmp_path / "run")
    (run / "labels" / "task.yaml").write_text(
        "description: >-\n  Death within 48 h. Stays under\n  a day are left out.\n"
    )
    text = Page(render_run_report(run)).text
    assert "Death within 48 h. The model" in text
    assert "Death within 48 h. Stays under a day are left out." in text


def test_values_that_are_not_finite_are_left_out_of_figures(tmp_path: Path) -> None:
    curves = example_run.curves()
    curves["models"]["caretrace"]["pr"]["precision"][0] = None
    curves["models"]["caretrace"]["calibration"]["low"][3] = None
    page = render(tmp_path, curves=curves)
    assert "nan" not in page.html.split("</style>")[1]


def test_the_commands_repeat_every_setting(tmp_path: Path) -> None:
    text = render(tmp_path).text
    assert "--set training.max_epochs=40" in text
    assert """--set 'training.streams=["lab", "vital"]'""" in text


def test_the_report_goes_where_it_is_told(tmp_path: Path) -> None:
    run = example_run.write_run(tmp_path / "run")
    out = tmp_path / "deep" / "page.html"
    assert render_run_report(run, out) == out
    assert not (run / "report.html").exists()
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_no_torch_is_imported() -> None:
    code = "import sys, caretrace.report; print('torch' in sys.modules, 'lightning' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from caretrace.cli.report import command

    run = example_run.write_run(tmp_path / "run", evaluation=None, curves=None)
    command(run, None, as_json=True, quiet=False)
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert Path(answer["report"]).stat().st_size == answer["bytes"]
    assert answer["evaluated"] is False
    assert "caretrace evaluate" in captured.err
