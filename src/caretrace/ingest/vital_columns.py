"""Which column of somebody's table of vital signs is what: by what the user says, else by common header names.

A guess is made only where one column can be meant; anything else is refused with the flags to give. Every
column gets a use and a reason, so that the quality report can say what became of it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from caretrace.config import read_yaml
from caretrace.errors import ConfigError, unknown_name

# What a column can be; those of `VITAL` also name a quantity.
SUBJECT, TIME, NAME, VALUE, UNIT = "subject", "time", "name", "value", "unit"
VITAL, AGE, GENDER, OTHER, SKIPPED = "vital", "age", "gender", "other", "not_mapped"
ROLES = (SUBJECT, TIME, NAME, VALUE, UNIT, AGE, GENDER)

# `--option time=none`: there is no time.
NO_TIME = "none"
GUESSED = "guessed from its name"

# Quantity → header names that mean it, as `plain` writes them.
_NAMES: dict[str, tuple[str, ...]] = {
    "heart_rate": ("hr", "heart rate", "heartrate", "pulse", "pulse rate", "heart beat", "heartbeat"),
    "oxygen_saturation": (
        *("spo2", "sp o2", "oxygen saturation", "o2 saturation", "o2sat", "o2 sat", "saturation"),
        *("blood oxygen", "oxygen level", "oximetry", "pulse oximetry", "pulse ox"),
    ),
    "respiratory_rate": (
        *("rr", "resp", "resp rate", "respiratory rate", "respiration rate", "respiration", "respirations"),
        *("breathing rate", "resprate"),
    ),
    "temperature": ("temp", "temperature", "body temperature", "body temp", "core temperature"),
    "systolic_pressure": (
        *("sbp", "systolic", "systolic bp", "systolic blood pressure", "systolic pressure", "sys bp"),
        *("bp systolic", "blood pressure systolic", "nibp systolic", "sysbp", "sysabp", "nisysabp"),
    ),
    "diastolic_pressure": (
        *("dbp", "diastolic", "diastolic bp", "diastolic blood pressure", "diastolic pressure", "dia bp"),
        *("bp diastolic", "blood pressure diastolic", "nibp diastolic", "diasbp", "diasabp", "nidiasabp"),
    ),
    "mean_pressure": (
        *("map", "mbp", "mean bp", "mean arterial pressure", "mean blood pressure", "mean pressure"),
        *("meanbp", "nimap", "nibp mean", "bp mean"),
    ),
    "weight": ("weight", "body weight", "wt"),
    "height": ("height", "body height", "ht"),
}
CONCEPTS = tuple(_NAMES)
_CONCEPT_OF = {name: concept for concept, names in _NAMES.items() for name in names}

_ROLE_NAMES: dict[str, tuple[str, ...]] = {
    SUBJECT: (
        *("patient id", "patientid", "patient", "subject id", "subject", "subjectid", "person id", "pid"),
        *("patient name", "patient no", "patient number", "record id", "recordid", "stay id", "icustay id"),
        "mrn",
    ),
    TIME: (
        *("timestamp", "time stamp", "time", "datetime", "date time", "charttime", "chart time", "date"),
        *("recorded at", "measured at", "measurement time", "observation time", "recorded time", "seconds"),
        *("minutes", "hours", "elapsed", "elapsed time", "offset"),
    ),
    AGE: ("age", "age years", "patient age"),
    GENDER: ("gender", "sex"),
}
_LONG_NAMES: dict[str, tuple[str, ...]] = {
    NAME: (
        "name",
        "param",
        "parameter",
        "vital",
        "vital sign",
        "variable",
        "signal",
        "measurement",
        "concept",
    ),
    VALUE: ("value", "val", "numeric value", "reading", "result", "valuenum"),
    UNIT: ("unit", "units", "valueuom", "uom"),
}

# How units are written in headers, as `Temp (F)`, `weight_kg`; the quantities know the spellings.
_UNITS = {
    "bpm", "min", "breaths min", "brpm", "pct", "percent", "c", "celsius", "degc", "deg c", "f", "fahrenheit",
    "degf", "deg f", "mmhg", "kpa", "kg", "lb", "lbs", "g", "cm", "m", "in", "inch", "inches", "ft",
}  # fmt: skip
_MORE_UNITS = {"beats min", "beats per minute", "breaths per minute", "mm hg", "pounds", "1 min"}
_TIME_UNITS = {"s": "s", "sec": "s", "secs": "s", "seconds": "s", "ms": "ms", "min": "min", "mins": "min",
               "minutes": "min", "h": "h", "hr": "h", "hrs": "h", "hours": "h", "days": "d", "d": "d"}  # fmt: skip
_LABEL = re.compile(
    r"\b(label|target|outcome|risk|class|category|diagnosis|disease|status|prediction|predicted|anomaly|alert"
    r"|mortality|died|survived|deterioration)\b"
)
_ROW_NUMBER = re.compile(r"^(unnamed( \d+)?|index|row|row id|row number|no|nr|sr no)$")
LABEL_REASON = (
    "looks like a label, something a model should predict and not see; `--option other` makes events of it"
)
ROW_REASON = "looks like a row number"


@dataclasses.dataclass(frozen=True)
class Use:
    """What becomes of one column.

    Args:
        header: Its name in the file.
        role: One of the roles above.
        concept: The quantity of a vital sign.
        unit: The unit its name or the user gives; None is the quantity's own.
        why: `given`, `guessed from its name`, or why it is not mapped.
    """

    header: str
    role: str
    concept: str | None = None
    unit: str | None = None
    why: str = "given"


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What the user said about the columns.

    Args:
        headers: Role or quantity → header.
        uses: Header → role (`other`, `not_mapped`) or quantity.
        units: Header or quantity → unit.
    """

    headers: Mapping[str, str]
    uses: Mapping[str, str]
    units: Mapping[str, str]

    @classmethod
    def read(cls, options: Mapping[str, str]) -> Wishes:
        """From `--option name=value` and the file that `--option columns=` names.

        Raises:
            ConfigError: A key of that file, or a list of units, that cannot be understood.
        """
        told = {name: str(value) for name, value in options.items() if name in (*ROLES, *CONCEPTS)}
        if told.get(TIME) == NO_TIME:
            del told[TIME]
        uses = dict.fromkeys(_listed(options.get("other")), OTHER)
        uses |= dict.fromkeys(_listed(options.get("skip")), SKIPPED)
        units = {}
        for pair in _listed(options.get("units")):
            name, equals, unit = pair.partition("=")
            if not equals or not unit.strip():
                raise ConfigError(
                    f"--option units={options['units']!r}: expected `name=unit, name=unit` such as temperature=F"
                )
            units[name.strip()] = unit.strip()
        if options.get("columns"):
            _read_columns(Path(str(options["columns"])), told, uses, units)
        return cls(told, uses, units)


