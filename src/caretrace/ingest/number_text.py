"""Numbers as text, letter for letter the same on every engine.

Engines do not agree on `CAST(1e-05 AS VARCHAR)`: DuckDB says `1e-05`, Spark `1.0E-5`, and Java 17 at times
writes a digit too many. Here the text is put together from whole numbers, whose text is the same everywhere.
"""

from __future__ import annotations

from typing import Any

import ibis

# Sizes up to (and without) the first number are written in the unit of the second, with so many decimals
# that a float64's 15 digits are not exceeded, and the unit behind them.
_BANDS = (
    (1e-18, 1e-24, 9, "e-24"),
    (1e-6, 1e-12, 9, "e-12"),
    (1e3, 1.0, 12, ""),
    (1e6, 1.0, 9, ""),
    (1e9, 1.0, 6, ""),
    (1e12, 1.0, 3, ""),
    (1e15, 1.0, 0, ""),
    (1e27, 1e15, 3, "e15"),
    (1e39, 1e27, 3, "e27"),
)
_ALL = 12


def number_text(value: Any, decimals: int = _ALL) -> Any:
    """A number as text: `37`, `0.00001`, `-12.5`, `340000000000e27`; any other value as its engine writes it.

    At most 15 digits and `decimals` decimals are written, without zeros at the end. Null where there is no
    number, where it is no finite one and from 1e39 on, which is more than float32 can hold.

    Args:
        value: Ibis value.
        decimals: Most digits after the point, 0 to 12; with fewer than 12, small numbers become 0.
    """
    if not value.type().is_floating():
        return value.cast("string")
    number = value.cast("float64")
    size = number.abs()
    # The first that holds is taken, and no other is computed; nearly every number is one of the first two.
    bands = [((size < 1e15) & (size % 1 == 0), number.try_cast("int64").cast("string"))]
    if decimals < _ALL:
        below = 10.0 ** (15 - decimals)
        bands.append((size < below, _digits(number, size, 1.0, decimals)))
        wanted = [band for band in _BANDS if band[0] > below]
    else:
        wanted = list(_BANDS)
    bands += [(size < end, _digits(number, size, unit, places) + word) for end, unit, places, word in wanted]
    return ibis.cases(*bands)


def raw_number_text(value: Any) -> Any:
    """A number of a typed file as text: as `number_text`, and words where that has none."""
    number = value.cast("float64")
    text = number_text(value)
    if value.type().is_float32():  # 0.1, where these are all digits that float32 holds, and not 0.10000000149
        fewer = [
            (short := number_text(value, decimals), short.try_cast("float32") == value) for decimals in (4, 6)
        ]
        text = ibis.cases(*((same, short) for short, same in fewer), else_=text)
    words = ibis.cases((number.isnan(), "nan"), (number > 0, "1e39 or more"), (number < 0, "-1e39 or less"))
    return ibis.coalesce(text, words)


def whole(value: Any) -> Any:
    """A number without its fraction, null where int64 cannot hold it; engines round or cut when they cast."""
    if not value.type().is_floating():
        return value.try_cast("int64")
    return ibis.ifelse(value.abs() < 2.0**63, _cut(value), ibis.null("int64"))


def _cut(value: Any) -> Any:
    return (value - value % 1).try_cast("int64")


def _digits(number: Any, size: Any, unit: float, decimals: int) -> Any:
    """A number in a unit with so many decimals, half rounded away from zero; size/unit·10^decimals < 1e15."""
    power = 10**decimals
    parts = _cut(size / unit * float(power) + 0.5)
    rest = parts % power
    fraction = ("." + (rest + power).cast("string").substr(1)).re_replace(r"\.?0*$", "") if decimals else ""
    sign = ibis.ifelse((number < 0) & (parts > 0), "-", "")
    return sign + ((parts - rest) / power).try_cast("int64").cast("string") + fraction
