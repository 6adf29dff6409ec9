"""`--help` teaches, and answers before anything heavy is imported."""

import importlib
import inspect
import json
import subprocess
import sys
import textwrap

import pytest

from caretrace import __version__
from caretrace.cli import VERBS

every = pytest.mark.parametrize("verb", list(VERBS))


def test_root_help_lists_every_verb_in_the_order_of_the_flow(caretrace):
    answer = caretrace("--help")
    assert answer.code == 0
    places = [answer.out.index(f" {verb} ") for verb in VERBS]
    assert places == sorted(places)
    assert "Research use only" in answer.out


def test_no_arguments_are_answered_with_help(caretrace):
    assert "Usage" in caretrace().out + caretrace().err


def test_version(caretrace):
    answer = caretrace("--version")
    assert (answer.code, answer.out, answer.err) == (0, f"caretrace {__version__}\n", "")


@every
def test_help_of_every_verb(caretrace, verb):
    answer = caretrace(verb, "--help")
    assert answer.code == 0
    assert f"caretrace {verb}" in answer.out
    assert "--json" in answer.out
    assert "--quiet" in answer.out
    assert answer.err == ""


@every
def test_every_verb_shows_an_example_and_explains_every_option(verb):
    command = importlib.import_module(VERBS[verb]).command
    assert f"Example: `caretrace {verb}" in inspect.getdoc(command)
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        option = parameter.annotation.__metadata__[0]
        assert option.help, f"{parameter.name} has no help"


def test_help_imports_nothing_heavy():
    """Measured in a fresh process, for every verb."""
    code = """
        import contextlib, io, json, sys
        from caretrace.cli import VERBS, main
        for arguments in [[], *([verb] for verb in VERBS)]:
            sys.argv = ["caretrace", *arguments, "--help"]
            with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
                main()
        print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    heavy = {
        "torch", "lightning", "numpy", "scipy", "sklearn", "lightgbm",
        "polars", "pyarrow", "duckdb", "ibis", "matplotlib", "jinja2", "fastapi", "uvicorn", "sqlalchemy",
    }  # fmt: skip
    assert heavy & set(json.loads(found.stdout)) == set()
