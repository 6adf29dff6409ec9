"""What is odd about measurements beside each other: counted while they are written, never changed.

By then the measurements of a subject stand together and in order of time, so that every count below is a
pass over arrays, whatever engine they came from.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from caretrace import schema
from caretrace.ingest.engines.base import POSITION

# The columns of a measurement that say where it came from.
TABLE, EVENT = "_table", "_event"

DUPLICATE, OUT_OF_ORDER, FUTURE = "duplicate", "out_of_order", "in_the_future"
YEAR_OFF, LONG_TEXT = "a_year_off", "long_text"
MEANINGS = {
    DUPLICATE: "measurements that repeat another one in subject, time, code, value and text; all are kept",
    OUT_OF_ORDER: "measurements whose row stood after that of a later one of the same subject; sorted",
    FUTURE: "measurements later than the moment of this run; kept as written",
    YEAR_OFF: "measurements outside every stay of the subject, but inside one if the year were another; kept",
    LONG_TEXT: "measurements with a text of more than 1,000,000 bytes; kept whole",
}

_LONG_BYTES = 1_000_000
_DAY = 86_400_000_000  # microseconds
# A measurement counts as outside a stay this long before its start or after its end; one moved by a year
# must come to lie in the stay itself.
_OUTSIDE, _INSIDE = 30 * _DAY, 0
_STARTS = (schema.HOSPITAL_ADMISSION, schema.ICU_ADMISSION)
_ENDS = (schema.HOSPITAL_DISCHARGE, schema.ICU_DISCHARGE)

Array = np.ndarray[Any, Any]


class EventChecks:
    """Counts of flags, filled by `see` and read by `flags_of`.

    Args:
        shifted_dates: The source moves its dates, so that they may lie in the future.
        now: The moment of the run, UTC.
    """

    def __init__(self, shifted_dates: bool, now: dt.datetime) -> None:
        self._now = None if shifted_dates else int(now.timestamp() * 1e6)
        self._counts: dict[str, Counter[int]] = {flag: Counter() for flag in MEANINGS}

    def see(self, measurements: pa.Table) -> None:
        """Look at the measurements of whole subjects.

        Args:
            measurements: `schema.DATA_COLUMNS`, `TABLE`, `EVENT` and `POSITION`, sorted by subject, time (null
                first), table, event and position.
        """
        if not len(measurements):
            return
        table = measurements[TABLE].to_numpy()
        time = pc.cast(measurements[schema.TIME], pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy()
        timed = time != np.iinfo(np.int64).min
        self._add(LONG_TEXT, table[_are_long(measurements[schema.TEXT_VALUE])])
        if self._now is not None:
            self._add(FUTURE, table[timed & (time > self._now)])
        self._add(DUPLICATE, _duplicates(measurements, table))
        subject = _ranks(measurements[schema.SUBJECT_ID].to_numpy())
        late = _out_of_order(measurements, subject, table, timed)
        self._add(OUT_OF_ORDER, table[late])
        self._add(YEAR_OFF, table[_year_off(measurements[schema.CODE], subject, time, timed)])

    def flags_of(self, table: int) -> dict[str, int]:
        """Flag → measurements of the table with this number that carry it, where there are any."""
        return {flag: counts[table] for flag, counts in self._counts.items() if counts[table]}

    def _add(self, flag: str, tables: Array) -> None:
        values, counts = np.unique(tables, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self._counts[flag][value] += count


def _ranks(values: Array) -> Array:
    """0, 1, 2 … for sorted values, the same for equal ones."""
    return np.concatenate([[0], np.cumsum(values[1:] != values[:-1])])


def _are_long(texts: pa.ChunkedArray) -> Array:
    return pc.greater(pc.binary_length(texts), _LONG_BYTES).fill_null(False).to_numpy()


def _duplicates(measurements: pa.Table, table: Array) -> Array:
    """The table of every measurement that repeats another one; a hash finds the few worth comparing."""
    frame = pl.DataFrame(measurements.select(schema.DATA_COLUMNS))
    hashes = frame.hash_rows().to_numpy()
    ordered = np.sort(hashes)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(repeated):
        return np.array([], table.dtype)
    where = np.flatnonzero(np.isin(hashes, repeated))
    found = frame[where].with_columns(pl.Series(TABLE, table[where]))
    return found.filter(pl.int_range(pl.len()).over(schema.DATA_COLUMNS) > 0)[TABLE].to_numpy()


def _out_of_order(measurements: pa.Table, subject: Array, table: Array, timed: Array) -> Array:
    """Where measurements stand whose row came after the row of a later one of the same subject and event."""
    # Sixteen bits, as numpy then sorts in linear time: enough for 128 tables of 256 events.
    series = (table * 256 + measurements[EVENT].to_numpy()).astype(np.int16)
    order = np.argsort(series, kind="stable")
    order = order[timed[order]]
    position, subject, series = measurements[POSITION].to_numpy()[order], subject[order], series[order]
    same = (series[1:] == series[:-1]) & (subject[1:] == subject[:-1])
    if not (same & (position[1:] < position[:-1])).any():
        return np.array([], np.int64)
    group = np.concatenate([[0], np.cumsum(~same)])
    # A later group is larger by more than any position, so the smallest position to come is that of one's own group.
    key = position + group * (int(position.max()) + 1)
    to_come = np.minimum.accumulate(key[::-1])[::-1]
    return order[:-1][key[:-1] > to_come[1:]]


def _year_off(codes: pa.ChunkedArray, subject: Array, time: Array, timed: Array) -> Array:
    """Where measurements stand that lie outside every stay, but inside one if they are moved by a year."""
    starts, ends = (_start_with(codes, prefixes) & timed for prefixes in (_STARTS, _ENDS))
    if not starts.any():
        return np.array([], np.int64)
    low = int(time[timed].min()) - 800 * _DAY
    span = int(time[timed].max()) + 800 * _DAY - low

    def keys(where: Array) -> Array:
        # Whole seconds, so that subject and time fit into 63 bits.
        return subject[where] * (span // 1_000_000 + 1) + (time[where] - low) // 1_000_000

    key_starts, key_ends = keys(starts), np.sort(keys(ends))
    before = np.searchsorted(subject[starts], np.arange(subject[-1] + 1))
    ended_before = np.searchsorted(np.sort(subject[ends]), np.arange(subject[-1] + 1))

    def inside(where: Array, moved: int, slack: int) -> Array:
        key = keys(where) + moved // 1_000_000
        who = subject[where]
        started = np.searchsorted(key_starts, key + slack // 1_000_000, side="right") - before[who]
        ended = np.searchsorted(key_ends, key - slack // 1_000_000, side="left") - ended_before[who]
        return started > ended

    has_stay = np.zeros(subject[-1] + 1, bool)
    has_stay[subject[starts]] = True
    asked = np.flatnonzero(timed & has_stay[subject] & ~_start_with(codes, (schema.BIRTH, schema.DEATH)))
    outside = asked[~inside(asked, 0, _OUTSIDE)]
    moved = [inside(outside, sign * days * _DAY, _INSIDE) for sign in (-1, 1) for days in (365, 366)]
    return outside[np.any(moved, axis=0)]


def _start_with(codes: pa.ChunkedArray, prefixes: Sequence[str]) -> Array:
    found = np.zeros(len(codes), bool)
    for prefix in prefixes:
        found |= pc.starts_with(codes, prefix).to_numpy()
    return found
