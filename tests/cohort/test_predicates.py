"""Predicates on measurements: codes, values, and combinations at one event."""

from typing import Any

import pytest

from caretrace.cohort.predicates import evaluate, parse_predicate
from caretrace.errors import CohortError

ROWS = [
    (1, 0, "NA//mmol", 134.0), (1, 0, "NA//mmol", 136.0), (1, 6, "NA//mmol", 135.0),
    (1, 12, "NA//mmol", None),
    (1, 6, "ICU"), (2, 0, "NA//other", 100.0), (2, None, "SEX//F"), (1, None, "SEX//M"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"code": "NA//mmol"}, {(1, 0): 2, (1, 6): 1, (1, 12): 1}),
        ({"code": {"regex": "^NA//"}}, {(1, 0): 2, (1, 6): 1, (1, 12): 1, (2, 0): 1}),
        ({"code": {"any": ["ICU", "NA//other"]}}, {(1, 6): 1, (2, 0): 1}),
        # A measurement without a value fails every range.
        ({"code": "NA//mmol", "value_max": 135}, {(1, 0): 1}),
        ({"code": "NA//mmol", "value_max": 135, "value_max_inclusive": True}, {(1, 0): 1, (1, 6): 1}),
        ({"code": "NA//mmol", "value_min": 135, "value_min_inclusive": False}, {(1, 0): 1}),
        ({"code": "NA//mmol", "value_min": "134", "value_min_inclusive": True, "value_max": 136},
         {(1, 0): 1, (1, 6): 1}),
        ({"code": "SEX//F"}, {}),
    ],
)  # fmt: skip
def test_counts_per_event(make_dataset: Any, definition: Any, expected: dict[tuple[int, int], int]) -> None:
    predicate = parse_predicate(definition, "here")
    assert predicate is not None
    events = evaluate(make_dataset(ROWS), {"p": predicate}, ["p"])["p"]
    hours = (events["time"].dt.ordinal_day() - 1) * 24 + events["time"].dt.hour()
    assert dict(zip(zip(events["subject_id"], hours, strict=True), events["count"], strict=True)) == expected


def test_derived_predicates_hold_at_one_event(make_dataset: Any) -> None:
    definitions = {
        "na": {"code": "NA//mmol"}, "icu": {"code": "ICU"}, "both": {"expr": "and(na, icu)"},
        "deep": {"expr": "or(both, far)"}, "far": {"code": "NA//other"},
    }  # fmt: skip
    predicates = {name: parse_predicate(value, name) for name, value in definitions.items()}
    events = evaluate(make_dataset(ROWS), predicates, ["both", "deep", "_ANY_EVENT", "_RECORD_END"])
    assert events["both"].select("subject_id", "count").rows() == [(1, 1)]
    assert events["deep"].select("subject_id", "count").rows() == [(1, 1), (2, 1)]
    assert events["_ANY_EVENT"]["subject_id"].to_list() == [1, 1, 1, 2]
    assert events["_RECORD_END"]["time"].dt.hour().to_list() == [12, 0]


def test_a_static_predicate_chooses_subjects(make_dataset: Any) -> None:
    predicates: dict[str, Any] = {
        "female": parse_predicate({"code": "SEX//F", "static": True}, "female"),
        "na": parse_predicate({"code": {"regex": "^NA"}}, "na"),
        "na_female": parse_predicate({"expr": "and(na, female)"}, "na_female"),
    }
    events = evaluate(make_dataset(ROWS), predicates, ["na", "na_female", "_ANY_EVENT"])
    for found in events.values():
        assert found["subject_id"].to_list() == [2]
    predicates["any"] = parse_predicate({"expr": "or(na, female)"}, "any")
    with pytest.raises(CohortError, match=r"predicate any: .* holds at every event"):
        evaluate(make_dataset(ROWS), predicates, ["any"])
