"""Task files: strict, and those of ACES and MEDS-DEV as they are."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caretrace.cohort.task import parse_task, read_task
from caretrace.errors import CohortError

# The shape of MEDS-DEV's files: metadata with a description, `???` in three spellings, NULL, bare flags.
MEDS_DEV = """
metadata:
  description: >-
    Readmission.
  links: []
  contacts: [{name: "Somebody", github_username: "somebody"}]
  supported_datasets: [MIMIC-IV]
predicates:
  icu_admission: ???
  icu_discharge:
    code: ???
  low_sodium:
    code: null
    value_max: 135 # mEq/L
    value_max_inclusive: False
  death:
    code: { regex: "MEDS_DEATH.*" }
  discharge_or_death:
    expr: or(icu_discharge, death)
trigger: icu_admission
windows:
  input:
    start: NULL
    end: trigger + 24h
    start_inclusive: True
    end_inclusive: True
    index_timestamp: end
    has:
      low_sodium: (None, 0)
  censoring:
    start: input.end
    end: null
    start_inclusive: False
    end_inclusive: True
    has:
      _ANY_EVENT: (1, None)
  target:
    start: input.end
    end: start -> discharge_or_death
    start_inclusive: False
    end_inclusive: True
    label: death
"""

BASE: dict[str, Any] = {
    "predicates": {"a": {"code": "A"}, "b": {"code": "B"}},
    "trigger": "a",
    "windows": {
        "input": {
            "start": None,
            "end": "trigger + 24h",
            "start_inclusive": True,
            "end_inclusive": True,
            "index_timestamp": "end",
        },
        "target": {
            "start": "input.end",
            "end": "start -> b",
            "start_inclusive": False,
            "end_inclusive": True,
            "label": "b",
        },
    },
}


def test_a_meds_dev_file_is_read_filled_and_written_back(
    make_dataset: Any, write_task: Callable[[str], Path]
) -> None:
    task = read_task(write_task(MEDS_DEV))
    assert task.description == "Readmission."
    assert [name for name, p in task.predicates.items() if p is None] == [
        "icu_admission",
        "icu_discharge",
        "low_sodium",
    ]
    dataset = make_dataset(
        [(1, 0, "IN")],
        {
            "icu_admission": {"code": "IN"},
            "icu_discharge": {"expr": "or(home, ward)"},
            "home": {"code": "HOME"},
            "ward": {"code": "WARD"},
            "low_sodium": {"code": "NA", "value_max": 130.5},
            "death": {"code": "OTHER"},
            "unused": {"code": "X"},
        },
    )
    resolved = task.resolve(dataset)
    assert set(resolved.predicates) == {
        "icu_admission", "icu_discharge", "home", "ward", "low_sodium", "death", "discharge_or_death",
    }  # fmt: skip
    assert resolved.to_dict()["predicates"]["low_sodium"] == {
        "code": "NA", "value_max": 130.5, "value_max_inclusive": False,
    }  # fmt: skip
    # Defined by both: the task wins.
    assert resolved.to_dict()["predicates"]["death"] == {"code": {"regex": "MEDS_DEATH.*"}}
    path = write_task(resolved.to_yaml())
    again = read_task(path)
    assert again.windows == resolved.windows
    assert again.predicates == resolved.predicates


def test_a_predicate_that_nobody_defines_is_named_with_file_and_remedy(make_dataset: Any) -> None:
    value = copy.deepcopy(BASE)
    value["predicates"]["b"] = "???"
    dataset = make_dataset([(1, 0, "A")], {"bb": {"code": "B"}})
    task = parse_task(value, "t", "t.yaml")
    assert task.missing(dataset) == ["b"]
    with pytest.raises(
        CohortError, match=r"t.yaml: .*'b'.*predicates.yaml.*did you mean 'bb'.*add to that file"
    ):
        task.resolve(dataset)
    with pytest.raises(CohortError, match="it defines none"):
        task.resolve(make_dataset([(1, 0, "A")]))


def edit(*path: str, to: Any) -> dict[str, Any]:
    value = copy.deepcopy(BASE)
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return value


def given(key: str, to: Any) -> dict[str, Any]:
    return edit("windows", "input", key, to=to)


def asked(key: str, to: Any) -> dict[str, Any]:
    return edit("windows", "target", key, to=to)


def named(key: str, to: Any) -> dict[str, Any]:
    return edit("predicates", key, to=to)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (edit("triggr", to="a"), r"t.yaml: unknown key 'triggr': did you mean 'trigger'"),
        (edit("trigger", to=None), r"t.yaml: trigger: got None"),
        (edit("windows", to=None), r"windows: got None"),
        (given("strat", to=None), r"windows.input: unknown key 'strat': did you mean 'start'"),
        (given("start_inclusive", to="yes"), r"start_inclusive: got 'yes'; write True or False"),
        (given("end", to="start + 24 parsecs"), r"windows.input.end: '24 parsecs' is not"),
        (given("end", to="trigger ~ 24h"), r"windows.input.end: cannot read"),
        (given("end", to=24), r"windows.input.end: got 24"),
        (given("end", to=None), r"cannot run from the start to the end of the record"),
        (given("index_timestamp", to="middle"), r"index_timestamp: got 'middle'"),
        (given("index_timestamp", to=None), r"no window has index_timestamp"),
        (asked("label", to=None), r"no window has label"),
        (given("label", to="a"), r"input, target all have label; keep one"),
        (asked("start", to="inptu.end"), r"unknown bound 'inptu.end': did you mean 'input.end'"),
        (asked("start", to="target.end"), r"told from each other|told from"),
        (asked("end", to="start <- b"), r"ends before it starts"),
        (asked("end", to="start - 24h"), r"ends before it starts"),
        (asked("end", to="start + 0h"), r"has no length"),
        (asked("end", to="trigger + 48h"), r"tell exactly one bound from the other"),
        (asked("end", to="start -> _RECORD_START"), r"_RECORD_START never lies on that side"),
        (given("start", to="end - 24h"), r"index_timestamp on a window with `start: end - 24h`"),
        (given("has", to={"b": "(2, 1)"}), r"has.b: got '\(2, 1\)'"),
        (given("has", to={"b": "(None, None)"}), r"has.b: got"),
        (given("has", to={"b": "never"}), r"has.b: got 'never'"),
        (named("a", to={"code": 25002}), r"predicates.a.code: got 25002; write one code as text"),
        (named("a", to={"code": {"regex": "("}}), r"predicates.a.code.regex: '\(' is not a regular"),
        (named("a", to={"code": {"all": ["A"]}}), r"predicates.a.code: got"),
        (named("a", to={"cod": "A"}), r"predicates.a: unknown key 'cod': did you mean 'code'"),
        (named("a", to={"expr": "or(b)"}), r"predicates.a.expr: got 'or\(b\)'"),
        (named("a", to={"expr": "or(b, and(b, b))"}), r"nested expression a name of its own"),
        (named("a", to={"expr": "or(b, _RECORD_END)"}), r"_RECORD_END can stand in `has`"),
        (named("a", to={"code": "A", "value_min": "low"}), r"value_min: got 'low'; write a number"),
        (named("time", to={"code": "A"}), r"predicates.time: a predicate's name"),
        (named("a", to="A"), r"predicates.a: got 'A'"),
        (edit("landmarks", to=["24h"]), r"go together"),
        (edit("landmarks", to="24h"), r"landmarks: got '24h'; write a list"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_task_is_refused_with_file_key_and_remedy(
    value: dict[str, Any], message: str
) -> None:
    with pytest.raises(CohortError, match=message):
        parse_task(value, "t", "t.yaml")


def test_predicates_defined_by_each_other_are_refused(make_dataset: Any) -> None:
    from caretrace.cohort import build_labels

    value = copy.deepcopy(BASE)
    value["predicates"]["a"] = {"expr": "or(b, c)"}
    value["predicates"]["c"] = {"expr": "and(a, b)"}
    with pytest.raises(CohortError, match="a, c are defined by each other"):
        build_labels(make_dataset([(1, 0, "A")]), parse_task(value, "t", "t.yaml"))


def test_a_missing_file_and_bad_yaml_are_cohort_errors(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"nowhere.yaml: no such file"):
        read_task(tmp_path / "nowhere.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(CohortError, match=r"bad.yaml: not readable as YAML"):
        read_task(tmp_path / "bad.yaml")
