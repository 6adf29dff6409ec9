"""The small language of `events.yaml`: Python-like formulas and text templates, compiled to Ibis.

A formula is one Python expression over column names, literals and the functions of `FUNCTIONS`:

    first(storetime, charttime)
    if_else(d_items.category == 'Labs', storetime, charttime)
    parameters.kind == 'series' and Value >= parameters.low

`d_items.label` is a column of a joined table. A template is text with formulas in braces; a part in
square brackets disappears when one of its formulas is empty:

    "{d_labitems.label}: {value}[ {valueuom}][ (ref {ref_range_lower}-{ref_range_upper})]"

Nothing is ever executed as Python: the text is parsed, walked and turned into Ibis expressions.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ibis
import ibis.expr.types as ir

from caretrace.errors import ConfigError, unknown_name
from caretrace.ingest.number_text import number_text, whole

# The part of a code whose value is empty, as in the public MEDS extractions.
UNKNOWN_PART = "UNK"

_MICROSECONDS = 1_000_000
LARGEST = 3.4028234e38  # of float32, the type of numeric_value in MEDS
_DAY = r"^ *((?:1[7-9]|2[01])[0-9][0-9])([0-9][0-9])([0-9][0-9]) *$"  # of 1700 to 2199
_PLAIN_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


@ibis.udf.scalar.builtin(name="trim")
def stripped(text: str) -> str:
    """Text without blanks at its ends. Ibis's own `strip` looks for six kinds of white space: ten times slower."""
    return text.strip(" ")


def unbounded_number(text: Any) -> Any:
    """Text as a number, null when it is not one (`NaN`, `12,5`); it may be larger than `LARGEST`."""
    return ibis.ifelse(text.re_search(_PLAIN_NUMBER), text.try_cast("float64"), ibis.null("float64"))


def number(text: Any) -> Any:
    """Text as a finite number that float32 can hold, null when it is not one (`NaN`, `1e999`, `12,5`)."""
    value = unbounded_number(stripped(text.cast("string")))
    return ibis.ifelse(value.abs() <= LARGEST, value, ibis.null("float64"))


def day(text: Any) -> Any:
    """`20080131` as 2008-01-31 00:00, null when it is no such day (`20080231`, `2008-01-31`, year 1 or 9999)."""
    parts = [text.cast("string").re_extract(_DAY, group) for group in (1, 2, 3)]
    return (parts[0] + "-" + parts[1] + "-" + parts[2]).try_cast("timestamp")


def end_of_day(time: Any) -> Any:
    """23:59:59 of the day: where a bare date may only be used once the day is over."""
    return time.truncate("D") + ibis.interval(seconds=86_399)


def part(text: Any, separator: str, number_from_1: int) -> Any:
    """One part of a text between separators (one letter), null when there is none or it is blank."""
    mark = re.escape(separator)
    before = "".join(f"[^{mark}]*{mark}" for _ in range(number_from_1 - 1))
    return text.re_extract(f"^{before}([^{mark}]*)", 1).strip().nullif("")


def _span(seconds: float) -> Callable[[Any], Any]:
    def interval(amount: Any) -> Any:
        value = amount if isinstance(amount, ir.Value) else ibis.literal(amount)
        return (value.cast("float64") * (seconds * _MICROSECONDS)).round().cast("int64").as_interval("us")

    return interval


def _divided(value: Any, by: Any) -> Any:
    """A quotient, null where it is none: engines disagree on what division by zero gives."""
    return value / (by.nullif(0) if isinstance(by, ir.Value) else by)


def _short(value: Any, digits: int = 4) -> Any:
    return number_text(value, digits)


def _cases(value: Any, *pairs: Any) -> Any:
    otherwise = pairs[-1] if len(pairs) % 2 else ibis.null()
    return value.cases(*zip(pairs[::2], pairs[1::2], strict=False), else_=otherwise)


