"""What a number with a name and a unit can be: units are converted, the impossible is told apart.

The table is `quantities.yaml`, with a source for every limit. It reaches the rows by one join on
(concept, unit), so a hundred million rows cost a look-up each and the same expressions run on every
engine.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ibis
import pyarrow as pa

from caretrace.config import read_yaml
from caretrace.errors import ConfigError, unknown_name

FILE = Path(__file__).with_name("quantities.yaml")

# Flags of this module (besides those of `mistaken` and `cap` in the file) and what they mean.
UNKNOWN_UNIT = "unknown_unit"
FLAGS = {
    UNKNOWN_UNIT: "the unit is not in the table of quantities; value and unit kept, no limits applied",
    "fahrenheit_for_celsius": "a temperature that only makes sense in °F; converted to °C",
    "celsius_for_fahrenheit": "a temperature in a column of °F that only makes sense in °C; taken as °C",
    "percent_for_fraction": "an oxygen fraction above 1 that makes sense in %; divided by 100",
    "fraction_for_percent": "an oxygen percentage below 1 that makes sense as a fraction; taken as one",
    "age_over_89": "an age beyond 120, as sources write that hide the ages above 89; set to 90",
}

# Columns of the table that `convert` joins; the leading underscore keeps them out of formulas.
_SHAPE = {
    "_q_concept": pa.string(),
    "_q_spelling": pa.string(),
    "_q_unit": pa.string(),
    "_q_factor": pa.float64(),
    "_q_offset": pa.float64(),
    "_q_low": pa.float64(),
    "_q_high": pa.float64(),
    "_q_problem": pa.string(),
    "_q_other_factor": pa.float64(),
    "_q_other_offset": pa.float64(),
    "_q_other_low": pa.float64(),
    "_q_other_high": pa.float64(),
    "_q_other_flag": pa.string(),
    "_q_above": pa.float64(),
    "_q_capped": pa.float64(),
    "_q_cap_flag": pa.string(),
}


@dataclasses.dataclass(frozen=True)
class Mistaken:
    """Values written in one unit that can only be meant in another.

    Args:
        unit: The unit they are meant in.
        low: Lowest plausible value, in the canonical unit.
        high: Highest plausible value, in the canonical unit.
        flag: Name of the flag.
    """

    unit: str
    low: float
    high: float
    flag: str


@dataclasses.dataclass(frozen=True)
class Cap:
    """Values too high to be true that stand for "very high".

    Args:
        above: Values above this one, in the canonical unit, are replaced.
        value: What they are replaced by.
        flag: Name of the flag.
    """

    above: float
    value: float
    flag: str


@dataclasses.dataclass(frozen=True)
class KnownQuantity:
    """One entry of `quantities.yaml`.

    Args:
        name: Snake case, no abbreviations.
        unit: Canonical unit.
        units: Every unit, the canonical one among them → (factor, offset) to the canonical one.
        low: Lowest possible value, canonical unit.
        high: Highest possible value, canonical unit.
        limits: Which of `sources` says so.
        mistaken: Unit → the other unit that is sometimes meant.
        cap: What to do with values beyond belief, or None.
    """

    name: str
    unit: str
    units: Mapping[str, tuple[float, float]]
    low: float
    high: float
    limits: str
    mistaken: Mapping[str, Mistaken]
    cap: Cap | None

    @property
    def problem(self) -> str:
        """Why a value outside the limits is quarantined."""
        unit = "" if self.unit == "pH" else f" {self.unit}"
        return f"{self.name} is outside what is possible ({self.low:g} to {self.high:g}{unit})"


class Converted(NamedTuple):
    """What `convert` makes of three columns; all are columns of `rows`.

    Args:
        rows: The table with the look-up beside it; take every further column from it.
        value: float64, canonical where concept and unit are known, else as it was.
        unit: Canonical where concept and unit are known, else as it was.
        problem: Why the row must be quarantined, or null.
        flag: Name of a flag, or null.
    """

    rows: Any
    value: Any
    unit: Any
    problem: Any
    flag: Any


@functools.cache
def quantities() -> Mapping[str, KnownQuantity]:
    """Every quantity by name.

    Raises:
        ConfigError: The file is not as it should be; the message names the place.
    """
    return read_quantities(FILE)[0]


def check_concept(name: str, where: str) -> None:
    """Refuse a concept that is not in the table.

    Raises:
        ConfigError: It is not; the message names the nearest one.
    """
    if name not in quantities():
        raise ConfigError(f"{where}: " + unknown_name("quantity", name, quantities()))


def look_up_table() -> pa.Table:
    """One row per concept and spelling of a unit (blank: no unit given), for `convert`."""
    known, spellings = read_quantities(FILE)
    rows = [row for quantity in known.values() for row in _rows(quantity, spellings)]
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in _SHAPE.items()})


def convert(rows: Any, known: Any, concept: Any, value: Any, unit: Any) -> Converted:
    """Bring the numbers of a table to canonical units and tell which are impossible.

    Where `concept` is null nothing happens. A null or empty unit means the canonical one. A value
    that is impossible in its unit but plausible in the one it is often mistaken for is converted
    and flagged; a unit that is not in the table is flagged and the value left alone.

    Args:
        rows: Ibis table.
        known: `look_up_table()` as a table of the same engine.
        concept: Text column of `rows`: a name of `quantities.yaml`, or null.
        value: Number column of `rows`, as written.
        unit: Text column of `rows`, or None where the source has no units.

    Returns:
        The joined rows and the columns value, unit, problem and flag over them.
    """
    spelling = ibis.literal("") if unit is None else ibis.coalesce(unit.lower().replace(" ", ""), "")
    held = rows.mutate(
        _q_name=concept.cast("string"),
        _q_given=spelling,
        _q_value=value.cast("float64"),
        _q_raw_unit=ibis.null("string") if unit is None else unit,
    )
    joined = held.left_join(
        known, [held["_q_name"] == known["_q_concept"], held["_q_given"] == known["_q_spelling"]]
    )
    found = joined["_q_concept"].notnull()
    given = joined["_q_value"]
    canonical = given * joined["_q_factor"] + joined["_q_offset"]
    other = given * joined["_q_other_factor"] + joined["_q_other_offset"]
    possible = canonical.between(joined["_q_low"], joined["_q_high"])
    # Null where the unit is never mistaken for another; every use below asks for true.
    meant = ibis.coalesce(
        ~possible & other.between(joined["_q_other_low"], joined["_q_other_high"]), ibis.literal(False)
    )
    capped = ibis.coalesce(possible & (canonical > joined["_q_above"]), ibis.literal(False))
    no_text = ibis.null("string")
    return Converted(
        rows=joined,
        value=ibis.cases((meant, other), (capped, joined["_q_capped"]), (found, canonical), else_=given),
        unit=ibis.ifelse(found, joined["_q_unit"], joined["_q_raw_unit"]),
        problem=ibis.ifelse(found & ~possible & ~meant, joined["_q_problem"], no_text),
        flag=ibis.cases(
            (meant, joined["_q_other_flag"]),
            (capped, joined["_q_cap_flag"]),
            (joined["_q_name"].notnull() & ~found & given.notnull(), UNKNOWN_UNIT),
            else_=no_text,
        ),
    )


def read_quantities(path: Path) -> tuple[dict[str, KnownQuantity], dict[str, list[str]]]:
    """Read and check a file like `quantities.yaml`.

    Returns:
        Name → quantity, and unit → its other spellings.

    Raises:
        ConfigError: An unknown key, source or unit, or limits the wrong way round.
    """
    content = read_yaml(path)
    _only(content, ("sources", "spellings", "quantities"), path.name)
    sources = content.get("sources") or {}
    spellings = {str(unit): [str(name) for name in names] for unit, names in content["spellings"].items()}
    known = {
        name: _quantity(name, entry, sources, path.name) for name, entry in content["quantities"].items()
    }
    return known, spellings


def _quantity(name: str, entry: Any, sources: Mapping[str, Any], file: str) -> KnownQuantity:
    where = f"{file} {name}"
    _only(entry, ("unit", "low", "high", "limits", "units", "mistaken", "cap"), where)
    for key in ("unit", "low", "high", "limits"):
        if key not in entry:
            raise ConfigError(f"{where}: the key {key!r} is missing; add it")
    if entry["limits"] not in sources:
        raise ConfigError(f"{where}: " + unknown_name("source", str(entry["limits"]), sources))
    units = {str(entry["unit"]): (1.0, 0.0)}
    for unit, factor in (entry.get("units") or {}).items():
        pair = factor if isinstance(factor, list) else [factor, 0]
        units[str(unit)] = (float(pair[0]), float(pair[1]))
    mistaken = {str(unit): Mistaken(**part) for unit, part in (entry.get("mistaken") or {}).items()}
    for unit in (*mistaken, *(part.unit for part in mistaken.values())):
        if unit not in units:
            raise ConfigError(f"{where}.mistaken: " + unknown_name("unit", unit, units))
    low, high = float(entry["low"]), float(entry["high"])
    if low >= high:
        raise ConfigError(f"{where}: low {low:g} is not below high {high:g}; swap or mend them")
    cap = Cap(**entry["cap"]) if entry.get("cap") else None
    return KnownQuantity(name, str(entry["unit"]), units, low, high, str(entry["limits"]), mistaken, cap)


def _only(entry: Any, valid: tuple[str, ...], where: str) -> None:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where}: expected `key: value` lines, got {entry!r}")
    for key in entry:
        if key not in valid:
            raise ConfigError(f"{where}: " + unknown_name("key", str(key), valid))


def _rows(quantity: KnownQuantity, spellings: Mapping[str, list[str]]) -> Iterator[dict[str, Any]]:
    written: dict[str, str] = {"": quantity.unit}
    # What a unit is called itself goes before what another unit is also called.
    for unit in quantity.units:
        written.setdefault(_plain(unit), unit)
    for unit in quantity.units:
        for spelling in spellings.get(unit, []):
            written.setdefault(_plain(spelling), unit)
    for spelling, unit in written.items():
        factor, offset = quantity.units[unit]
        mistaken, cap = quantity.mistaken.get(unit), quantity.cap
        other = quantity.units[mistaken.unit] if mistaken else (None, None)
        values = (
            *(quantity.name, spelling, quantity.unit, factor, offset),
            *(quantity.low, quantity.high, quantity.problem, *other),
            *((mistaken.low, mistaken.high, mistaken.flag) if mistaken else (None, None, None)),
            *((cap.above, cap.value, cap.flag) if cap else (None, None, None)),
        )
        yield dict(zip(_SHAPE, values, strict=True))


def _plain(unit: str) -> str:
    """A unit as `convert` compares it: small letters, no blanks."""
    return unit.lower().replace(" ", "")
