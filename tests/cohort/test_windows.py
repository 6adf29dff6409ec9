"""Durations, and events at, just before and just after each bound."""

from datetime import timedelta
from typing import Any

import pytest

from caretrace.cohort import build_labels
from caretrace.cohort.task import parse_task
from caretrace.cohort.windows import parse_duration
from caretrace.errors import CohortError

H = timedelta(hours=1)
US = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("24h", 24), ("24 hours", 24), ("2 days", 48), ("1d", 24), ("6570d", 157_680), ("1 week", 168),
        ("90 min", 1.5), ("90m", 1.5), ("1.5 hrs", 1.5), ("1 day, 6 hours", 30), ("1d 6h", 30), ("3600s", 1),
        ("36:00:00", 36), ("1 day, 12:00:00", 36), ("90:00", 1.5),
    ],
)  # fmt: skip
def test_durations_read_as_pytimeparse_reads_them(text: str, hours: float) -> None:
    assert parse_duration(text, "here") == hours * H


@pytest.mark.parametrize("text", ["", "24", "1 month", "1y", "h", "-24h", "24h 1d"])
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(CohortError, match=r"here: .* is not a duration"):
        parse_duration(text, "here")


def counting_task(start: str | None, end: str | None, start_inclusive: bool, end_inclusive: bool) -> Any:
    """Label = whether X lies in the window; every trigger A is kept if the window's bounds exist."""
    windows = {
        "index": {
            "start": "trigger", "end": "start + 100h", "start_inclusive": True, "end_inclusive": True,
            "index_timestamp": "start",
        },
        "asked": {
            "start": start, "end": end, "start_inclusive": start_inclusive, "end_inclusive": end_inclusive,
            "label": "x",
        },
    }  # fmt: skip
    predicates = {"a": {"code": "A"}, "b": {"code": "B"}, "x": {"code": "X"}}
    return parse_task({"predicates": predicates, "trigger": "a", "windows": windows}, "t", "t.yaml")


# trigger A at 48 h. The window runs 24 h after it, or 24 h before it:
#
#      24 h        48 h        72 h
#       |-----------A-----------|
#       [ end - 24h ]
#                   [ start+24h ]
@pytest.mark.parametrize(("side", "low", "high"), [("after", 48, 72), ("before", 24, 48)])
@pytest.mark.parametrize("start_inclusive", [True, False])
@pytest.mark.parametrize("end_inclusive", [True, False])
def test_a_duration_window_takes_its_bounds_exactly_when_inclusive(
    make_dataset: Any, side: str, low: int, high: int, start_inclusive: bool, end_inclusive: bool
) -> None:
    bounds = ("trigger", "start + 24h") if side == "after" else ("end - 24h", "trigger")
    task = counting_task(*bounds, start_inclusive, end_inclusive)
    expected = {
        low * H - US: False, low * H: start_inclusive, low * H + US: True,
        high * H - US: True, high * H: end_inclusive, high * H + US: False,
    }  # fmt: skip
    rows = [(i, when, code) for i, x in enumerate(expected) for when, code in [(48 * H, "A"), (x, "X")]]
    labels = build_labels(make_dataset(rows), task).frame
    assert labels["boolean_value"].to_list() == list(expected.values())


# trigger A at 48 h; the window ends at the first B after it; B is an X too.
#
#                  A ------- B                 start_inclusive: X at A counts
#                 48 h                         end_inclusive: B at A ends it, and X at B counts
@pytest.mark.parametrize(
    ("start_inclusive", "end_inclusive", "event", "expected"),
    [
        (False, True, 48 * H - US, None), (False, True, 48 * H, False), (False, True, 48 * H + US, True),
        (True, True, 48 * H - US, None), (True, True, 48 * H, True), (True, True, 48 * H + US, True),
        (True, False, 48 * H - US, None), (True, False, 48 * H, None), (True, False, 48 * H + US, False),
        (False, False, 48 * H, None), (False, False, 48 * H + US, False),
    ],
)  # fmt: skip
def test_an_event_ends_a_window_at_or_after_its_start(
    make_dataset: Any, start_inclusive: bool, end_inclusive: bool, event: timedelta, expected: bool | None
) -> None:
    task = counting_task("trigger", "start -> b", start_inclusive, end_inclusive)
    # Subject 9 keeps the cohort from being empty.
    rows = [(1, 48 * H, "A"), (1, event, "B"), (1, event, "X"), (9, 0, "A"), (9, 1, "B")]
    labels = build_labels(make_dataset(rows), task)
    got = labels.frame.filter(subject_id=1)["boolean_value"].to_list()
    assert got == ([] if expected is None else [expected])
    # No end event: an exclusion that the attrition counts, never a negative.
    assert labels.attrition[-1].rule.startswith(
        "asked: a b after trigger (none recorded; outcome unreadable)"
    )
    assert labels.attrition[-1].removed == (1 if expected is None else 0)


@pytest.mark.parametrize(
    ("start_inclusive", "end_inclusive", "event", "expected"),
    [
        (True, False, 48 * H + US, None), (True, False, 48 * H, False), (True, False, 48 * H - US, True),
        (False, True, 48 * H, None), (False, True, 48 * H - US, False), (True, True, 48 * H, True),
    ],
)  # fmt: skip
def test_an_event_starts_a_window_at_or_before_its_end(
    make_dataset: Any, start_inclusive: bool, end_inclusive: bool, event: timedelta, expected: bool | None
) -> None:
    task = counting_task("end <- b", "trigger", start_inclusive, end_inclusive)
    rows = [(1, 48 * H, "A"), (1, event, "B"), (1, event, "X"), (9, 2, "A"), (9, 1, "B")]
    got = build_labels(make_dataset(rows), task).frame.filter(subject_id=1)["boolean_value"].to_list()
    assert got == ([] if expected is None else [expected])


def test_record_edges_bound_a_window(make_dataset: Any) -> None:
    rows = [(1, 48, "A"), (1, 0, "X"), (2, 48, "A"), (2, 90, "X"), (3, 48, "A"), (3, None, "X")]
    before = build_labels(make_dataset(rows), counting_task(None, "trigger", True, True)).frame
    assert before["boolean_value"].to_list() == [True, False, False]
    # Strictly after the trigger, subjects 1 and 3 have no record left to end a window.
    after = build_labels(make_dataset(rows), counting_task("trigger", None, False, False)).frame
    assert after.select("subject_id", "boolean_value").rows() == [(2, False)]