# Name in a formula → (function over Ibis values, what it means). The order is the order of the docs.
FUNCTIONS: dict[str, tuple[Callable[..., Any], str]] = {
    "first": (ibis.coalesce, "the first value that is not empty"),
    "latest": (ibis.greatest, "the largest of several values, empty ones ignored"),
    "earliest": (ibis.least, "the smallest of several values, empty ones ignored"),
    "if_else": (ibis.ifelse, "if_else(condition, value, otherwise)"),
    "is_missing": (lambda value: value.isnull(), "true where the value is empty"),
    "missing_if": (lambda value, empty: value.nullif(empty), "empty where the value equals the second one"),
    "cases": (_cases, "cases(value, 1, 'a', 2, 'b', otherwise): the text that belongs to the value"),
    "number": (number, "text as a number, empty when it is not one"),
    "whole": (whole, "a number without its fraction"),
    "text": (number_text, "any value as text"),
    "short": (_short, "a number as text with at most 4 (or n) decimals and no trailing .0"),
    "strip": (lambda value: value.strip(), "text without blanks at its ends"),
    "upper": (lambda value: value.upper(), "text in capitals"),
    "lower": (lambda value: value.lower(), "text in small letters"),
    "extract": (
        lambda text, regex, group=1: text.re_extract(regex, group).nullif(""),
        "a regex group of a text",
    ),
    "part": (
        part,
        "part(text, ',', 2): the second part of a text between commas, without blanks at its ends",
    ),
    "replace": (
        lambda text, old, new: text.replace(old, new),
        "text with every `old` in it as `new`",
    ),
    "matches": (lambda text, regex: text.re_search(regex), "true where a regex is found"),
    "day": (day, "text such as 20080131 as the start of that day, empty when it is no day"),
    "timestamp": (ibis.timestamp, "a fixed time, written '2000-01-01 00:00:00'"),
    "start_of_year": (lambda year: ibis.timestamp(year, 1, 1, 0, 0, 0), "1 January of a year, 00:00"),
    "end_of_day": (end_of_day, "23:59:59 of a day"),
    "same_day": (
        lambda one, two: one.truncate("D") == two.truncate("D"),
        "true where two times share a date",
    ),
    "seconds": (_span(1), "a duration"),
    "minutes": (_span(60), "a duration"),
    "hours": (_span(3600), "a duration"),
    "days": (_span(86_400), "a duration"),
    "minutes_between": (
        lambda a, b: b.epoch_seconds().cast("float64") / 60 - a.epoch_seconds() / 60,
        "b - a",
    ),
}

# Only where many rows become one, in `views:`.
AGGREGATES: dict[str, tuple[Callable[..., Any], str]] = {
    "min": (lambda value: value.min(), "smallest value"),
    "max": (lambda value: value.max(), "largest value"),
    "sum": (lambda value: value.sum(), "sum"),
    "count": (lambda value: value.count(), "number of values that are not empty"),
}

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: _divided,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.In: lambda a, b: a.isin(b),
    ast.NotIn: lambda a, b: a.notin(b),
}

Names = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Formula:
    """One parsed formula.

    Args:
        text: What stands in `events.yaml`, kept for messages.
        tree: Its syntax tree.
    """

    text: str
    tree: ast.expr

    @classmethod
    def parse(cls, text: object, where: str, aggregates: bool = False) -> Formula:
        """Read a formula and check that every function in it exists.

        Raises:
            ConfigError: Not a formula of this language; the message names `where` it stands.
        """
        source = str(text).strip()
        try:
            tree = ast.parse(source, mode="eval").body
        except SyntaxError as error:
            raise ConfigError(
                f"{where}: {source!r} is not a formula ({error.msg}); see ingest/sources/README.md"
            ) from None
        valid = FUNCTIONS | AGGREGATES if aggregates else FUNCTIONS
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
                if name not in valid:
                    raise ConfigError(f"{where}: " + unknown_name("function", name, valid))
            elif not isinstance(node, _ALLOWED) or (isinstance(node, ast.Compare) and len(node.ops) > 1):
                raise ConfigError(f"{where}: {ast.unparse(node)!r} is not allowed in a formula: {source!r}")
        return cls(source, tree)

    def references(self) -> set[str]:
        """The columns it reads, joined ones as `table.column`."""
        return set(_references(self.tree))

    def compile(self, names: Names) -> Any:
        """The Ibis value of this formula.

        Args:
            names: Column (`value`) or joined column (`d_items.label`) → Ibis column.
        """
        return _compile(self.tree, names)


