"""Files and functions that can be read in one sitting. `make check` holds the imports to their layers."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

import caretrace

SOURCE = Path(caretrace.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES_OF_A_FILE = 350
MOST_LINES_OF_A_FUNCTION = 40
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(text: str) -> set[int]:
    """Numbers of the lines that hold code: no blank, no comment, no docstring."""
    kept: set[int] = set()
    layout = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            kept.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(node) is not None:
            kept -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return kept


def function_lengths(text: str) -> dict[str, int]:
    """Code lines of the body of each function; the signature is not counted."""
    kept = code_lines(text)
    return {
        f"{node.name} (line {node.lineno})": len(kept & set(range(node.body[0].lineno, node.end_lineno + 1)))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, FUNCTIONS)
    }


EXAMPLE = '''"""A docstring
of two lines."""

import a  # a comment beside code


def f(
    x,
):
    """Another."""
    # a comment
    y = """a string
    is no docstring"""

    def inner():
        return y

    return inner
'''


def test_lines_are_counted_as_said():
    assert sorted(code_lines(EXAMPLE)) == [4, 7, 8, 9, 12, 13, 15, 16, 18]
    assert function_lengths(EXAMPLE) == {"f (line 7)": 5, "inner (line 15)": 1}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_files_and_functions_are_short(file):
    text = file.read_text(encoding="utf-8")
    long = {name: lines for name, lines in function_lengths(text).items() if lines > MOST_LINES_OF_A_FUNCTION}
    assert not long, f"functions over {MOST_LINES_OF_A_FUNCTION} lines of code: {long}"
    assert len(code_lines(text)) <= MOST_LINES_OF_A_FILE, f"{len(code_lines(text))} lines of code"


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc"])
def test_no_drawer_for_everything(name):
    assert not list(SOURCE.rglob(f"{name}*"))
