"""What every verb prints with: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, for machines.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages, only results.")]


class Console:
    """Tables, messages and progress that respect `--json` and `--quiet`.

    Args:
        as_json: Print one JSON object on standard output and nothing else there.
        quiet: Keep progress and messages to yourself.
    """

    def __init__(self, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet

    def say(self, message: str) -> None:
        """A message for the person at the terminal, on standard error."""
        if not self.quiet:
            self._stderr().print(message, markup=False, highlight=False, soft_wrap=True)

    def error(self, message: str) -> None:
        """What went wrong and how to mend it, on standard error, however quiet."""
        self._stderr().print(f"caretrace: {message}", markup=False, highlight=False, soft_wrap=True)

    def result(self, value: Mapping[str, Any]) -> None:
        """The JSON object of `--json`; silent otherwise."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table on standard output; silent under `--json`. Numbers are right-aligned."""
        if self.as_json:
            return
        from rich.console import Console as RichConsole
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title, title_justify="left")
        for index, name in enumerate(columns):
            numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
            table.add_column(
                name,
                justify="right" if numeric else "left",
                overflow="fold",
                no_wrap=all(_is_word(_cell(row[index])) for row in rows),
            )
        for row in rows:
            table.add_row(*(Text(_cell(value)) for value in row))
        RichConsole().print(table)

    @contextmanager
    def progress(self, label: str, total: float | None = None) -> Iterator[Bar]:
        """A progress bar with counts and ETA on standard error, gone when the block ends."""
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._stderr(),
            transient=True,
            disable=self.quiet,
        )
        with bar:
            yield Bar(bar, label, bar.add_task(label, total=total, count=_count(0, total)))

    @staticmethod
    def _stderr() -> Any:
        from rich.console import Console as RichConsole

        return RichConsole(stderr=True)


def _is_word(text: str) -> bool:
    """A name that should not be broken to fit 80 columns."""
    return " " not in text and len(text) <= 20


class Bar:
    """One line of progress: `bar(3)` moves it on, `bar.to("reading", 2, 5)` says what and where."""

    def __init__(self, progress: Any, label: str, task: Any) -> None:
        self._progress, self._label, self._task = progress, label, task
        self._what = label

    def __call__(self, amount: float = 1, note: str = "") -> None:
        """Move on by `amount`, with a note behind the label."""
        self._progress.update(self._task, advance=amount, description=f"{self._label} {note}".strip())
        task = self._progress.tasks[self._task]
        self._progress.update(self._task, count=_count(task.completed, task.total))

    def to(self, what: str, done: float, total: float | None) -> None:
        """Show another piece of work, and how much of it is done."""
        if what != self._what:  # another piece of work: its time to go is not that of the last one
            self._progress.reset(self._task, description=what, total=total, count=_count(0, total))
            self._what = what
        self._progress.update(self._task, completed=done, total=total, count=_count(done, total))


def _count(done: float, total: float | None) -> str:
    """How much is done: `1,200/40,000`, or a percentage where the whole is 1."""
    if total == 1:
        return f"{done:.0%}"
    return f"{done:,.0f}/{'?' if total is None else f'{total:,.0f}'}"


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "–" if value is None else ("yes" if value else "no")
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)
