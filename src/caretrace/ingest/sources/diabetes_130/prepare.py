"""The encounters with what no formula over one row can give: their place in a nominal calendar, whole ICD codes.

Every line of `diabetic_data.csv` is kept as it stands and gets five columns behind it: `encounter_number` and
`nominal_day` (see `Calendar`), and `icd_1` to `icd_3` (see `whole_icd9`). A malformed line stays malformed.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from caretrace.errors import InputError
from caretrace.ingest.reading import find_file, is_packed, refuse_changed, scan, stamp

_STEM = "diabetic_data"
_DIAGNOSES = ("diag_1", "diag_2", "diag_3")
_NEEDED = ("patient_nbr", "encounter_id", "time_in_hospital", *_DIAGNOSES)
ADDED = ("encounter_number", "nominal_day", "icd_1", "icd_2", "icd_3")

# Days from a discharge to the next admission: a convention of ours, longer than the 30 and 60 days after a
# discharge at which the outcome is written (events.yaml). The data hold no dates.
NOMINAL_GAP_DAYS = 90
_LONGEST_STAY_DAYS = 14  # as published

_MISSING = ("", "?")

# Subject, encounter, days in hospital; None where a line cannot be read so far.
Encounter = tuple[int, int, int]


def prepare(raw: Path, work: Path, options: Mapping[str, str]) -> tuple[Path, list[str]]:
    """Write the encounters with their added columns to `work`.

    Args:
        raw: Folder as downloaded.
        work: Folder to write to; made when needed.
        options: None are understood.

    Returns:
        The folder with the table, and the patterns of the raw files that were read for it.

    Raises:
        InputError: The file is not UTF-8 text, or cannot be read to its end.
    """
    path = find_file(raw, _STEM)
    if path is None:
        return raw, []
    if path.suffix == ".parquet":
        raise InputError(f"{path.name}: this source reads the publisher's text; give {_STEM}.csv or .csv.gz")
    before = stamp(path)
    scan(path, path.name)
    work.mkdir(parents=True)
    lines = _lines(path)
    places = _places(next(lines, ""))
    found = [_encounter(_cells(line), places) for line in lines] if places else []
    calendar = nominal_calendar({entry for entry in found if entry is not None})
    with (work / f"{_STEM}.csv").open("w", encoding="utf-8", newline="") as table:
        lines = _lines(path)
        table.write(",".join([next(lines, ""), *ADDED]) + "\n")
        for line, entry in zip(lines, found, strict=False):
            number, day = calendar.get(entry, ("", "")) if entry else ("", "")
            cells = _cells(line)
            codes = [whole_icd9(cells[places[name]]) if entry else "" for name in _DIAGNOSES]
            table.write(",".join([line, str(number), str(day), *codes]) + "\n")
    refuse_changed(path, path.name, before)
    return work, [path.name]


def nominal_calendar(encounters: set[Encounter]) -> dict[Encounter, tuple[int, int]]:
    """Number and first day of each encounter, counted per subject in the order of `encounter_id`.

    A subject's first encounter begins on day 0, each further one `NOMINAL_GAP_DAYS` after the discharge
    before it. Order and length of stay are the data's; the gaps are not, and carry no information.

    Args:
        encounters: Subject, encounter, days in hospital.

    Returns:
        Encounter → (number from 0, day from 0).
    """
    calendar: dict[Encounter, tuple[int, int]] = {}
    subject, number, day = None, 0, 0
    for entry in sorted(encounters):
        if entry[0] != subject:
            subject, number, day = entry[0], 0, 0
        calendar[entry] = (number, day)
        number += 1
        day += min(max(entry[2], 0), _LONGEST_STAY_DAYS) + NOMINAL_GAP_DAYS
    return calendar


def whole_icd9(text: str) -> str:
    """An ICD-9-CM code without its dot, with the zeros that a spreadsheet took from it put back.

    The publisher cut every code to its three-digit category but those of diabetes (250), and the codes went
    through a spreadsheet as numbers: 038 became 38, 008 became 8, 250.60 became 250.6 and 250.00 became 250
    (250.01 to 250.93 are all there with their digits, so a bare 250 can only be the zeros).

    Args:
        text: As in the file.

    Returns:
        The code, empty when the text is missing or no ICD-9-CM code.
    """
    text = text.strip().upper()
    diabetes = re.fullmatch(r"250(?:\.(\d{1,2}))?", text)
    if diabetes is not None:
        return "250" + (diabetes.group(1) or "").ljust(2, "0")
    number = re.fullmatch(r"(\d{1,3})(?:\.(\d{1,2}))?", text)
    if number is not None:  # with a dot outside diabetes too: one code, 365.44, escaped the cut
        return number.group(1).zfill(3) + (number.group(2) or "")
    return text if re.fullmatch(r"V\d{2}|E\d{3}", text) else ""


def _lines(path: Path) -> Iterator[str]:
    opened = gzip.open if is_packed(path) else Path.open
    try:
        with opened(path, "rt", encoding="utf-8-sig") as text:
            for line in text:
                if line.strip():
                    yield line.rstrip("\n")
    except UnicodeDecodeError:
        raise InputError(f"{path.name} is not UTF-8; save it as UTF-8 and run again") from None


def _cells(line: str) -> list[str]:
    return next(csv.reader([line]), []) if '"' in line else line.split(",")


def _places(header: str) -> dict[str, int]:
    """Where the columns stand; empty when one is missing, which the reader of the table reports."""
    names = [name.strip() for name in _cells(header)]
    return {name: names.index(name) for name in _NEEDED} if set(_NEEDED) <= set(names) else {}


def _encounter(cells: list[str], places: dict[str, int]) -> Encounter | None:
    try:
        subject, encounter, days = (int(cells[places[name]]) for name in _NEEDED[:3])
    except (ValueError, IndexError):
        return None
    return (subject, encounter, days) if len(cells) > max(places.values()) else None
