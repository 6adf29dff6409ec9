"""Predicates: named tests on measurements, read strictly and evaluated lazily.

A predicate is plain (a code, possibly with a value range), derived (`or(a, b)`, `and(a, b)` on events) or a
placeholder (`???`) that the dataset fills. The vocabulary and its meaning are those of ACES 0.7
(https://github.com/justin13601/ACES): counts are per event, that is per subject and time; a missing
numeric value fails every range.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import polars as pl

from caretrace import schema
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, unknown_name

ANY_EVENT = "_ANY_EVENT"
RECORD_START = "_RECORD_START"
RECORD_END = "_RECORD_END"
SPECIAL = (ANY_EVENT, RECORD_START, RECORD_END)
PLACEHOLDER = "???"

COUNT = "count"  # how many measurements of an event satisfy the predicate


@dataclasses.dataclass(frozen=True)
class PlainPredicate:
    """A test on one measurement; every part that is given must hold.

    Args:
        codes: Codes that satisfy it (one for `code: X`, several for `code: {any: [...]}`).
        regex: Pattern found anywhere in the code (Rust syntax, as in Polars), instead of `codes`.
        value_min: Lower bound of `numeric_value`, in the unit of the code.
        value_max: Upper bound of `numeric_value`, in the unit of the code.
        value_min_inclusive: Whether a value equal to `value_min` satisfies it.
        value_max_inclusive: Whether a value equal to `value_max` satisfies it.
        text_value: Text that must be equal, or None.
        static: The measurement has no time (a demographic); only subjects who have it are kept.
    """

    codes: tuple[str, ...] = ()
    regex: str | None = None
    value_min: float | None = None
    value_max: float | None = None
    value_min_inclusive: bool = False
    value_max_inclusive: bool = False
    text_value: str | None = None
    static: bool = False

    def expression(self) -> pl.Expr:
        """True on each measurement that satisfies the predicate, never null."""
        code, value = pl.col(schema.CODE), pl.col(schema.NUMERIC_VALUE)
        if self.regex is not None:
            tests = [code.str.contains(self.regex)]
        else:
            tests = [code == self.codes[0] if len(self.codes) == 1 else code.is_in(self.codes)]
        if self.value_min is not None:
            tests.append(value >= self.value_min if self.value_min_inclusive else value > self.value_min)
        if self.value_max is not None:
            tests.append(value <= self.value_max if self.value_max_inclusive else value < self.value_max)
        if self.text_value is not None:
            tests.append(pl.col(schema.TEXT_VALUE) == self.text_value)
        return pl.all_horizontal(tests).fill_null(False)

    def to_dict(self) -> dict[str, Any]:
        """The predicate in the vocabulary of task files."""
        plain_code = self.codes[0] if len(self.codes) == 1 else {"any": list(self.codes)}
        value: dict[str, Any] = {"code": {"regex": self.regex} if self.regex is not None else plain_code}
        for bound in ("value_min", "value_max"):
            if getattr(self, bound) is not None:
                value[bound] = getattr(self, bound)
                value[f"{bound}_inclusive"] = getattr(self, f"{bound}_inclusive")
        if self.text_value is not None:
            value["text_value"] = self.text_value
        if self.static:
            value["static"] = True
        return value


@dataclasses.dataclass(frozen=True)
class DerivedPredicate:
    """`and(...)` or `or(...)` of other predicates at one event; counts as 0 or 1.

    Args:
        kind: Whether all inputs must hold at the event, or any.
        inputs: Names of two or more predicates.
    """

    kind: Literal["and", "or"]
    inputs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The predicate in the vocabulary of task files."""
        return {"expr": f"{self.kind}({', '.join(self.inputs)})"}


Predicate = PlainPredicate | DerivedPredicate

_PLAIN_KEYS = [
    *(f.name for f in dataclasses.fields(PlainPredicate) if f.name not in ("codes", "regex")),
    "code",
]


