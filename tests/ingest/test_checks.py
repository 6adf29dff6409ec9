"""Checks of single values against Python's own answers."""

import datetime as dt
import zoneinfo

import numpy as np
import pyarrow as pa
import pytest

from caretrace.errors import ConfigError
from caretrace.ingest.checks import check_zone, has_comma, local_to_utc, plain_time, zoned_time
from caretrace.ingest.engines import running


@pytest.fixture
def ask(tmp_path):
    """Columns over values, as the engine answers."""
    with running("duckdb", tmp_path) as engine:

        def answer(values, kind, **columns):
            rows = engine.create("asked", pa.table({"x": pa.array(values, kind)}))
            found = engine.fetch(rows.select(**{name: make(rows.x) for name, make in columns.items()}))
            return [tuple(row.values()) for row in found.to_pylist()]

        yield answer


NOON = dt.datetime(2021, 3, 26, 12)  # noqa: DTZ001 - MEDS times are naive UTC


@pytest.mark.parametrize(
    ("text", "plain", "zoned"),
    [
        ("2021-03-26 12:00:00", NOON, None),
        ("2021-03-26T12:00", NOON, None),
        ("2021-03-26", NOON.replace(hour=0), None),
        ("2021-03-26T12:00:00Z", None, NOON),
        ("2021-03-26 12:00:00 UTC", None, NOON),
        ("2021-03-26T14:00:00+02:00", None, NOON),
        ("2021-03-26 06:30-0530", None, NOON),
        ("2021-03-26 14:00:00+02", None, NOON),
        ("2021-03-26+02:00", None, None),
        ("2021-13-26 12:00Z", None, None),
        ("soon", None, None),
    ],
)
def test_times_with_and_without_a_zone(ask, text, plain, zoned):
    assert ask([text], pa.string(), plain=plain_time, zoned=zoned_time) == [(plain, zoned)]


@pytest.mark.parametrize(
    ("text", "comma"), [("12,5", True), ("-1,234", True), ("12.5", False), ("a,b", False), ("1,", False)]
)
def test_a_number_with_a_comma(ask, text, comma):
    assert ask([text], pa.string(), found=has_comma) == [(comma,)]


def local_times():
    """Any second from 1901 to 2200, and every quarter of an hour around clock changes of 2021."""
    random = np.random.default_rng(0).integers(0, 299 * 365 * 86_400, 2_000).tolist()
    anywhere = [dt.datetime(1901, 1, 1) + dt.timedelta(seconds=seconds) for seconds in random]  # noqa: DTZ001
    dates = ((3, 14), (3, 28), (4, 4), (10, 3), (10, 31), (11, 7))
    days = [dt.datetime(2021, month, day) for month, day in dates]  # noqa: DTZ001
    around = [
        day + dt.timedelta(minutes=15 * slot, seconds=edge)
        for day in days
        for slot in range(20)
        for edge in (-1, 0)
    ]
    return [*anywhere, *around]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
def test_local_times_become_what_zoneinfo_makes_of_them(ask, zone):
    times, place, nothing = local_times(), zoneinfo.ZoneInfo(zone), dt.timedelta(0)
    found = ask(
        times,
        pa.timestamp("us"),
        utc=lambda time: local_to_utc(time, zone).utc,
        flag=lambda time: local_to_utc(time, zone).flag,
    )
    flags = set()
    for time, (utc, flag) in zip(times, found, strict=True):
        early, late = time.replace(tzinfo=place), time.replace(tzinfo=place, fold=1)
        assert utc == early.astimezone(dt.UTC).replace(tzinfo=None)
        ahead = late.utcoffset() - early.utcoffset()  # PEP 495: positive in a gap, negative in a fold
        assert flag == ("skipped_hour" if ahead > nothing else "repeated_hour" if ahead < nothing else None)
        flags.add(flag)
    assert flags == {None} if zone == "Asia/Kolkata" else flags == {None, "skipped_hour", "repeated_hour"}


@pytest.mark.parametrize("zone", ["Europe/Bern1", "../etc/passwd", ""])
def test_a_zone_that_does_not_exist(zone):
    with pytest.raises(ConfigError, match="no such time zone"):
        check_zone(zone)
