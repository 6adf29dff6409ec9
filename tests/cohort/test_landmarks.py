"""Landmarks: one label per stay and landmark still at risk."""

from typing import Any

import pytest

from caretrace.cohort import build_labels
from caretrace.cohort.landmarks import split_by_landmark
from caretrace.cohort.task import parse_task
from caretrace.errors import CohortError

from .conftest import at


def task(index: str | None = None, landmarks: Any = ("24h", "2 days")) -> Any:
    flags = {"start_inclusive": False, "end_inclusive": True}
    windows: dict[str, Any] = {
        "at_risk": {"start": "trigger", "end": "start + landmark", "has": {"out": "(None, 0)"}, **flags},
        "target": {"start": "at_risk.end", "end": "start -> out", "label": "died", **flags},
    }
    if index:
        windows["input"] = {"start": None, "end": index, "index_timestamp": "end", **flags}
    return parse_task(
        {
            "predicates": {
                "in": {"code": "IN"},
                "out": {"code": {"regex": "^OUT"}},
                "died": {"code": "OUT//DIED"},
            },
            "trigger": "in",
            "landmarks": list(landmarks),
            "windows": windows,
        },
        "land",
        "land.yaml",
    )


# Landmarks at 24 h and 48 h:
#        0         24        48        72
#   1    IN         |         |         DIED     at risk at both
#   2    IN         |    OUT                     at risk at the first only
#   3    IN   OUT                                at risk at neither
ROWS = [
    (1, 0, "IN"), (1, 72, "OUT//DIED"),
    (2, 0, "IN"), (2, 36, "OUT//HOME"), (3, 0, "IN"), (3, 12, "OUT//HOME"),
]  # fmt: skip


@pytest.mark.parametrize("index", [None, "trigger + landmark"])
def test_one_label_per_landmark_still_at_risk(make_dataset: Any, index: str | None) -> None:
    labels = build_labels(make_dataset(ROWS), task(index))
    assert labels.frame.rows() == [(1, at(24), True), (1, at(48), True), (2, at(24), False)]
    rules = [(step.rule, step.removed, step.remaining) for step in labels.attrition]
    assert rules[:2] == [
        ("trigger: every in, at each of 2 landmarks", 0, 6),
        ("at_risk: no out in (trigger, trigger + landmark]", 3, 3),
    ]


def test_each_landmark_is_an_ordinary_task(make_dataset: Any) -> None:
    dataset = make_dataset(ROWS)
    singles = split_by_landmark(task())
    assert [single.name for single in singles.values()] == ["land_24h", "land_2_days"]
    assert "landmark" not in str(singles["24h"].to_dict()["windows"]["at_risk"])
    together = build_labels(dataset, task()).frame
    alone = [row for single in singles.values() for row in build_labels(dataset, single).frame.rows()]
    assert sorted(alone) == together.rows()


def test_the_prediction_time_of_a_landmark_task_is_the_landmark() -> None:
    with pytest.raises(CohortError, match="the prediction time is the landmark"):
        task("trigger + 12h")
    with pytest.raises(CohortError, match="each stands there once"):
        task(landmarks=["48h", "2 days"])
    with pytest.raises(CohortError, match="landmarks lie after the trigger"):
        task(landmarks=["0h"])