def parse_predicate(value: Any, where: str) -> Predicate | None:
    """Read one predicate of a task file or of a dataset's `predicates.yaml`.

    Args:
        value: What stands after the predicate's name.
        where: File and key, for messages.

    Returns:
        The predicate, or None for a placeholder (`???`, `code: ???`, `code: null`).

    Raises:
        CohortError: Not a predicate; the message names file, key and remedy.
    """
    if value is None or value == PLACEHOLDER:
        return None
    if not isinstance(value, Mapping):
        raise CohortError(
            f"{where}: got {value!r}; write `code: ...`, `expr: or(a, b)` or ??? for the dataset to fill"
        )
    if "expr" in value:
        return _parse_derived(value, where)
    for key in value:
        if key not in _PLAIN_KEYS:
            raise CohortError(f"{where}: " + unknown_name("key", str(key), [*_PLAIN_KEYS, "expr"]))
    if value.get("code") is None or value["code"] == PLACEHOLDER:
        return None
    codes, regex = _parse_code(value["code"], f"{where}.code")
    text = value.get("text_value")
    if text is not None and not isinstance(text, str):
        raise CohortError(f"{where}.text_value: got {text!r}; write the text in quotes")
    return PlainPredicate(
        codes=codes,
        regex=regex,
        value_min=_parse_number(value.get("value_min"), f"{where}.value_min"),
        value_max=_parse_number(value.get("value_max"), f"{where}.value_max"),
        value_min_inclusive=parse_flag(
            value.get("value_min_inclusive") or False, f"{where}.value_min_inclusive"
        ),
        value_max_inclusive=parse_flag(
            value.get("value_max_inclusive") or False, f"{where}.value_max_inclusive"
        ),
        text_value=text,
        static=parse_flag(value.get("static", False), f"{where}.static"),
    )


def parse_flag(value: Any, where: str) -> bool:
    """A YAML true or false.

    Raises:
        CohortError: Anything else.
    """
    if not isinstance(value, bool):
        raise CohortError(f"{where}: got {value!r}; write True or False")
    return value


def evaluate(
    dataset: Dataset, predicates: Mapping[str, Predicate], needed: Iterable[str]
) -> dict[str, pl.DataFrame]:
    """Find the events at which each needed predicate holds.

    The data are scanned lazily; only events at which a predicate holds are kept in memory.

    Args:
        dataset: The dataset to look into.
        predicates: Every predicate by name; derived ones find their inputs here. Static ones restrict the
            subjects to those who have all of them.
        needed: Names of predicates, `_ANY_EVENT`, `_RECORD_START` and `_RECORD_END` included.

    Returns:
        For each name a frame `subject_id, time, count`, one row per event with a count above zero, sorted.

    Raises:
        CohortError: A derived predicate uses a static one in a way that would hold at every event.
    """
    timed = dataset.scan().filter(pl.col(schema.TIME).is_not_null())
    static = {name: p for name, p in predicates.items() if isinstance(p, PlainPredicate) and p.static}
    if static:
        timed = timed.join(_subjects_with(dataset, list(static.values())), on=schema.SUBJECT_ID, how="semi")
    hits = _events_of_plain(timed, predicates)
    for name in derived_order(predicates):
        derived = predicates[name]
        assert isinstance(derived, DerivedPredicate)
        hits = hits.with_columns(_derived_expression(name, derived, static).cast(pl.Int64).alias(name))
    frames: dict[str, pl.DataFrame] = {}
    for name in needed:
        if name in SPECIAL:
            frames[name] = _special_events(timed, name)
        else:
            frames[name] = hits.filter(pl.col(name) > 0).select(
                schema.SUBJECT_ID, schema.TIME, pl.col(name).alias(COUNT)
            )
    return frames


def derived_order(predicates: Mapping[str, Predicate]) -> list[str]:
    """Names of the derived predicates, inputs before users.

    Raises:
        CohortError: Predicates that are defined by each other.
    """
    order: list[str] = []
    waiting = {name: p for name, p in predicates.items() if isinstance(p, DerivedPredicate)}
    while waiting:
        ready = [name for name, p in waiting.items() if not any(source in waiting for source in p.inputs)]
        if not ready:
            raise CohortError(
                f"predicates {', '.join(sorted(waiting))} are defined by each other; break the circle"
            )
        order += ready
        for name in ready:
            del waiting[name]
    return order