def plain(header: str) -> str:
    """A header as words: `Heart_Rate (bpm)` → `heart rate`."""
    bare = re.sub(r"[(\[{].*?[)\]}]", " ", header)
    bare = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", bare)
    return " ".join(re.findall(r"[a-z0-9]+", bare.lower()))


def concept_of(header: str) -> tuple[str | None, str | None]:
    """The quantity a name means and the unit it carries; None and None where it means none."""
    found = re.search(r"[(\[{]\s*(.*?)\s*[)\]}]", header)
    words = plain(header)
    if words in _CONCEPT_OF:
        return _CONCEPT_OF[words], _unit(found.group(1)) if found else None
    front, _, last = words.rpartition(" ")
    if front in _CONCEPT_OF and last in _UNITS:
        return _CONCEPT_OF[front], last
    return None, None


def time_unit_of(header: str) -> str | None:
    """The unit of a time column whose name says it: `time (s)`, `elapsed_min`, `Hours`."""
    found = re.search(r"[(\[{]\s*(.*?)\s*[)\]}]", header)
    words = [found.group(1).lower()] if found else plain(header).split()[-1:]
    return next((_TIME_UNITS[word] for word in words if word in _TIME_UNITS), None)


def resolve(header: Sequence[str], wishes: Wishes, label: str, *, without: Collection[str] = ()) -> list[Use]:
    """A use for every column of a file.

    Args:
        header: Column names.
        wishes: What the user said.
        label: What to call the file.
        without: Roles that no column has, because the user said otherwise (`subject`, `time`).

    Raises:
        ConfigError: A column the user names is not there, or the names leave more than one reading.
    """
    for role in without:
        if role in wishes.headers:
            raise ConfigError(
                f"{label}: two answers to one question: {role} is a column and also is not; give one"
            )
    uses = _told(header, wishes, label)
    taken = {use.concept or use.role for use in uses.values()}
    roles = {role: names for role, names in _ROLE_NAMES.items() if role not in without}
    _guess_roles(header, uses, taken, roles, label)
    vitals = [name for name in header if name not in uses and concept_of(name)[0]]
    if not vitals and not any(use.role == VITAL for use in uses.values()):
        _guess_roles(header, uses, taken, _LONG_NAMES, label)
    _guess_vitals(vitals, uses, taken, wishes, label)
    for name in header:
        if name not in uses:
            uses[name] = _rest(name)
    found = [uses[name] for name in header]
    _refuse_incomplete(found, label, SUBJECT not in without)
    return found


