"""Write the ICD-9-CM tables of `caretrace.apps.synth` from the publishers' files.

Usage: python scripts/synth_tables.py FOLDER [OUT]

FOLDER holds, gzipped as in github nlindner/CMS_Issued_Codes_For_SQL and nickschiltz/sas-ccs-loadin:
`mce_code_edits_v32.tsv.gz` (CMS, Definitions of Medicare Code Edits, version 32) and
`ccs_single_level_dxref_2015.csv.gz` (AHRQ/HCUP, Clinical Classifications Software); works of the US
government. One line per CCS category and per edit, codes without dots.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

from histories_table import _rows

PACKAGE = Path(__file__).parents[1] / "src" / "caretrace" / "apps" / "synth" / "codes" / "tables"
EDITS = {
    "Newborn_Only": "newborn", "Pediatric_Only": "pediatric", "Maternity_Only": "maternity", "Adult_Only": "adult",
    "Female_Only": "F", "Male_Only": "M",
}  # fmt: skip


def main(folder: Path, out: Path = PACKAGE) -> None:
    """Write `ccs_codes.csv` and `mce.csv`."""
    members: dict[int, set[str]] = defaultdict(set)
    for cells in _rows(folder / "ccs_single_level_dxref_2015.csv.gz", ",", quote="'"):
        code, category = (cell.strip().strip("'").strip() for cell in cells[:2])
        if code and category not in {"", "0"}:
            members[int(category)].add(code)
    edits: dict[str, set[str]] = {name: set() for name in EDITS.values()}
    for row in _rows(folder / "mce_code_edits_v32.tsv.gz", "\t"):
        if row[5] == "D" and row[4] in EDITS:
            edits[EDITS[row[4]]].add(row[6].strip())
    _write(out / "ccs_codes.csv", "ccs", sorted(members.items()))
    _write(out / "mce.csv", "edit", edits.items())


def _write(path: Path, name: str, rows: object) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([name, "codes"])
        out.writerows([key, " ".join(sorted(codes))] for key, codes in rows)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
