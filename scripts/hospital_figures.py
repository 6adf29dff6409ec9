"""Write the figures and tables of the pages about the virtual hospital.

    python scripts/hospital_figures.py DATA [SECTION …] [--docs DOCS]

DATA is the folder with the open data (docs/hospital/stress.md says what it holds). Without a section all are made,
in about ten minutes on one core. Figures go to DOCS/figures/hospital/, tables between their marks in
DOCS/hospital/*.md. The same code and data write the same bytes.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECTIONS = {
    "vitals": "hospital_pages.vitals",
    "diagnoses": "hospital_pages.diagnoses",
    "arrivals": "hospital_pages.arrivals",
    "crisis": "hospital_pages.crisis",
    "bands": "hospital_pages.bands",
    "interventions": "hospital_pages.interventions",
    "sensitivity": "hospital_pages.influence",
    "parameters": "hospital_pages.coefficients",
}
# A place in a page: `<!-- table: NAME -->`, the table, `<!-- end -->`.
PLACE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(arguments: list[str] | None = None) -> int:
    """Make the sections asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    options = parser.parse_args(arguments)
    if wrong := [name for name in options.sections if name not in SECTIONS]:
        parser.error(f"no section {', '.join(wrong)}; there are {', '.join(SECTIONS)}")
    figures = options.docs / "figures" / "hospital"
    figures.mkdir(parents=True, exist_ok=True)
    for name in options.sections or SECTIONS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        section = importlib.import_module(SECTIONS[name]).make(options.data)
        for file, drawing in section.figures.items():
            (figures / f"{file}.svg").write_text(drawing, encoding="utf-8")
        place(section.tables, sorted((options.docs / "hospital").glob("*.md")))
    return 0


def place(tables: Mapping[str, str], pages: list[Path]) -> None:
    """Put tables between their marks.

    Raises:
        LookupError: A table has no place in any page.
    """
    found = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        found |= {name for _, name, _ in PLACE.findall(text)}
        filled = PLACE.sub(
            lambda mark: f"{mark[1]}\n{tables[mark[2]]}\n\n{mark[3]}" if mark[2] in tables else mark[0], text
        )
        if filled != text:
            page.write_text(filled, encoding="utf-8")
    if missing := sorted(tables.keys() - found):
        raise LookupError(
            f"no page has a place for {', '.join(missing)}: write `<!-- table: {missing[0]} -->`"
        )


if __name__ == "__main__":
    raise SystemExit(main())
