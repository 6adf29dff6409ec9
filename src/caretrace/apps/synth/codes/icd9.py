"""ICD-9-CM diagnosis codes: how they are written, where they stand in the hierarchy, and who may have them.

`tables/` is made by `scripts/synth_tables.py` from works of the US government: categories of the Clinical
Classifications Software 2015 (AHRQ/HCUP; their names ship with `hospital.histories`), and the age and sex edits
of the Medicare Code Editor, version 32 (CMS, Definitions of Medicare Code Edits). The edits are checks of claims,
not a full biology: a code on no list is not thereby possible for everybody.

Publishers cut codes (`250`, `600`). What is said of a cut code is what holds for every code below it.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.errors import InputError
from caretrace.hospital.histories.catalogue import AGE_EDITS, NO_LIMIT, SEXES, ccs_labels

# First three-digit category of each chapter, ICD-9-CM tabular list (CDC/NCHS); V and E are the supplements.
CHAPTERS = (
    (1, "Infectious and parasitic diseases"),
    (140, "Neoplasms"),
    (240, "Endocrine, nutritional, metabolic and immunity disorders"),
    (280, "Blood and blood-forming organs"),
    (290, "Mental disorders"),
    (320, "Nervous system and sense organs"),
    (390, "Circulatory system"),
    (460, "Respiratory system"),
    (520, "Digestive system"),
    (580, "Genitourinary system"),
    (630, "Pregnancy, childbirth and the puerperium"),
    (680, "Skin and subcutaneous tissue"),
    (710, "Musculoskeletal system and connective tissue"),
    (740, "Congenital anomalies"),
    (760, "Conditions originating in the perinatal period"),
    (780, "Symptoms, signs and ill-defined conditions"),
    (800, "Injury and poisoning"),
)
SUPPLEMENTS = {"V": "Factors influencing health status", "E": "External causes of injury and poisoning"}
_SHAPE = re.compile(r"([VE]?)(\d+)(?:\.(\d{0,2}))?")


def normalise(text: str) -> str:
    """A code without a dot and with its zeros: `8.5` → `0085`, `e30` → `E030`, ` v1.5` → `V015`, `250.6` → `2506`.

    Spreadsheets drop leading zeros. Before a dot they are put back always; without a dot only where the digits
    are too few for a category, or where the code exists with the zero alone (`3810` exists, `3819` is 381.9 too;
    `1186` is none, so it is 011.86).

    Args:
        text: Dotted or not, any case, blanks around it.

    Raises:
        InputError: No ICD-9-CM code could be written so.
    """
    found = _SHAPE.fullmatch(text.strip().upper())
    if found is None:
        raise InputError(
            f"{text!r} is no ICD-9-CM code; give three digits (V and two, E and three) and up to two more"
        )
    kind, whole, decimals = found.groups()
    width = 2 if kind == "V" else 3
    most = width + (1 if kind == "E" else 2)
    if decimals is not None:
        code = kind + whole.zfill(width) + decimals
        fits = len(whole) <= width and len(code) - len(kind) <= most
    else:
        code = _with_zeros(kind, whole, width)
        fits = len(code) - len(kind) <= most
    if not fits:
        raise InputError(f"{text!r} is no ICD-9-CM code: too many digits; drop what is not part of the code")
    return code


def dotted(code: str) -> str:
    """With its dot: `25000` → `250.00`, `E8120` → `E812.0`, `V270` → `V27.0`, `250` → `250`."""
    head = category(code)
    return head + ("." + code[len(head) :] if len(code) > len(head) else "")


def category(code: str) -> str:
    """Category of a normalised code: three digits, V and two, E and three."""
    return code[: 4 if code.startswith("E") else 3]


def chapter(code: str) -> str:
    """Chapter of a normalised code, by name."""
    if code[0] in SUPPLEMENTS:
        return SUPPLEMENTS[code[0]]
    place = bisect.bisect_right(CHAPTERS, int(code[:3]), key=lambda entry: entry[0]) - 1
    return CHAPTERS[max(place, 0)][1]


def ccs(code: str) -> int:
    """CCS category of a normalised code; of a cut code the one most codes below it have; 0 if unknown."""
    table = _ccs_by_code()
    if code in table:
        return table[code]
    below = Counter(table[full] for full in _below(code))
    return below.most_common(1)[0][0] if below else 0


def ccs_name(code: str) -> str:
    """Short name of `ccs(code)`."""
    return ccs_labels().get(ccs(code), "unknown")


def exists(code: str) -> bool:
    """Whether a normalised code, or a code below it, is in ICD-9-CM."""
    return bool(_below(code))


@dataclasses.dataclass(frozen=True, eq=False)
class Limits:
    """Who may have a code, axis `[code]`.

    Args:
        age_first: Youngest age, whole years.
        age_last: Oldest age, whole years.
        sexes: `[code, sex]`, in the order of `SEXES`.
    """

    age_first: NDArray[np.int64]
    age_last: NDArray[np.int64]
    sexes: NDArray[np.bool_]


def limits(codes: Sequence[str]) -> Limits:
    """Limits of the Medicare Code Editor.

    Args:
        codes: Normalised codes; what is no ICD-9-CM code has no limit.
    """
    found = [_limits(code) for code in codes]
    return Limits(
        age_first=np.array([first for first, _, _ in found], np.int64),
        age_last=np.array([last for _, last, _ in found], np.int64),
        sexes=np.array([[sex in allowed for sex in SEXES] for _, _, allowed in found]).reshape(
            -1, len(SEXES)
        ),
    )


def edits(code: str) -> frozenset[str]:
    """Edits of the Medicare Code Editor that hold for a normalised code, or for every code below it."""
    table = _edits_by_code()
    listed = [table.get(full, frozenset()) for full in _below(code)]
    return frozenset.intersection(*listed) if listed else frozenset()


def _limits(code: str) -> tuple[int, int, str]:
    names = edits(code)
    spans = [NO_LIMIT, *(AGE_EDITS[name] for name in names if name in AGE_EDITS)]
    sexes = [name for name in names if name in SEXES]
    return max(first for first, _ in spans), min(last for _, last in spans), "".join(sexes or SEXES)


def _with_zeros(kind: str, digits: str, width: int) -> str:
    if len(digits) < width:
        return kind + digits.zfill(width)
    code = kind + digits
    if not exists(code) and exists(kind + "0" + digits):
        return kind + "0" + digits
    return code


def _below(code: str) -> Sequence[str]:
    """The codes that begin with it and have none below them; a code of today begins with itself."""
    known = _leaves()
    return known[bisect.bisect_left(known, code) : bisect.bisect_left(known, code + "\uffff")]


@functools.cache
def _leaves() -> list[str]:
    """Sorted codes with none below them; the table covers many years and also holds codes split since."""
    known = sorted(_ccs_by_code())
    return [a for a, b in zip(known, [*known[1:], ""], strict=True) if not b.startswith(a)]


@functools.cache
def _ccs_by_code() -> dict[str, int]:
    return {code: int(number) for number, codes in _read("ccs_codes.csv") for code in codes.split()}


@functools.cache
def _edits_by_code() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for edit, codes in _read("mce.csv"):
        for code in codes.split():
            found.setdefault(code, set()).add(edit)
    return {code: frozenset(names) for code, names in found.items()}


def _read(name: str) -> list[tuple[str, str]]:
    with (files(__package__) / "tables" / name).open("rb") as file:
        return pl.read_csv(file.read(), infer_schema=False).rows()