@dataclasses.dataclass(frozen=True)
class Template:
    """Text with formulas in braces and optional parts in square brackets.

    Args:
        text: What stands in `events.yaml`.
        parts: One tuple of literal strings and formulas per part; True marks an optional part.
    """

    text: str
    parts: tuple[tuple[bool, tuple[str | Formula, ...]], ...]

    @classmethod
    def parse(cls, text: object, where: str) -> Template:
        """Read a template.

        Raises:
            ConfigError: A bracket or brace without its partner, or a formula that cannot be read.
        """
        source = str(text)
        parts: list[tuple[bool, tuple[str | Formula, ...]]] = []
        for optional, chunk in _chunks(source, where):
            pieces: list[str | Formula] = []
            for index, piece in enumerate(re.split(r"\{([^{}]*)\}", chunk)):
                if index % 2:
                    pieces.append(Formula.parse(piece, where))
                elif "{" in piece or "}" in piece:
                    raise ConfigError(f"{where}: a brace without its partner in {source!r}")
                elif piece:
                    pieces.append(piece)
            parts.append((optional, tuple(pieces)))
        return cls(source, tuple(parts))

    def references(self) -> set[str]:
        """The columns it reads, joined ones as `table.column`."""
        return {
            name
            for _, pieces in self.parts
            for piece in pieces
            if isinstance(piece, Formula)
            for name in piece.references()
        }

    def compile(self, names: Names, empty: str | None = None) -> Any:
        """The Ibis text of this template.

        Args:
            names: Column name → Ibis column.
            empty: What stands for an empty formula (codes write `UNK`); None makes the whole text empty.
        """
        whole: Any = None
        for optional, pieces in self.parts:
            part = None
            for piece in pieces:
                text = piece if isinstance(piece, str) else _as_text(piece.compile(names), empty)
                part = ibis.literal(text) if part is None and isinstance(text, str) else _join(part, text)
            if optional:
                part = ibis.coalesce(part, "")
            whole = part if whole is None else whole + part
        return ibis.literal("") if whole is None else whole


def _join(left: Any, right: Any) -> Any:
    return right if left is None else left + right


def _as_text(value: Any, empty: str | None) -> ir.StringValue:
    if not isinstance(value, ir.Value):
        value = ibis.literal(value)
    text = stripped(value).nullif("") if value.type().is_string() else number_text(value)
    return text if empty is None else ibis.coalesce(text, empty)


def _chunks(source: str, where: str) -> Iterator[tuple[bool, str]]:
    """Split at square brackets, leaving those inside braces alone (`[a, b]` in a formula)."""
    depth, optional, chunk = 0, False, ""
    for letter in source:
        depth += (letter == "{") - (letter == "}")
        if depth == 0 and letter in "[]":
            if optional is (letter == "["):
                raise ConfigError(f"{where}: a square bracket without its partner in {source!r}")
            if chunk:
                yield optional, chunk
            optional, chunk = letter == "[", ""
        else:
            chunk += letter
    if optional:
        raise ConfigError(f"{where}: a square bracket without its partner in {source!r}")
    if chunk:
        yield False, chunk


_ALLOWED = (
    ast.Name, ast.Attribute, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.List,
    ast.Load, ast.USub, ast.Not, ast.And, ast.Or, *_BINARY, *_COMPARE,
)  # fmt: skip


def _references(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        yield ast.unparse(node)
        return
    if isinstance(node, ast.Name):
        yield node.id
        return
    for name, child in ast.iter_fields(node):
        if isinstance(node, ast.Call) and name == "func":
            continue
        for item in child if isinstance(child, list) else [child]:
            if isinstance(item, ast.AST):
                yield from _references(item)


def _compile(node: ast.AST, names: Names) -> Any:  # noqa: PLR0911 - one return per kind of node
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name() | ast.Attribute():
            return names[ast.unparse(node)]
        case ast.List(elts=items):
            return [_compile(item, names) for item in items]
        case ast.BinOp(left=left, op=operator, right=right):
            return _BINARY[type(operator)](_compile(left, names), _compile(right, names))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_compile(operand, names)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_compile(operand, names)
        case ast.BoolOp(op=ast.And(), values=values):
            return functools.reduce(lambda a, b: a & b, [_compile(value, names) for value in values])
        case ast.BoolOp(op=ast.Or(), values=values):
            return functools.reduce(lambda a, b: a | b, [_compile(value, names) for value in values])
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            return _COMPARE[type(operator)](_compile(left, names), _compile(right, names))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            function = (FUNCTIONS | AGGREGATES)[name][0]
            return function(*(_compile(argument, names) for argument in arguments))
    raise ConfigError(f"{ast.unparse(node)!r} is not allowed in a formula")
