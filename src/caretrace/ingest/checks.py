"""Checks of single values as Ibis expressions: the same on every engine, and cheap where nothing is wrong."""

from __future__ import annotations

import datetime as dt
import functools
import zoneinfo
from collections.abc import Iterator
from typing import Any, NamedTuple

import ibis

from caretrace.errors import ConfigError

# A number written with a comma: a decimal comma or a thousands separator, nobody can tell which.
_COMMA_NUMBER = r"^[+-]?[0-9]+(,[0-9]+)+([eE][+-]?[0-9]+)?$"
# No hour 24: engines disagree on whether it is midnight.
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
_PLAIN_TIME = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}([ T]{_CLOCK})?$"
_ZONED_TIME = rf"^([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[ T]{_CLOCK}) ?(Z|z|UTC|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$"
_SIGN = r"([+-])[0-9:]+$"
_HOURS = r"[+-]([0-9]{2}):?[0-9]{0,2}$"
_MINUTES = r"[+-][0-9]{2}:?([0-9]{2})$"

# Before 1900 clocks showed the time of their town; after 2261 a nanosecond time stamp overflows.
_FIRST_YEAR, _LAST_YEAR = 1900, 2261
_UTC = dt.UTC

# What a wall clock that is set forward or back does to a local time.
SKIPPED_HOUR, REPEATED_HOUR = "skipped_hour", "repeated_hour"
CLOCK_CHANGES = {
    SKIPPED_HOUR: "a local time that no clock showed, as clocks were set forward; read as if they had not yet been",
    REPEATED_HOUR: "a local time that clocks showed twice, as they were set back; the earlier one is taken",
}


class LocalTime(NamedTuple):
    """What `local_to_utc` makes of a column of local times.

    Args:
        utc: The moment, a timestamp without zone in UTC.
        flag: A key of `CLOCK_CHANGES`, or null.
    """

    utc: Any
    flag: Any


def has_comma(text: Any) -> Any:
    """True where a text is a number written with a comma (`12,5`); ask only where it is no number."""
    return text.re_search(_COMMA_NUMBER)


def plain_time(text: Any) -> Any:
    """A text without time zone as a timestamp, null where it is none."""
    # Nearly every cell is written as engines write a timestamp, and comparing is cheaper than matching.
    time = text.try_cast("timestamp(6)")
    careful = ibis.ifelse(text.re_search(_PLAIN_TIME), time, ibis.null("timestamp(6)"))
    return ibis.ifelse(time.cast("string") == text, time, careful)


def whole_number(text: Any) -> Any:
    """A text as a whole number, null where it is none; `12.0`, as spreadsheets write it, is one."""
    number = text.try_cast("int64")
    rounded = text.re_extract(r"^([+-]?[0-9]+)\.0+$", 1).nullif("")
    careful = ibis.ifelse(text.re_search(r"^[+-]?[0-9]+$"), text, rounded).try_cast("int64")
    # As with times: nearly every cell is written as engines write a number.
    return ibis.ifelse(number.cast("string") == text, number, careful)


def is_zoned(text: Any, time: Any) -> Any:
    """True where a text that was read as the time `time` has a time zone."""
    # `2019-05-31 14:00:00` and what is shorter than a minute with a zone need no long look.
    plain = (text.length() < 17) | ((text.length() == 19) & (text.substr(16, 1) == ":"))
    return ibis.ifelse(time.notnull() & ~plain, text.re_search(_ZONED_TIME), ibis.literal(False))


def zoned_time(text: Any) -> Any:
    """A text with a time zone (`Z`, `UTC`, `+02:00`, `-0530`) as a timestamp in UTC, null where it is none."""
    here = ibis.ifelse(text.re_search(_ZONED_TIME), text, ibis.null("string"))
    local = here.re_extract(_ZONED_TIME, 1).nullif("").try_cast("timestamp")
    sign = ibis.ifelse(here.re_extract(_SIGN, 1) == "-", -1, 1)
    hours = here.re_extract(_HOURS, 1).nullif("").try_cast("int64")
    minutes = here.re_extract(_MINUTES, 1).nullif("").try_cast("int64")
    # `Z` and `UTC` have no sign, no hours and no minutes.
    ahead = sign * (ibis.coalesce(hours, 0) * 3600 + ibis.coalesce(minutes, 0) * 60)
    return local - _seconds(ahead)


