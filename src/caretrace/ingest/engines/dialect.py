"""What Spark understands differently by the same Ibis expression, so that both engines give the same rows.

The mapping is written for DuckDB's meaning of it. Before Spark compiles an expression, `for_spark` puts in
what means the same there.
"""

from __future__ import annotations

import re
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops

# What DuckDB's trim takes for blank: the Unicode category Zs.
_BLANKS = " \u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u202f\u205f\u3000"
# What is written with a backslash, a class such as `[^]a-z]`, or the end of the text.
_PIECE = re.compile(r"\\.|\[(?P<not>\^?)(?P<inside>\]?(?:\\.|[^\]\\])*)\]|\$", re.DOTALL)
_ONE_LETTER = {ops.Lowercase: ("İ", "i"), ops.Uppercase: ("ß", "ẞ")}
_REGEXES = (ops.RegexSearch, ops.RegexExtract, ops.RegexReplace)


@ibis.udf.scalar.builtin(name="btrim")
def _trimmed(text: str, letters: str) -> str:
    """Spark's function of that name."""
    raise NotImplementedError


@ibis.udf.scalar.builtin(name="unix_micros")
def _microseconds(time: dt.timestamp) -> int:
    """Spark's function of that name; it takes times with a zone only."""
    raise NotImplementedError


@ibis.udf.scalar.builtin(name="to_timestamp_ltz")
def _zoned(time: dt.timestamp) -> dt.timestamp:
    """Spark's function of that name."""
    raise NotImplementedError


@ibis.udf.scalar.builtin(name="make_timestamp_ntz")
def _made(year: int, month: int, day: int, hour: int, minute: int, second: int) -> dt.timestamp:
    """Spark's function of that name."""
    raise NotImplementedError


def for_spark(rows: Any) -> Any:
    """The same Ibis expression with the parts replaced that Spark reads differently.

    Args:
        rows: Ibis table expression.
    """

    def same(node: Any, changed: Any) -> Any:
        made = node.__recreate__(changed) if changed else node
        if isinstance(made, _REGEXES) and isinstance(made.pattern, ops.Literal):
            pattern = ops.Literal(java_regex(made.pattern.value), made.pattern.dtype)
            return made.copy(pattern=pattern)
        if isinstance(made, ops.ScalarUDF) and made.__func_name__ == "trim":
            return _trimmed(made.args[0].to_expr(), _BLANKS).op()
        if isinstance(made, (ops.Lowercase, ops.Uppercase)):  # Java makes two letters of these
            one, other = _ONE_LETTER[type(made)]
            return made.copy(arg=made.arg.to_expr().replace(one, other).op())
        if isinstance(made, ops.ExtractEpochSeconds):  # whole seconds alone
            return (_microseconds(_zoned(made.arg.to_expr())) / 1_000_000).op()
        if isinstance(made, ops.TimestampFromYMDHMS):
            return _made(*(part.to_expr() for part in made.args)).op()
        if isinstance(made, ops.TimestampTruncate):  # gives a time with a zone
            return ops.Cast(made, dt.timestamp)
        return made

    return rows.op().replace(same).to_expr()


def java_regex(pattern: str) -> str:
    r"""A regex of RE2 (https://github.com/google/re2/wiki/Syntax) as Java's `Pattern` must be given it.

    In Java `.` stops at five kinds of line end and `$` also matches in front of a last one; in RE2 `.` stops
    at `\n` alone and `$` is the end of the text. In Java's classes `[` and `&` mean more than themselves.
    Letters of any language have two cases in RE2 alone.

    Args:
        pattern: As RE2 reads it; ASCII classes such as `\d` mean the same in both, `[[:alpha:]]` is not known.
    """
    return "(?d)" + _PIECE.sub(_piece, pattern).replace("(?i)", "(?iu)")


def _piece(found: re.Match[str]) -> str:
    text = found[0]
    if text == "$":
        return r"\z"
    if found["inside"] is None:
        return text
    inside = re.sub(
        r"\\.|[\[\]&]", lambda letter: letter[0] if len(letter[0]) > 1 else "\\" + letter[0], found["inside"]
    )
    return f"[{found['not']}{inside}]"
