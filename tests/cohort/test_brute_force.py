"""Every label and every attrition line against an obvious second computation in plain loops."""

from __future__ import annotations

import itertools
import random
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from caretrace.cohort.labels import label_triggers
from caretrace.cohort.predicates import evaluate
from caretrace.cohort.task import parse_task
from caretrace.errors import CohortError

BASE_TIME = datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times carry no zone
CODES = "ABCD"
PREDICATES = {
    "a": {"code": "A"},
    "bc": {"code": {"any": ["B", "C"]}},
    "low": {"code": {"regex": "^D"}, "value_max": 2, "value_max_inclusive": False},
    "either": {"expr": "or(a, low)"},
    "both": {"expr": "and(bc, either)"},
}
SPECIAL = ["_ANY_EVENT", "_RECORD_START", "_RECORD_END"]

Subject = dict[float, dict[str, int]]  # hour → predicate → count


def counts_of(rows: list[tuple[Any, ...]]) -> dict[int, Subject]:
    subjects: dict[int, Subject] = {}
    for subject, hour, code, value in rows:
        if hour is None:
            continue
        counts = subjects.setdefault(subject, {}).setdefault(hour, dict.fromkeys([*PREDICATES, *SPECIAL], 0))
        counts["_ANY_EVENT"] = 1
        counts["a"] += code == "A"
        counts["bc"] += code in "BC"
        counts["low"] += code == "D" and value is not None and value < 2
    for events in subjects.values():
        for hour, counts in events.items():
            counts["either"] = int(counts["a"] > 0 or counts["low"] > 0)
            counts["both"] = int(counts["bc"] > 0 and counts["either"] > 0)
            counts["_RECORD_START"] = int(hour == min(events))
            counts["_RECORD_END"] = int(hour == max(events))
    return subjects


def bound(told: str, base: float | None, included: bool, events: Subject) -> float | None:
    """The hour of `... + 6h`, `... -> p` or plain `...`, told from hour `base`."""
    if base is None or len(told.split()) == 1:
        return base
    _, operator, rest = told.split()
    if operator in "+-":
        return base + int(operator + rest[:-1])
    if operator == "->":
        later = [h for h in sorted(events) if events[h][rest] and (h > base or (included and h == base))]
        return later[0] if later else None
    earlier = [h for h in sorted(events) if events[h][rest] and (h < base or (included and h == base))]
    return earlier[-1] if earlier else None


def brute(
    task: dict[str, Any], rows: list[tuple[Any, ...]]
) -> tuple[dict[tuple[int, float], set[bool]], list[int]]:
    """Labels by (subject, hour), and how many candidates are left after each rule."""
    candidates = [
        (subject, events, place_all(task["windows"], hour, events))
        for subject, events in counts_of(rows).items()
        for hour in sorted(events)
        if events[hour][task["trigger"]]
    ]
    left = [len(candidates)]
    for name, window in task["windows"].items():
        sides = ["end", "start"] if window["start"].split()[0] == "end" else ["start", "end"]
        for side in sides:
            if "->" in window[side] or "<-" in window[side]:
                candidates = [c for c in candidates if c[2][f"{name}.{side}"] is not None]
                left.append(len(candidates))
        for predicate, (low, high) in window["has"].items():
            candidates = [c for c in candidates if low <= inside(c[2], name, window, c[1], predicate) <= high]
            left.append(len(candidates))
    labels: dict[tuple[int, float], set[bool]] = {}
    for subject, events, hours in candidates:
        value = inside(hours, "target", task["windows"]["target"], events, "low") > 0
        labels.setdefault((subject, hours["input.end"]), set()).add(value)
    return labels, left


def place_all(windows: dict[str, Any], trigger: float, events: Subject) -> dict[str, Any]:
    hours: dict[str, Any] = {"trigger": trigger}
    for name, window in windows.items():  # the strategy tells each window from an earlier one
        start, end = window["start"], window["end"]
        if start.split()[0] == "end":
            hours[f"{name}.end"] = bound(end, hours[end.split()[0]], False, events)
            hours[f"{name}.start"] = bound(start, hours[f"{name}.end"], window["start_inclusive"], events)
        else:
            hours[f"{name}.start"] = bound(start, hours[start.split()[0]], False, events)
            hours[f"{name}.end"] = bound(end, hours[f"{name}.start"], window["end_inclusive"], events)
    return hours


