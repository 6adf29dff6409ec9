"""Every source on real data: rows, subjects, seconds and peak memory of one `caretrace ingest` each.

    python benchmarks/sources.py --data FOLDER

`FOLDER` is laid out as the tests expect it (`CARETRACE_DATA`). Prints the table of the README.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from measure import Measured, measured

# Source → the folder or file below the data, as the tests have it.
RAW: Sequence[tuple[str, str]] = (
    ("mimic-iv", "mimic-iv-demo-2.2"),
    ("mimic-iii", "mimic-iii-demo-1.4"),
    ("eicu", "eicu-demo-2.0.1"),
    ("physionet-2012", "physionet2012"),
    ("icu-hourly", "icu-demo-hourly/eicu/los"),
    ("icu-hourly", "icu-demo-hourly/mimic3/mortality24"),
    ("diabetes-130", "diabetes130"),
    ("desynpuf", "cms-desynpuf"),
    ("meds", "mimic-iv-demo-meds"),
)
HEADER = "| source | data | rows read | loaded | set aside | measurements | subjects | seconds | peak MiB |"


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="folder with the open data")
    made.add_argument("--cores", type=int, default=2)
    return made


def main() -> int:
    """Print one row per source; 1 if one of them failed."""
    options = parser().parse_args()
    print(HEADER, "|---|---|--:|--:|--:|--:|--:|--:|--:|", sep="\n", flush=True)
    failed = 0
    for source, below in RAW:
        with tempfile.TemporaryDirectory(prefix="bench-sources-") as made:
            found = _ingest(source, options.data / below, Path(made), options.cores)
            failed += found.code not in (0, 3)  # 3: done, with more rows set aside than 1 %
            print(_row(source, below, found, Path(made) / "out"), flush=True)
    return int(failed > 0)


def _ingest(source: str, raw: Path, work: Path, cores: int) -> Measured:
    command = [
        str(Path(sys.executable).parent / "caretrace"),
        "ingest",
        source,
        str(raw),
        str(work / "out"),
        "-q",
    ]
    return measured(command, log=work / "log", cores=cores)


def _row(source: str, below: str, found: Measured, out: Path) -> str:
    if found.code not in (0, 3):
        return f"| `{source}` | {below} | failed: {found.output} |"
    quality = json.loads((out / "metadata" / "quality.json").read_text(encoding="utf-8"))
    counts = ("rows_read", "rows_loaded", "rows_quarantined", "events", "subjects")
    cells = [f"{quality[name]:,}" for name in counts]
    return f"| `{source}` | {below} | {' | '.join(cells)} | {found.seconds:.0f} | {found.peak_mib:,.0f} |"


if __name__ == "__main__":
    sys.exit(main())
