"""Windows of a task: read strictly, placed on the clock of each trigger, and counted.

A window has two bounds. One, the root, is told from the trigger or from another window's bound; the other is
told from the root: by a duration (`start + 48h`) or by an event (`start -> death`, `end <- admission`).
`null` is the start or the end of the record.

Inclusivity follows ACES 0.7 (https://github.com/justin13601/ACES, `aces/aggregate.py`):
- a count takes an event at the start (end) exactly when `start_inclusive` (`end_inclusive`);
- `start -> x` looks for x at or after the start when `end_inclusive`, else strictly after it;
- `end <- x` looks for x at or before the end when `start_inclusive`, else strictly before it;
- a root told by an event (`trigger -> x`) is strictly after (before) what it is told from.
One thing is deliberately not copied: ACES widens such a search by one microsecond, so an event 1 µs
before a window could end it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import polars as pl

from caretrace import schema
from caretrace.cohort.predicates import COUNT, RECORD_END, RECORD_START, parse_flag
from caretrace.errors import CohortError, unknown_name

TRIGGER = "trigger"
LANDMARK = "landmark"
Side = Literal["start", "end"]

_KEYS = ("start", "end", "start_inclusive", "end_inclusive", "has", "label", "index_timestamp")
_UNITS = (
    ("weeks", "w|wks?|weeks?"),
    ("days", "d|dys?|days?"),
    ("hours", "h|hrs?|hours?"),
    ("minutes", "m|mins?|minutes?"),
    ("seconds", "s|secs?|seconds?"),
)
_AMOUNTS = r"\s*(?:[,/]\s*)?".join(rf"(?:(?P<{name}>\d+\.?\d*|\.\d+)\s*(?:{unit}))?" for name, unit in _UNITS)
_CLOCK = r"(?:(?P<d>\d+)\s*(?:days?|d)?\s*[:,-]?\s*)??(?:(?P<h>\d+):)?(?P<m>\d{1,2}):(?P<s>\d\d(?:\.\d+)?)"


@dataclasses.dataclass(frozen=True)
class Boundary:
    """One bound of a window.

    Args:
        reference: What it is told from: `trigger`, `gap.end`, or the window's own `start` or `end`.
        offset: Signed time from the reference.
        event: Predicate whose nearest event is the bound, or None.
        before: The event is looked for before the reference, not after it.
        landmark: The offset is the word `landmark`, not yet known.
        text: What the task file says; None for the edge of the record.
    """

    reference: str
    offset: timedelta = timedelta(0)
    event: str | None = None
    before: bool = False
    landmark: bool = False
    text: str | None = None


@dataclasses.dataclass(frozen=True)
class Constraint:
    """How often a predicate may occur in a window: `has: {predicate: (minimum, maximum)}`, both inclusive."""

    predicate: str
    minimum: int | None
    maximum: int | None


@dataclasses.dataclass(frozen=True)
class Window:
    """A named stretch of time around a trigger, with what must hold in it.

    Args:
        name: Its name in the task file.
        start: Its earlier bound.
        end: Its later bound.
        start_inclusive: Whether an event exactly at the start is in the window.
        end_inclusive: Whether an event exactly at the end is in the window.
        has: Constraints on counts, in the order of the file.
        label: Predicate whose presence in the window is the label, or None.
        index_timestamp: Which bound is the prediction time, or None.
    """

    name: str
    start: Boundary
    end: Boundary
    start_inclusive: bool
    end_inclusive: bool
    has: tuple[Constraint, ...] = ()
    label: str | None = None
    index_timestamp: Side | None = None

    @property
    def root(self) -> Side:
        """The bound that is told from outside the window."""
        return "end" if self.start.reference == "end" else "start"

    @property
    def reference(self) -> str:
        """What the root is told from: `trigger` or another window's bound."""
        return (self.end if self.root == "end" else self.start).reference

    @property
    def predicates(self) -> list[str]:
        """Names of every predicate the window speaks of."""
        named = [self.start.event, self.end.event, *(c.predicate for c in self.has), self.label]
        return [name for name in named if name is not None]


def column(window: str, side: Side) -> str:
    """Name of the column that holds the time of a window's bound."""
    return f"{window}.{side}"


def parse_duration(text: str, where: str) -> timedelta:
    """Read a duration such as `24h`, `2 days`, `1 day, 6 hours`, `90 min` or `36:00:00`.

    The grammar is that of pytimeparse, which ACES uses: `m` is minutes; there are no months or years.

    Raises:
        CohortError: Not a duration.
    """
    clock = re.fullmatch(_CLOCK, text.strip(), re.IGNORECASE)
    if clock:
        parts = {key: float(value or 0) for key, value in clock.groupdict().items()}
        return timedelta(days=parts["d"], hours=parts["h"], minutes=parts["m"], seconds=parts["s"])
    amounts = re.fullmatch(_AMOUNTS, text.strip(), re.IGNORECASE)
    if amounts is None or not text.strip():
        raise CohortError(
            f"{where}: {text!r} is not a duration; write for example 24h, 2 days or 90 min (m is minutes)"
        )
    return timedelta(
        **{unit: float(value) for unit, value in amounts.groupdict().items() if value is not None}
    )


