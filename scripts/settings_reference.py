"""Write docs/settings.md: every setting with its default and meaning, as the code declares them.

    python scripts/settings_reference.py

A test compares the page with the code, so it cannot go stale.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import typing
from pathlib import Path
from typing import Any

from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.synth.training import SynthConfig
from caretrace.apps.vitals.config import VitalsConfig
from caretrace.hospital import HospitalConfig

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
INTRO = """\
# Settings

*Written by `make reference` from the code; do not edit. Research use only, never a bedside device.*

A setting is given on the command line, `--set d_model=32 --set training.members=3`, or in a YAML file,
`--config settings.yaml`; the command line wins. A name that does not exist, or a value of the wrong kind, is
refused with the nearest valid name. Every run stores the settings it was made with in its `run.json`.

```yaml
d_model: 32
training:
  members: 3
```
"""
PARTS = (
    ("`caretrace train mortality`", MortalityConfig),
    ("`caretrace train synth`", SynthConfig),
    ("`caretrace train vitals`", VitalsConfig),
    ("`caretrace simulate`", HospitalConfig),
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting: its full name, its default as one would type it, and what it means."""

    name: str
    default: str
    meaning: str


def settings(config: type[Any], prefix: str = "") -> list[Setting]:
    """Every setting of a config dataclass, those inside it included."""
    hints, meanings = typing.get_type_hints(config), _meanings(config)
    found: list[Setting] = []
    for field in dataclasses.fields(config):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            found += settings(typing.cast(type, kind), f"{prefix}{field.name}.")
        else:
            default = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
            found.append(Setting(prefix + field.name, _typed(default), meanings.get(field.name, "")))
    return found


def render() -> str:
    """The whole page."""
    sections = []
    for title, config in PARTS:
        rows = [f"| `{s.name}` | `{s.default}` | {s.meaning} |" for s in settings(config)]
        sections.append(
            "\n".join([f"## {title}\n", "| setting | default | meaning |", "|---|---|---|", *rows, ""])
        )
    return "\n".join([INTRO, *sections])


def _meanings(config: type[Any]) -> dict[str, str]:
    """From the `Args:` of the docstring, or else the comment behind the field."""
    found: dict[str, str] = {}
    for base in config.__bases__:  # settings that are those of another class and some more
        if dataclasses.is_dataclass(base):
            found |= _meanings(base)
    found |= dict(
        re.findall(r"^    (\w+): [^=\n]+ = [^#\n]+#\s*(.+)$", inspect.getsource(config), re.MULTILINE)
    )
    for field in dataclasses.fields(config):  # coefficients carry their unit and their source
        if {"unit", "source"} <= set(field.metadata):
            found[field.name] = f"{field.metadata['unit']}; {field.metadata['source']}"
    name = ""
    for line in (inspect.getdoc(config) or "").partition("Args:\n")[2].splitlines():
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            name, text = entry.groups()
            found[name] = text
        elif name and line.startswith("        "):
            found[name] += " " + line.strip()
    return found


def _typed(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(str(item) for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"wrote {PAGE}", file=sys.stderr)
