"""The command line as a person meets it: arguments in, exit code and two streams out."""

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from caretrace.cli import main


@dataclasses.dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on standard output."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1
        assert self.out.endswith("\n")
        return json.loads(self.out)


Command = Callable[..., Answer]


@pytest.fixture
def caretrace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `caretrace` with these arguments, in this process."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
        monkeypatch.setattr(sys, "argv", ["caretrace", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
        else:
            code = 0
        return Answer(int(code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def certify_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo certifies on the smallest world there is."""
    from caretrace.cli import tour

    judged = ("--certify", "--judge", "removal", "--rules", "single", "--subjects", "400")
    monkeypatch.setattr(tour, "CERTIFY", (*judged, "--set", "training.max_steps=20"))