def parse_window(name: str, value: Any, where: str) -> Window:
    """Read one window of a task file.

    Args:
        name: Its name.
        value: The mapping under that name.
        where: File and key, for messages.

    Raises:
        CohortError: Unknown or missing key, or bounds that do not make a window.
    """
    if not isinstance(value, Mapping):
        raise CohortError(f"{where}: got {value!r}; a window is a mapping with {', '.join(_KEYS)}")
    for key in value:
        if key not in _KEYS:
            raise CohortError(f"{where}: " + unknown_name("key", str(key), _KEYS))
    for key in ("start", "end", "start_inclusive", "end_inclusive"):
        if key not in value:
            raise CohortError(
                f"{where}: {key} is missing; a window states start, end and whether each is included"
            )
    if value["start"] is None and value["end"] is None:
        raise CohortError(
            f"{where}: a window cannot run from the start to the end of the record; give one bound"
        )
    index = value.get("index_timestamp")
    if index not in (None, "start", "end"):
        raise CohortError(f"{where}.index_timestamp: got {index!r}; write start or end")
    label = value.get("label")
    if label is not None and not isinstance(label, str):
        raise CohortError(f"{where}.label: got {label!r}; write the name of a predicate")
    window = Window(
        name=name,
        start=_parse_boundary(value["start"], f"{where}.start")
        or Boundary("end", event=RECORD_START, before=True),
        end=_parse_boundary(value["end"], f"{where}.end") or Boundary("start", event=RECORD_END),
        start_inclusive=parse_flag(value["start_inclusive"], f"{where}.start_inclusive"),
        end_inclusive=parse_flag(value["end_inclusive"], f"{where}.end_inclusive"),
        has=_parse_has(value.get("has"), f"{where}.has"),
        label=label,
        index_timestamp=index,
    )
    _check_shape(window, where)
    return window


def in_order(windows: Sequence[Window], where: str) -> list[Window]:
    """The windows, each after the one it is told from.

    Raises:
        CohortError: A reference to no window, or windows told from each other.
    """
    names = [window.name for window in windows]
    for window in windows:
        target, _, side = window.reference.partition(".")
        if window.reference != TRIGGER and (side not in ("start", "end") or target not in names):
            valid = [TRIGGER, *(column(name, edge) for name in names for edge in ("start", "end"))]
            raise CohortError(
                f"{where}: windows.{window.name}: " + unknown_name("bound", window.reference, valid)
            )
    ordered: list[Window] = []
    waiting = list(windows)
    while waiting:
        placed = {TRIGGER, *(window.name for window in ordered)}
        ready = [window for window in waiting if window.reference.partition(".")[0] in placed]
        if not ready:
            circle = ", ".join(window.name for window in waiting)
            raise CohortError(
                f"{where}: windows {circle} are told from each other; tell one from the trigger"
            )
        ordered += ready
        waiting = [window for window in waiting if window not in ready]
    return ordered


def place(
    windows: Sequence[Window], triggers: pl.DataFrame, events: Mapping[str, pl.DataFrame]
) -> pl.DataFrame:
    """Give every window of every trigger its two times.

    Args:
        windows: As `in_order` returns them.
        triggers: One row per trigger: `subject_id` and the time in column `trigger`.
        events: Events of each predicate, as `predicates.evaluate` returns them.

    Returns:
        `triggers` with two columns per window, such as `gap.start`; null where a bound's event never comes.
    """
    placed = triggers
    for window in windows:
        sides: tuple[Side, Side] = ("end", "start") if window.root == "end" else ("start", "end")
        for side in sides:
            boundary: Boundary = getattr(window, side)
            own = side != window.root
            base = column(window.name, window.root) if own else boundary.reference
            included = own and (window.start_inclusive if boundary.before else window.end_inclusive)
            times = _times(placed, base, boundary, included, events)
            placed = placed.with_columns(times.alias(column(window.name, side)))
    return placed


def count(placed: pl.DataFrame, window: Window, events: pl.DataFrame) -> pl.Series:
    """How often a predicate occurs in a window of each row.

    Args:
        placed: As `place` returns it, without null bounds of this window.
        window: The window to look into.
        events: `subject_id, time, count` of the predicate, sorted.

    Returns:
        One Int64 per row.
    """
    totals = events.with_columns(pl.col(COUNT).cum_sum().over(schema.SUBJECT_ID))
    at_end = _nearest(placed, column(window.name, "end"), totals, COUNT, True, window.end_inclusive)
    at_start = _nearest(placed, column(window.name, "start"), totals, COUNT, True, not window.start_inclusive)
    return at_end.fill_null(0) - at_start.fill_null(0)


