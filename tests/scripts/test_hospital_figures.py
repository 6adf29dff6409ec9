"""Figures of the pages about the virtual hospital: small, for light and dark, in place, from a named command."""

from __future__ import annotations

import importlib
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from caretrace.report.svg import Axis, Plot

ROOT = Path(__file__).parents[2]
FIGURES = sorted((ROOT / "docs" / "figures" / "hospital").glob("*.svg"))
PAGES = [ROOT / "docs" / "hospital.md", *sorted((ROOT / "docs" / "hospital").glob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    yield
    for name in [name for name in sys.modules if name.startswith("hospital_")]:
        del sys.modules[name]


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def drawn() -> str:
    drawing = script("hospital_pages.drawing")
    plot = drawing.panel("a & b", "Words.", Plot("", "", Axis("x", 0, 2), Axis("y"), 300, 200))
    plot.line(*drawing.steps([0, 1, 2], [0.2, 0.4]), drawing.SIMULATED)
    return str(drawing.picture("name", [plot, plot, plot], 2, drawing.BOTH, "a <note>"))


def test_a_picture_is_the_same_each_time_and_stands_alone() -> None:
    one = drawn()
    assert one == drawn()  # though the plots of a process are numbered through
    root = ET.fromstring(one)
    assert root.attrib["viewBox"] == f"0 0 {root.attrib['width']} {root.attrib['height']}"
    assert "prefers-color-scheme: dark" in one
    ids = re.findall(r' id="([^"]+)"', one)
    assert len(ids) == len(set(ids)) == 6
    used = set(re.findall(r"var\((--\w+)\)", one)) - {"--c"}
    for part in re.split(r"@media \(prefers-color-scheme: dark\)", one):
        assert used <= set(re.findall(r"(--\w+):", part)), "a colour that light or dark does not have"


def test_steps_outline_a_histogram() -> None:
    assert script("hospital_pages.drawing").steps([0, 1, 3], [5, 7]) == ([0, 1, 1, 3], [5, 5, 7, 7])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0358, ".036"), (-1.1637, "−1.16"), (-0.06, "−.060"), (42.049, "42.05"), (212.92, "212.9"), (47490.0, "47,490"),
     (float("nan"), "–"), (0.0, ".000")],
)  # fmt: skip
def test_numbers_are_written_as_the_pages_write_them(value: float, text: str) -> None:
    assert script("hospital_pages.drawing").figure(value) == text


def test_tables_go_between_their_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- table: one -->\nold\n<!-- end -->\n<!-- table: two -->\nkept\n<!-- end -->\nafter\n"
    )
    main = script("hospital_figures")
    main.place({"one": "| new |"}, [page])
    assert page.read_text() == (
        "before\n<!-- table: one -->\n\n| new |\n\n<!-- end -->\n<!-- table: two -->\nkept\n<!-- end -->\nafter\n"
    )
    again = page.read_text()
    main.place({"one": "| new |"}, [page])
    assert page.read_text() == again
    with pytest.raises(LookupError, match="no page has a place for three"):
        main.place({"three": ""}, [page])


def test_a_section_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script("hospital_figures").main(["data", "vitals", "weather"])
    assert "no section weather; there are vitals" in capsys.readouterr().err


def test_the_coefficients_of_the_page_are_those_of_the_code() -> None:
    section = script("hospital_pages.coefficients").make(ROOT)
    assert section.tables["parameters"] in TEXTS[ROOT / "docs" / "hospital" / "stress.md"], (
        "run `python scripts/hospital_figures.py DATA parameters`"
    )


def test_every_table_of_the_pages_is_filled_and_once() -> None:
    names = []
    for text in TEXTS.values():
        for _, name, end in re.findall(r"(<!-- table: ([\w-]+) -->)(.*?)<!-- end -->", text, re.DOTALL):
            assert end.count("\n| ") >= 3, f"{name} is empty"
            names.append(name)
    assert len(names) == len(set(names)) > 15


@pytest.mark.parametrize("figure", FIGURES, ids=[figure.stem for figure in FIGURES])
def test_every_figure_is_small_shown_and_follows_the_reader(figure: Path) -> None:
    content = figure.read_text(encoding="utf-8")
    assert len(content.encode()) < 60_000
    assert "prefers-color-scheme: dark" in content
    assert np.isfinite([float(n) for n in re.findall(r'points="([-\d.]+)', content)]).all()
    assert not re.search(r"\bnan\b|\binf\b", content)
    ET.fromstring(content)
    shown = [page for page, text in TEXTS.items() if f"figures/hospital/{figure.name})" in text]
    assert len(shown) == 1, f"{figure.name} is shown {len(shown)} times"


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_pages_name_the_command_behind_their_figures(page: Path) -> None:
    text = TEXTS[page]
    sections = script("hospital_figures").SECTIONS
    named = re.findall(r"`python scripts/hospital_figures.py DATA(?: (\w+))?`", text)
    assert named
    assert {name for name in named if name} <= set(sections)
    for picture in re.findall(r"!\[[^\]]*\]\([./]*figures/hospital/([\w-]+)\.svg\)", text):
        assert any(name and picture in made(name) for name in named), f"no command named beside {picture}"


def made(section: str) -> set[str]:
    """Files that a section writes, as its module says."""
    module = script(script("hospital_figures").SECTIONS[section])
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    return set(re.findall(r'picture\(\s*"([\w-]+)"', source))
