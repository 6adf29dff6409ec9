"""Flags of measurements beside each other, against a slow and obvious second answer."""

import collections
import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from caretrace.ingest.event_checks import (
    DUPLICATE,
    FUTURE,
    LONG_TEXT,
    OUT_OF_ORDER,
    YEAR_OFF,
    EventChecks,
)

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
START = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times are naive UTC


def table(rows):
    """(subject, time, code, value, text, table, event, position), sorted as the writer has them."""
    rows = sorted(rows, key=lambda r: (r[0], r[1] is not None, r[1] or START, r[5], r[6], r[7]))
    names = ("subject_id", "time", "code", "numeric_value", "text_value", "_table", "_event", "_position")
    kinds = (
        *(pa.int64(), pa.timestamp("us"), pa.string(), pa.float32(), pa.large_string()),
        *(pa.int16(), pa.int16(), pa.int64()),
    )
    columns = list(zip(*rows, strict=True))
    return pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})


def seen(rows, shifted=False):
    checks = EventChecks(shifted, NOW)
    checks.see(table(rows))
    return {number: found for number in range(10) if (found := checks.flags_of(number))}


def random_rows(seed):
    rng = np.random.default_rng(seed)
    rows = []
    for position in range(300):
        time = None if rng.random() < 0.05 else START + dt.timedelta(hours=int(rng.integers(0, 40)))
        code, value = str(rng.choice(["HR", "RR"])), float(rng.integers(0, 3))
        subject, number, event = (int(rng.integers(0, most)) for most in (4, 3, 2))
        rows.append((subject, time, code, value, None, number, event, position))
    return rows


@pytest.mark.parametrize("seed", range(8))
def test_duplicates_and_order_as_counted_slowly(seed):
    rows = random_rows(seed)
    repeated: collections.Counter[int] = collections.Counter()
    met = set()
    for row in table(rows).to_pylist():
        key = tuple(row[name] for name in ("subject_id", "time", "code", "numeric_value", "text_value"))
        repeated[row["_table"]] += key in met
        met.add(key)
    late: collections.Counter[int] = collections.Counter()
    for one in rows:
        late[one[5]] += one[1] is not None and any(
            (o[0], o[5], o[6]) == (one[0], one[5], one[6])
            and o[7] < one[7]
            and o[1] is not None
            and o[1] > one[1]
            for o in rows
        )
    found = seen(rows)
    for number in range(3):
        assert found.get(number, {}).get(DUPLICATE, 0) == repeated[number]
        assert found.get(number, {}).get(OUT_OF_ORDER, 0) == late[number]


def stay(subject, start, end):
    return [
        (subject, start, "HOSPITAL_ADMISSION//X", None, None, 0, 0, 0),
        *([(subject, end, "HOSPITAL_DISCHARGE//Y", None, None, 0, 1, 0)] if end else []),
    ]


def at(subject, days, code="HR"):
    return (subject, START + dt.timedelta(days=days), code, 1.0, None, 1, 0, 0)


@pytest.mark.parametrize(
    ("days", "flagged"),
    [(3, 0), (-20, 0), (45, 0), (368, 1), (-362, 1), (200, 0), (400, 0), (3 + 2 * 365, 0)],
)
def test_a_year_off_is_outside_every_stay_but_inside_a_year_away(days, flagged):
    rows = [*stay(1, START, START + dt.timedelta(days=10)), at(1, days), at(2, days)]
    assert seen(rows).get(1, {}).get(YEAR_OFF, 0) == flagged


def test_a_stay_without_an_end_never_ends_and_births_do_not_count():
    rows = [*stay(1, START, None), at(1, 368), at(1, -365, "MEDS_BIRTH")]
    assert YEAR_OFF not in seen(rows).get(1, {})


def test_the_future_unless_dates_are_shifted():
    rows = [at(1, 0), at(1, 100_000)]
    assert seen(rows)[1][FUTURE] == 1
    assert seen(rows, shifted=True) == {}


def test_a_long_text_is_measured_in_bytes():
    rows = [
        (1, START, "NOTE", None, "ä" * 500_001, 2, 0, 0),
        (1, START, "NOTE", None, "a" * 1_000_000, 2, 0, 1),
    ]
    assert seen(rows)[2][LONG_TEXT] == 1


def test_nothing_to_see():
    checks = EventChecks(False, NOW)
    checks.see(table([at(1, 0)]).slice(0, 0))
    assert checks.flags_of(1) == {}