def _times(
    placed: pl.DataFrame, base: str, boundary: Boundary, included: bool, events: Mapping[str, pl.DataFrame]
) -> pl.Series:
    if boundary.event is None:
        return placed.select(pl.col(base) + boundary.offset).to_series()
    found = events[boundary.event].with_columns(pl.col(schema.TIME).alias("found"))
    return _nearest(placed, base, found, "found", boundary.before, included)


def _nearest(
    placed: pl.DataFrame, base: str, events: pl.DataFrame, value: str, before: bool, included: bool
) -> pl.Series:
    """`value` of the subject's event that is nearest before (or after) the time in column `base`."""
    at = placed.select(schema.SUBJECT_ID, pl.col(base).alias("at")).with_row_index("row")
    found = (
        at.drop_nulls("at")
        .sort(schema.SUBJECT_ID, "at")
        .join_asof(
            events.select(schema.SUBJECT_ID, schema.TIME, value),
            left_on="at",
            right_on=schema.TIME,
            by=schema.SUBJECT_ID,
            strategy="backward" if before else "forward",
            allow_exact_matches=included,
            check_sortedness=False,  # sorted within a subject; Polars cannot check that with `by`
        )
    )
    return at.select("row").join(found.select("row", value), on="row", how="left", maintain_order="left")[
        value
    ]


def _parse_boundary(value: Any, where: str) -> Boundary | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise CohortError(
            f"{where}: got {value!r}; write for example `trigger + 24h`, `start -> death` or null"
        )
    match = re.fullmatch(r"\s*(\w+(?:\.(?:start|end))?)\s*(?:(->|<-|\+|-)\s*(.+?))?\s*", value)
    if match is None:
        raise CohortError(
            f"{where}: cannot read {value!r}; write a reference (trigger, start, end, or a window's bound "
            "such as gap.end), then nothing, `+ 24h`, `- 24h`, `-> predicate` or `<- predicate`"
        )
    reference, operator, rest = match.groups()
    if operator is None:
        return Boundary(reference, text=value)
    if operator in ("->", "<-"):
        if not re.fullmatch(r"\w+", rest):
            raise CohortError(
                f"{where}: {rest!r} is not a predicate name; write for example `start -> death`"
            )
        before = operator == "<-"
        if rest == (RECORD_END if before else RECORD_START):
            raise CohortError(
                f"{where}: {rest} never lies on that side; did you mean the other end of the record?"
            )
        return Boundary(reference, event=rest, before=before, text=value)
    if rest == LANDMARK:
        if operator == "-":
            raise CohortError(f"{where}: a landmark lies after its reference; write `+ landmark`")
        return Boundary(reference, landmark=True, text=value)
    offset = parse_duration(rest, where)
    return Boundary(reference, offset=-offset if operator == "-" else offset, text=value)


def _parse_has(value: Any, where: str) -> tuple[Constraint, ...]:
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise CohortError(f"{where}: got {value!r}; write `predicate: (minimum, maximum)` lines")
    constraints = []
    for name, text in value.items():
        match = re.fullmatch(r"\(?\s*(None|\d*)\s*,\s*(None|\d*)\s*\)?", str(text))
        low, high = (
            (int(part) if part.isdigit() else None for part in match.groups()) if match else (None, None)
        )
        if (low is None and high is None) or (low is not None and high is not None and high < low):
            raise CohortError(
                f"{where}.{name}: got {text!r}; write (minimum, maximum) with None for no limit, "
                "for example (None, 0) for never or (1, None) for at least once"
            )
        constraints.append(Constraint(str(name), low, high))
    return tuple(constraints)


def _check_shape(window: Window, where: str) -> None:
    start, end = window.start, window.end
    if (start.reference == "end") == (end.reference == "start"):
        raise CohortError(
            f"{where}: got {start.text} to {end.text}; tell exactly one bound from the other, for example "
            "start: trigger with end: start + 24h, or start: null with end: trigger"
        )
    own = start if window.root == "end" else end
    backward = own.before if own.event else own.offset < timedelta(0)
    if own.event is None and not own.landmark and own.offset == timedelta(0):
        raise CohortError(
            f"{where}: the window has no length, both bounds are {window.reference}; give it a duration"
        )
    if backward != (window.root == "end"):
        raise CohortError(
            f"{where}: {start.text} to {end.text} ends before it starts; turn the sign or the arrow"
        )
    if window.root == "end" and own.event is None and window.index_timestamp:
        raise CohortError(
            f"{where}: index_timestamp on a window with `start: {start.text}`: ACES 0.7 "
            "gives the wrong bound here, so two tools would disagree. Put index_timestamp on a window "
            "told from its start, for example one with start: trigger and a duration"
        )