def _told(header: Sequence[str], wishes: Wishes, label: str) -> dict[str, Use]:
    uses: dict[str, Use] = {}
    for what, name in [*wishes.headers.items(), *((use, name) for name, use in wishes.uses.items())]:
        if name not in header:
            raise ConfigError(f"{label}: --option {what}: " + unknown_name("column", name, header))
        if name in uses:
            raise ConfigError(
                f"{label}: the column {name!r} is given twice, as {uses[name].role} and as {what}"
            )
        if what in (*ROLES, OTHER, SKIPPED):
            why = "you asked to leave it out" if what == SKIPPED else "given"
            uses[name] = Use(name, what, why=why)
        else:
            unit = wishes.units.get(name) or wishes.units.get(what) or concept_of(name)[1]
            uses[name] = Use(name, VITAL, what, unit)
    return uses


def _guess_roles(
    header: Sequence[str],
    uses: dict[str, Use],
    taken: set[str],
    names: Mapping[str, Sequence[str]],
    label: str,
) -> None:
    for role, meanings in names.items():
        if role in taken:
            continue
        fitting = [name for name in header if name not in uses and _means(name, role, meanings)]
        if not fitting and role == SUBJECT:
            fitting = [name for name in header if name not in uses and plain(name) == "id"]
        if len(fitting) > 1:
            raise ConfigError(_ambiguous(label, role, fitting))
        if fitting:
            uses[fitting[0]] = Use(fitting[0], role, why=GUESSED)
            taken.add(role)


def _means(name: str, role: str, meanings: Sequence[str]) -> bool:
    words = plain(name)
    front, _, last = words.rpartition(" ")
    return words in meanings or (role == TIME and last in _TIME_UNITS and front in meanings)


def _guess_vitals(
    vitals: Sequence[str], uses: dict[str, Use], taken: set[str], wishes: Wishes, label: str
) -> None:
    meant: dict[str, list[str]] = {}
    for name in vitals:
        if name not in uses:
            meant.setdefault(str(concept_of(name)[0]), []).append(name)
    for concept, names in meant.items():
        if concept in taken:
            continue  # the user chose another column; these become OTHER events
        if len(names) > 1:
            raise ConfigError(_ambiguous(label, concept, names))
        unit = wishes.units.get(names[0]) or wishes.units.get(concept) or concept_of(names[0])[1]
        uses[names[0]] = Use(names[0], VITAL, concept, unit, GUESSED)


def _ambiguous(label: str, what: str, names: Sequence[str]) -> str:
    shown = " and ".join(repr(name) for name in names)
    return (
        f"{label}: the columns {shown} can both mean {what}; say which one with "
        f'--option {what}="{names[0]}" (the other is kept under its own name), or leave one out with '
        f'--option skip="{names[1]}"'
    )


def _rest(name: str) -> Use:
    words = plain(name)
    if _ROW_NUMBER.match(words):
        return Use(name, SKIPPED, why=ROW_REASON)
    if _LABEL.search(words):
        return Use(name, SKIPPED, why=LABEL_REASON)
    return Use(name, OTHER, why="no vital sign is called so")


def _refuse_incomplete(uses: Sequence[Use], label: str, needs_subject: bool) -> None:
    roles = {use.role for use in uses}
    there = ", ".join(use.header for use in uses)
    if needs_subject and SUBJECT not in roles:
        raise ConfigError(
            f"{label}: no column is known to name the subject ({there}); say --option subject=COLUMN, or "
            "--option subject_is=NAME if all of it is one person, or --option subject_is=file if each file is"
        )
    if (NAME in roles) != (VALUE in roles):
        raise ConfigError(
            f"{label}: one measurement per row needs a column with the name and one with the value ({there}); "
            "say --option name=COLUMN --option value=COLUMN"
        )
    if not roles & {VITAL, NAME}:
        raise ConfigError(
            f"{label}: no column is known to hold a vital sign ({there}); say which, for example "
            f"--option heart_rate=COLUMN; known are {', '.join(CONCEPTS)}"
        )


def _read_columns(path: Path, told: dict[str, str], uses: dict[str, str], units: dict[str, str]) -> None:
    values = read_yaml(path)
    for header, part in values.items():
        what: Any = part
        if isinstance(part, Mapping):
            for key in part:
                if key not in ("as", "unit"):
                    raise ConfigError(f"{path} {header}: " + unknown_name("key", str(key), ("as", "unit")))
            what = part.get("as")
            if part.get("unit"):
                units[str(header)] = str(part["unit"])
        valid = (*ROLES, *CONCEPTS, OTHER, "skip")
        if what not in valid:
            raise ConfigError(f"{path} {header}: " + unknown_name("use", str(what), valid))
        if what in (OTHER, "skip"):
            uses[str(header)] = OTHER if what == OTHER else SKIPPED
        else:
            told[str(what)] = str(header)


def _listed(value: Any) -> list[str]:
    return [part.strip() for part in str(value or "").split(",") if part.strip()]


def _unit(text: str) -> str | None:
    """What stands in brackets, if it is a unit and not a remark (`Heart Rate (resting)`)."""
    words = " ".join(re.findall(r"[a-z0-9]+", text.lower()))
    return text if text == "%" or words in _UNITS or words in _MORE_UNITS else None
