"""Write docs/cli.md: every verb with its arguments and options, as the code declares them.

    python scripts/cli_reference.py

A test compares the page with the code, so it cannot go stale.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.models import ArgumentInfo, OptionInfo

from caretrace.cli import VERBS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
INTRO = """\
# Command line

*Written by `make reference` from the code; do not edit. Research use only, never a bedside device.*

`caretrace VERB --help` says the same at the terminal. Results go to standard output, progress and messages
to standard error. `--json` prints one JSON object on standard output and nothing else there. An output that
exists is never overwritten, and appears whole or not at all.

| exit code | means |
|--:|---|
| 0 | done |
| 1 | something you can mend; the message says how |
| 2 | a mistake in the command itself |
| 3 | done, but more rows were quarantined than `--max-quarantined` allows |
"""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One argument or option.

    Args:
        names: `("RAW",)` for an argument, `("--quiet", "-q")` for an option.
        required: It must be given.
        default: As one would type it; empty if there is none to show.
        meaning: Its help text.
        flag: It takes no value.
        many: It may be given several times.
    """

    names: tuple[str, ...]
    required: bool
    default: str
    meaning: str
    flag: bool
    many: bool = False

    @property
    def is_option(self) -> bool:
        """Whether it starts with dashes."""
        return self.names[0].startswith("-")


@dataclasses.dataclass(frozen=True)
class Verb:
    """One verb: its name, its explanation, and what it takes."""

    name: str
    text: str
    parameters: tuple[Parameter, ...]

    @property
    def options(self) -> set[str]:
        """Every spelling of every option."""
        return {name for p in self.parameters if p.is_option for name in p.names}

    @property
    def usage(self) -> str:
        """For example `caretrace evaluate RUN [DATASET] [OPTIONS]`."""
        parts = [p.names[0] if p.required else f"[{p.names[0]}]" for p in self.parameters if not p.is_option]
        parts += [
            f"{p.names[0]} {p.names[0].lstrip('-').upper()}"
            for p in self.parameters
            if p.is_option and p.required
        ]
        return " ".join(["caretrace", self.name, *parts, "[OPTIONS]"])


def verbs() -> dict[str, Verb]:
    """Every verb, in the order of `caretrace --help`."""
    return {name: _verb(name, importlib.import_module(module).command) for name, module in VERBS.items()}


def render() -> str:
    """The whole page."""
    return "\n".join([INTRO, *(_section(verb) for verb in verbs().values())])


def _verb(name: str, command: Callable[..., None]) -> Verb:
    hints = typing.get_type_hints(command, include_extras=True)
    parameters = [
        _parameter(key, hints[key], parameter.default)
        for key, parameter in inspect.signature(command).parameters.items()
    ]
    return Verb(name, inspect.getdoc(command) or "", tuple(parameters))


def _parameter(key: str, hint: Any, default: Any) -> Parameter:
    kind, info = typing.get_args(hint)[:2]
    required = default is inspect.Parameter.empty
    many = typing.get_origin(kind) is list
    if isinstance(info, ArgumentInfo):
        names: tuple[str, ...] = (info.metavar or (f"{key.upper()}…" if many else key.upper()),)
    else:
        assert isinstance(info, OptionInfo)
        # In `Annotated`, Typer keeps the first name where other libraries keep a default.
        given = (info.default, *(info.param_decls or ()))
        names = tuple(n for n in given if isinstance(n, str) and n.startswith("-")) or (_dashed(key),)
    plain = default.value if isinstance(default, enum.Enum) else default
    shown = "" if required or plain is None or plain is False else str(plain)
    return Parameter(
        names, required, shown, " ".join((info.help or "").split()), flag=kind is bool, many=many
    )


def _section(verb: Verb) -> str:
    rows = [
        f"| {_cell(', '.join(f'`{name}`' for name in p.names))} | {_default(p)} | {_cell(p.meaning)} |"
        for p in verb.parameters
    ]
    table = "\n".join(["| takes | default | meaning |", "|---|---|---|", *rows])
    return f"## {verb.name}\n\n```\n{verb.usage}\n```\n\n{verb.text}\n\n{table}\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _dashed(key: str) -> str:
    return "--" + key.strip("_").replace("_", "-")


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "*required*"
    return f"`{parameter.default}`" if parameter.default else ""


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"wrote {PAGE}", file=sys.stderr)
