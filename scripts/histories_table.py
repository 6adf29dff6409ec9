"""Write the ICD-9-CM table of `caretrace.hospital.histories` from the publishers' files.

Usage: python scripts/histories_table.py FOLDER

FOLDER holds, gzipped as in github nlindner/CMS_Issued_Codes_For_SQL and nickschiltz/sas-ccs-loadin:
`icd9cm_v32_diagnosis_titles.psv.gz` (CMS and CDC/NCHS), `mce_code_edits_v32.tsv.gz` (CMS, Definitions of
Medicare Code Edits) and `ccs_single_level_dxref_2015.csv.gz` (AHRQ/HCUP); works of the US government.
The table keeps the codes of each CCS category that come first in an assumed order of frequency.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
import re
import sys
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "caretrace" / "hospital" / "histories"
KEEP, KEEP_POWER = 1.4, 0.6  # codes kept of a category of n: KEEP * n ** KEEP_POWER
AGES = {
    "Newborn_Only": "newborn", "Pediatric_Only": "pediatric", "Maternity_Only": "maternity", "Adult_Only": "adult",
}  # fmt: skip
SEXES = {"Female_Only": "F", "Male_Only": "M"}
NOT_FIRST = ("Principal_Manifestation", "Principal_Unacceptable")
# First in their category: assumed from general knowledge of hospital coding, no counts stand behind it.
LEADING = re.findall(
    r"\S+",
    """
    0389 99592 99591 0088 00845 042 0794 07054 1120 1125 1550 1570 1623 1629 1749 185 1889 1890 1985
    1977 20280 20300 2449 25000 25002 25060 25040 25080 25070 25050 25001 2724 2720 2749 27651 2768 2761
    2762 2767 27800 27801 2809 2851 28521 2859 2875 2880 2930 29410 2948 2989 29570 29620 29680 30000
    30301 30390 30500 3051 311 3320 33829 34590 34690 3569 36201 3659 36250 36610 3899 4019 40390 40391
    41071 41401 4111 4139 4148 4168 4240 4241 4254 42610 42731 42732 42789 4280 42822 42832 42833 43310
    43491 4359 4370 43820 4400 44020 4414 44422 4512 45340 4550 4589 486 4871 490 4911 49121 496 49390
    49392 5070 5119 51881 51882 53081 53190 53550 5363 5409 55090 5560 56081 56089 56210 56211 5649 5672
    57410 5712 5718 5715 5722 57420 5770 5780 5789 5849 585 5853 5854 5856 5859 5920 5939 5990 59651
    60000 60001 61801 6202 6259 6262 650 64421 64241 65421 66411 66331 65971 V270 V3000 V3001 7742 769
    76518 7706 V290 V053 6826 6827 6929 70703 70707 7100 7140 71536 71595 71941 7242 72252 73300 7330
    7455 7469 78039 7802 78060 78605 78650 78659 7840 78701 78703 78900 78909 79902 7993 80701 8208
    82021 81342 82300 8500 8730 8830 8910 920 9221 94420 9654 9694 9779 99859 99811 9982 99673 99649
    V103 V1046 V1251 V1254 V1259 V1582 V4501 V4511 V4581 V4582 V5861 V5866 V5867 V5811 V5789 V6284 V667
    E8889 E8859 E8120 E8788 E8798 E9500 E9503 E9342 E9331 E8490 2113 2189 04149 04111 04119 0413 28860
    46619 4659 07999 38200 4740 V202 2639 2689
    """,
)


def main(folder: Path) -> None:
    """Write `icd9.csv` and `ccs.csv`."""
    titles = {
        row[0].strip(): row[2].strip() for row in _rows(folder / "icd9cm_v32_diagnosis_titles.psv.gz", "|")
    }
    edits: dict[str, set[str]] = defaultdict(set)
    for row in _rows(folder / "mce_code_edits_v32.tsv.gz", "\t"):
        if row[5] == "D":
            edits[row[6].strip()].add(row[4])
    members: dict[int, list[str]] = defaultdict(list)
    labels: dict[int, str] = {}
    for cells in _rows(folder / "ccs_single_level_dxref_2015.csv.gz", ",", quote="'"):
        code, category, label = (cell.strip().strip("'").strip() for cell in cells[:3])
        # War and legal intervention stay out: no hospital of ours treats them.
        if code in titles and category not in {"", "0"} and not code.startswith(("E97", "E99")):
            members[int(category)].append(code)
            labels[int(category)] = label
    with (PACKAGE / "icd9.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["code", "title", "ccs", "sex", "ages", "first"])
        for category in sorted(members):
            ranked = sorted(members[category], key=lambda code: _order(code, titles[code]))
            for code in ranked[: math.ceil(KEEP * len(ranked) ** KEEP_POWER)]:
                out.writerow([code, titles[code], category, *_limits(edits[code])])
    with (PACKAGE / "ccs.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["ccs", "label"])
        out.writerows(sorted(labels.items()))


def _limits(edits: set[str]) -> tuple[str, str, int]:
    sex = "".join(SEXES[name] for name in sorted(edits) if name in SEXES)
    ages = "+".join(AGES[name] for name in sorted(edits) if name in AGES)
    return sex, ages, int(not edits & set(NOT_FIRST))


def _order(code: str, title: str) -> tuple[int, float]:
    """Leading codes as listed; then by chance, codes for the unspecified mostly before the rest."""
    if code in LEADING:
        return LEADING.index(code), 0.0
    chance = int(hashlib.sha256(code.encode()).hexdigest()[:12], 16) / 16**12
    vague = any(word in title for word in ("NOS", "NEC", "unspec", "Unspec"))
    return len(LEADING), chance - (0.6 if vague else 0.0)


def _rows(path: Path, delimiter: str, quote: str = '"') -> list[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
        lines = file.read().splitlines()
    start = next(i for i, line in enumerate(lines) if "CODE" in line.upper() and not line.startswith("NOTE"))
    return list(csv.reader(lines[start + 1 :], delimiter=delimiter, quotechar=quote))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
