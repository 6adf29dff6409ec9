"""`POST /vitals`: JSON → a batch, by rows or by columns, quick where all is well and exact where it is not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from caretrace.serve.live.samples import NUMBER, BadSampleError, Batch, channel_number

_ROW = frozenset({"subject_id", "time", "channel", "value"})
_BY_ROWS, _BY_COLUMNS = frozenset({"batch_id", "samples"}), frozenset({"batch_id", *_ROW})
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


def parse_batch(body: bytes, most: int) -> Batch:
    """Read a batch.

    Args:
        body: `{"batch_id": …, "samples": [{"subject_id", "time", "channel", "value"}, …]}`, or columns of equal length
            `{"batch_id": …, "subject_id": […], "time": […], "channel": […], "value": […]}`. Times are ISO 8601 with a
            zone, or epoch seconds.
        most: Samples that one batch may have.

    Raises:
        BadSampleError: It cannot be taken; the message names field and row.
    """
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadSampleError(f"body: not JSON ({error}); NaN and Infinity are none either") from None
    if not isinstance(given, dict):
        raise BadSampleError("body: give an object with batch_id and samples")
    batch_id = given.get("batch_id")
    if not isinstance(batch_id, str):
        raise BadSampleError("batch_id: missing or no text; give every batch a name of its own")
    columns = _columns(given, most)
    subjects, times, channels, values = columns
    return Batch(
        batch_id,
        _integers(subjects),
        _times(times),
        _channels(channels),
        _numbers(values),
    )


def _columns(given: dict[str, Any], most: int) -> list[list[Any]]:
    rows = given.get("samples")
    if rows is not None:
        _only(given, _BY_ROWS)
        _some(rows, "samples", most)
        try:
            found = [[row[name] for row in rows] for name in ("subject_id", "time", "channel", "value")]
        except (KeyError, TypeError):
            found = []
        if not found or sum(map(len, rows)) != len(_ROW) * len(rows):
            raise _odd_row(rows)
        return found
    _only(given, _BY_COLUMNS)
    found = [given.get(name, []) for name in ("subject_id", "time", "channel", "value")]
    for name, column in zip(("subject_id", "time", "channel", "value"), found, strict=True):
        _some(column, name, most)
        if len(column) != len(found[0]):
            raise BadSampleError(
                f"{name}: {len(column)} entries for {len(found[0])} of subject_id; give one each"
            )
    return found


def _only(given: dict[str, Any], allowed: frozenset[str]) -> None:
    strange = given.keys() - allowed
    if strange:
        raise BadSampleError(f"{min(strange)[:40]}: no such field; a batch has {', '.join(sorted(allowed))}")


def _some(column: Any, name: str, most: int) -> None:
    if not isinstance(column, list) or not column:
        raise BadSampleError(f"{name}: missing, empty or no list; give at least one sample")
    if len(column) > most:
        raise BadSampleError(f"{name}: {len(column)} samples; send at most {most} in one batch")


def _odd_row(rows: Sequence[Any]) -> BadSampleError:
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            return BadSampleError(f"samples[{number}]: no object; give {', '.join(sorted(_ROW))}")
        for name in sorted(_ROW - row.keys()):
            return BadSampleError(f"samples[{number}].{name}: missing")
        for name in sorted(row.keys() - _ROW):
            return BadSampleError(f"samples[{number}].{name[:40]}: no such field")
    return BadSampleError("samples: cannot be read")


def _integers(column: list[Any]) -> Any:
    if set(map(type, column)) == {int}:
        try:
            return np.array(column, np.int64)
        except OverflowError:
            pass
    for number, value in enumerate(column):
        if type(value) is not int or not _SMALLEST <= value <= _LARGEST:
            raise BadSampleError(f"samples[{number}].subject_id: got {_shown(value)}; give a whole number")
    raise BadSampleError("subject_id: give whole numbers")


def _numbers(column: list[Any]) -> Any:
    if set(map(type, column)) <= {int, float}:
        with np.errstate(over="ignore"):
            return np.array(column, np.float64).astype(np.float32)
    number = next(i for i, value in enumerate(column) if type(value) not in (int, float))
    raise BadSampleError(
        f"samples[{number}].value: got {_shown(column[number])}; give a finite number, or leave the sample out"
    )


def _times(column: list[Any]) -> Any:
    kinds = set(map(type, column))
    if kinds <= {int, float}:
        return np.array(column, np.float64)
    if kinds == {str}:
        try:
            found = {text: _seconds(text) for text in set(column)}
            return np.array([found[text] for text in column], np.float64)
        except (ValueError, OverflowError):
            pass
    for number, value in enumerate(column):
        try:
            if type(value) not in (int, float):
                _seconds(value)
        except (ValueError, TypeError, OverflowError):
            raise BadSampleError(
                f"samples[{number}].time: got {_shown(value)}; give ISO 8601 with its zone "
                "(2026-01-31T08:00:00Z), or epoch seconds"
            ) from None
    return np.array([v if type(v) in (int, float) else _seconds(v) for v in column], np.float64)


def _seconds(text: str) -> float:
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("without a zone")
    return moment.timestamp()


def _channels(column: list[Any]) -> Any:
    try:
        return np.array([NUMBER[name] for name in column], np.int16)
    except (KeyError, TypeError):
        return np.array(
            [
                channel_number(name if isinstance(name, str) else _shown(name), i)
                for i, name in enumerate(column)
            ],
            np.int16,
        )


def _shown(value: Any) -> str:
    return repr(value)[:40]
