"""Write the table of docs/add-a-backbone.md: every backbone with its settings, as the code declares them.

    python scripts/backbone_reference.py

A test compares the page with the code, so it cannot go stale.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from caretrace.backbones import BACKBONES, find_backbone

PAGE = Path(__file__).resolve().parent.parent / "docs" / "add-a-backbone.md"
BEGIN, END = "<!-- backbones: written by `make reference` -->\n", "<!-- end of backbones -->\n"
SHARED = ("d_model", "n_layers", "dropout")


def table() -> str:
    """One row per backbone: name, what it is, and the settings that only it has, with their defaults."""
    lines = ["| backbone | is | own settings |", "|---|---|---|"]
    for name in sorted(BACKBONES):
        make = find_backbone(name)
        summary = (inspect.getdoc(make) or "").splitlines()[0].rstrip(".")
        own = [p for p in inspect.signature(make).parameters.values() if p.name not in SHARED]
        settings = ", ".join(f"`{p.name}={p.default!r}`" for p in own) or "none"
        lines.append(f"| `{name}` | {summary} | {settings} |")
    return "\n".join(lines) + "\n"


def render(page: str) -> str:
    """The page with the table in its place."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + table() + "\n" + END + after


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}", file=sys.stderr)