def local_to_utc(time: Any, zone: str) -> LocalTime:
    """The moment that a wall clock in `zone` means.

    Python's `zoneinfo` gives the clock changes (PEP 495, PEP 615); two arrays indexed by month carry them
    into the expression, so that no engine needs its own tables of zones. Where a month has two clock
    changes (Athens 1941, Gaza from 2040) the later one is not known.

    Args:
        time: Timestamp column of local times.
        zone: Name of a zone such as `Europe/Berlin`.

    Raises:
        ConfigError: No such zone.
    """
    months = _months(zone)
    month = ((time.year() - _FIRST_YEAR) * 12 + time.month() - 1).clip(lower=0, upper=len(months) - 1)

    def of_month(values: list[int]) -> Any:
        # One text that engines split once, as they do with constants: a literal list takes seconds to compile.
        return ibis.literal(",".join(map(str, values))).split(",").cast("array<int64>")[month]

    wall = time.epoch_seconds()
    begins, ends = of_month([entry.begins for entry in months]), of_month([entry.ends for entry in months])
    before, after = of_month([entry.before for entry in months]), of_month([entry.after for entry in months])
    later = of_month([int(entry.after > entry.before) for entry in months])
    changing = (wall >= begins) & (wall < ends)
    return LocalTime(
        utc=time - _seconds(ibis.ifelse(wall < ends, before, after)),
        flag=ibis.cases(
            (changing & (later == 1), SKIPPED_HOUR), (changing, REPEATED_HOUR), else_=ibis.null("string")
        ),
    )


def _seconds(amount: Any) -> Any:
    return amount.cast("int64").as_interval("s")


def check_zone(zone: str) -> None:
    """Refuse a time zone that does not exist.

    Raises:
        ConfigError: It does not; the message says where names come from.
    """
    _zone(zone)


class _Month(NamedTuple):
    """The clock change of one month; where there is none it is empty and both offsets are the same.

    Args:
        begins: First second of the skipped or repeated time, as a wall clock shows it (Unix seconds).
        ends: The second after its last one.
        before: Seconds ahead of UTC until then.
        after: Seconds ahead of UTC from then on.
    """

    begins: int
    ends: int
    before: int
    after: int


@functools.cache
def _months(zone: str) -> tuple[_Month, ...]:
    """Every month from `_FIRST_YEAR` to `_LAST_YEAR`."""
    changes: dict[tuple[int, int], _Month] = {}
    for moment, before, after in _changes(_zone(zone)):
        begins = moment + min(before, after)
        start = dt.datetime.fromtimestamp(begins, _UTC)
        changes[start.year, start.month] = _Month(begins, moment + max(before, after), before, after)
    months = []
    current = _offset(_zone(zone), dt.datetime(_FIRST_YEAR, 1, 1, tzinfo=_UTC))
    for year in range(_FIRST_YEAR, _LAST_YEAR + 1):
        for number in range(1, 13):
            months.append(changes.get((year, number), _Month(0, 0, current, current)))
            current = months[-1].after
    return tuple(months)


def _changes(zone: zoneinfo.ZoneInfo) -> Iterator[tuple[int, int, int]]:
    """Every clock change: its moment (Unix seconds), the offset before it and after it in seconds."""
    step = dt.timedelta(days=5)  # no zone changes its clocks twice within five days
    moment = dt.datetime(_FIRST_YEAR, 1, 1, tzinfo=_UTC)
    before = _offset(zone, moment)
    while moment.year <= _LAST_YEAR:
        after = _offset(zone, moment + step)
        if after != before:
            low, high = int(moment.timestamp()), int((moment + step).timestamp())
            while high - low > 1:
                middle = (low + high) // 2
                same = _offset(zone, dt.datetime.fromtimestamp(middle, _UTC)) == before
                low, high = (middle, high) if same else (low, middle)
            yield high, before, after
            before = after
        moment += step


def _offset(zone: zoneinfo.ZoneInfo, moment: dt.datetime) -> int:
    offset = moment.astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"--time-zone {name!r}: no such time zone here; write it like Europe/Berlin (IANA names). "
            "Where the machine has none at all, `pip install tzdata` brings them"
        ) from None