def inside(hours: dict[str, Any], name: str, window: dict[str, Any], events: Subject, predicate: str) -> int:
    start, end = hours[f"{name}.start"], hours[f"{name}.end"]
    if start is None or end is None:
        return 0
    total = 0
    for hour, counts in events.items():
        after = hour > start or (window["start_inclusive"] and hour == start)
        before = hour < end or (window["end_inclusive"] and hour == end)
        total += counts[predicate] if after and before else 0
    return total


names = st.sampled_from([*PREDICATES, *SPECIAL])
duration = st.sampled_from(["6h", "12h", "24h"])
later = names.filter(lambda n: n != "_RECORD_START")
earlier = names.filter(lambda n: n != "_RECORD_END")
limits = st.sampled_from([(0, 0), (1, 99), (0, 2), (0, 3), (0, 9)])
few_rows = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.one_of(st.none(), st.integers(0, 12).map(lambda n: 6 * n)),
        st.sampled_from(CODES),
        st.sampled_from([None, 1.0, 2.0, 3.0]),
    ),
    min_size=1,
    max_size=10,
)


def many_rows(seed: int) -> list[tuple[Any, ...]]:
    """Full records, unsorted, on a six-hour grid; hypothesis alone prefers nearly empty ones."""
    rng = random.Random(seed)
    return [
        (rng.randint(1, 6), 6 * rng.randint(0, 12), rng.choice(CODES), rng.choice([None, 1.0, 2.0]))
        for _ in range(rng.randint(20, 80))
    ]


@st.composite
def tasks(draw: st.DrawFn) -> dict[str, Any]:
    windows: dict[str, Any] = {}
    known = ["trigger"]
    for name in ("input", "gap", "target"):
        base = draw(st.sampled_from(known))
        moved = st.one_of(
            st.just(base),
            st.just(base),
            duration.map(lambda d, base=base: f"{base} + {d}"),
            duration.map(lambda d, base=base: f"{base} - {d}"),
            later.map(lambda p, base=base: f"{base} -> {p}"),
            earlier.map(lambda p, base=base: f"{base} <- {p}"),
        )
        root = draw(moved)
        forward = st.one_of(duration.map("start + {}".format), later.map("start -> {}".format))
        # A prediction time on `start: end - 6h` is refused, see test_task.
        back_offset = st.nothing() if name == "input" else duration.map("end - {}".format)
        backward = st.one_of(back_offset, earlier.map("end <- {}".format))
        ahead = draw(st.booleans())
        windows[name] = {
            "start": root if ahead else draw(backward),
            "end": draw(forward) if ahead else root,
            "start_inclusive": draw(st.booleans()),
            "end_inclusive": draw(st.booleans()),
            "has": draw(st.one_of(st.just({}), st.dictionaries(names, limits, min_size=1, max_size=2))),
        }
        known += [f"{name}.start", f"{name}.end"]
    return {"trigger": draw(st.sampled_from([*PREDICATES, "_ANY_EVENT"])), "windows": windows}


def as_task_file(task: dict[str, Any]) -> dict[str, Any]:
    windows = {
        name: {**window, "has": {p: f"({low}, {high})" for p, (low, high) in window["has"].items()}}
        for name, window in task["windows"].items()
    }
    windows["input"]["index_timestamp"] = "end"
    windows["target"]["label"] = "low"
    return {"predicates": PREDICATES, "trigger": task["trigger"], "windows": windows}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.one_of(few_rows, st.integers(0, 10**9).map(many_rows)), task=tasks())
def test_labels_and_attrition_are_those_of_plain_loops(make_dataset: Any, rows: Any, task: Any) -> None:
    expected, left = brute(task, rows)
    dataset = make_dataset(rows)
    parsed = parse_task(as_task_file(task), "t", "t.yaml").resolve(dataset)
    clash = any(len(values) > 1 for values in expected.values())
    event(f"clash {clash}, labels {len(expected) > 0}, positive {any(map(max, expected.values()))}")
    try:
        labelled, attrition = label_triggers(parsed, evaluate(dataset, parsed.predicates, parsed.referenced))
    except CohortError as error:
        refused = str(error)
        assert clash, refused
        return
    hours = [(time - BASE_TIME) / timedelta(hours=1) for time in labelled["prediction_time"]]
    got = zip(zip(labelled["subject_id"], hours, strict=True), labelled["boolean_value"], strict=True)
    assert dict(got) == {pair: values.pop() for pair, values in expected.items()}
    assert [step.remaining for step in attrition[: len(left)]] == left
    assert_adds_up(attrition)
    assert attrition[-1].remaining == labelled.height


def assert_adds_up(attrition: Any) -> None:
    for before, after in itertools.pairwise(attrition):
        assert before.remaining - after.removed == after.remaining
