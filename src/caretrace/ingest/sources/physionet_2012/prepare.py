"""The publisher's layout, one text file per stay, as the tables that `events.yaml` reads.

`set-a/132539.txt` (`Time,Parameter,Value`) becomes rows of `set-a.csv` with the record in front, line by
line, so that a malformed line stays malformed and is quarantined like any other.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from caretrace.errors import InputError

_HEADER = "Time,Parameter,Value"


def prepare(raw: Path, work: Path, options: Mapping[str, str]) -> tuple[Path, list[str]]:
    """Write the tables of the publisher's layout to `work`; other layouts are left as they are.

    Args:
        raw: Folder as downloaded.
        work: Folder to write to; made when needed.
        options: None are understood.

    Returns:
        The folder that holds the tables, and patterns of the raw files that were read for it.

    Raises:
        InputError: A record file without a number as its name or without its header.
    """
    sets = [name for name in ("set-a", "set-b", "set-c") if (raw / name).is_dir()]
    if not sets:
        return raw, []
    work.mkdir(parents=True)
    for name in sets:
        with (work / f"{name}.csv").open("w", encoding="utf-8", newline="") as table:
            table.write(f"RecordID,{_HEADER}\n")
            for record in sorted((raw / name).glob("*.txt")):
                table.writelines(_rows(record))
    consumed = [f"{name}/*.txt" for name in sets]
    for letter in "abc":
        for found in (raw / f"Outcomes-{letter}.txt", raw / f"outcomes-{letter}.csv"):
            if found.is_file():
                shutil.copyfile(found, work / f"outcomes-{letter}.csv")
                consumed.append(found.name)
                break
    return work, consumed


def _rows(record: Path) -> list[str]:
    if not re.fullmatch(r"\d+", record.stem):
        raise InputError(
            f"{record}: a record file is named by its number, such as 132539.txt; remove this file"
        )
    try:
        lines = record.read_bytes().decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{record} is not UTF-8; fetch the file again") from None
    if not lines or lines[0].strip() != _HEADER:
        got = lines[0].strip() if lines else "nothing"
        raise InputError(f"{record}: the first line must be {_HEADER!r}, got {got!r}; fetch the file again")
    return [f"{record.stem},{line}\n" for line in lines[1:] if line.strip()]