def _parse_derived(value: Mapping[str, Any], where: str) -> DerivedPredicate:
    for key in value:
        if key != "expr":
            raise CohortError(
                f"{where}: a predicate with `expr` takes no {key!r}; give {key!r} to its inputs"
            )
    match = re.fullmatch(r"\s*(and|or)\((.*)\)\s*", str(value["expr"]))
    inputs = tuple(part.strip() for part in match[2].split(",")) if match else ()
    if match is None or len(inputs) < 2 or not all(re.fullmatch(r"\w+", name) for name in inputs):
        raise CohortError(
            f"{where}.expr: got {value['expr']!r}; write or(a, b) or and(a, b) with two or more "
            "predicate names, and give a nested expression a name of its own"
        )
    return DerivedPredicate("and" if match[1] == "and" else "or", inputs)


def _parse_code(value: Any, where: str) -> tuple[tuple[str, ...], str | None]:
    if isinstance(value, str) and value:
        return (value,), None
    if isinstance(value, Mapping) and len(value) == 1:
        (kind, inner), *_ = value.items()
        if kind == "regex" and isinstance(inner, str) and inner:
            try:
                pl.Series([""]).str.contains(inner)
            except pl.exceptions.ComputeError as error:
                raise CohortError(f"{where}.regex: {inner!r} is not a regular expression: {error}") from None
            return (), inner
        if (
            kind == "any"
            and isinstance(inner, list)
            and inner
            and all(isinstance(code, str) for code in inner)
        ):
            return tuple(inner), None
    raise CohortError(
        f"{where}: got {value!r}; write one code as text (in quotes if it looks like a number), "
        "{regex: pattern} or {any: [code, code]}"
    )


def _parse_number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise CohortError(f"{where}: got {value!r}; write a number in the unit of the code")
    return number


def _events_of_plain(timed: pl.LazyFrame, predicates: Mapping[str, Predicate]) -> pl.DataFrame:
    tests = {
        name: predicate.expression()
        for name, predicate in predicates.items()
        if isinstance(predicate, PlainPredicate) and not predicate.static
    }
    keys = [schema.SUBJECT_ID, schema.TIME]
    if not tests:
        return timed.select(keys).head(0).collect()
    return (
        timed.select(*keys, *(test.alias(name) for name, test in tests.items()))
        .filter(pl.any_horizontal(list(tests)))
        .group_by(keys)
        .agg(pl.col(name).sum().cast(pl.Int64) for name in tests)
        .sort(keys)
        .collect(engine="streaming")
    )


def _derived_expression(name: str, derived: DerivedPredicate, static: Mapping[str, Predicate]) -> pl.Expr:
    # Every subject left has all the static predicates, so they hold at each event.
    inputs = [pl.col(source) > 0 for source in derived.inputs if source not in static]
    if len(inputs) < len(derived.inputs) and (derived.kind == "or" or not inputs):
        raise CohortError(
            f"predicate {name}: {derived.kind}({', '.join(derived.inputs)}) holds at every event, "
            f"because a static predicate does; use {ANY_EVENT} instead, "
            "or and(...) with a predicate that has a time"
        )
    return pl.all_horizontal(inputs) if derived.kind == "and" else pl.any_horizontal(inputs)


def _special_events(timed: pl.LazyFrame, name: str) -> pl.DataFrame:
    keys = [schema.SUBJECT_ID, schema.TIME]
    if name == ANY_EVENT:
        events = timed.select(keys).unique()
    else:
        edge = pl.col(schema.TIME).min() if name == RECORD_START else pl.col(schema.TIME).max()
        events = timed.group_by(schema.SUBJECT_ID).agg(edge)
    return events.sort(keys).with_columns(pl.lit(1, pl.Int64).alias(COUNT)).collect(engine="streaming")


def _subjects_with(dataset: Dataset, static: Sequence[PlainPredicate]) -> pl.LazyFrame:
    return (
        dataset.scan()
        .filter(pl.col(schema.TIME).is_null())
        .group_by(schema.SUBJECT_ID)
        .agg(predicate.expression().any().alias(str(index)) for index, predicate in enumerate(static))
        .filter(pl.all_horizontal(str(index) for index in range(len(static))))
        .select(schema.SUBJECT_ID)
    )
