"""What a body may be: its bytes, the depth of its nesting, and numbers that are numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable
from typing import Any

_BRACKETS = b"{}[]"
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
# What Python's reader takes and JSON does not have.
_NO_NUMBERS = (b"NaN", b"Infinity")
Receive = Callable[[], Awaitable[Any]]


class TooLargeError(Exception):
    """The body goes on after the limit."""


class GoneError(Exception):
    """The caller went away."""


async def read_body(receive: Receive, most: int) -> bytes:
    """The body, of which no more than a limit is ever held.

    Args:
        receive: As ASGI gives it.
        most: Bytes.

    Raises:
        TooLargeError: There is more; what came so far is let go.
        GoneError: The caller hung up.
    """
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise TooLargeError
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def too_deep(body: bytes, most: int) -> bool:
    """Whether brackets nest deeper than a limit. Costs microseconds: only what looks suspicious is read with care.

    Args:
        body: JSON.
        most: Levels.
    """
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    return _deeper(body, most) and _deeper(_STRINGS.sub(b"", body), most)


def _deeper(body: bytes, most: int) -> bool:
    """Takes one level of brackets off after the other; one kind of bracket is as deep as the other."""
    rest = body.translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(most):
        shorter = rest.replace(b"[]", b"")
        if not shorter:
            return False
        if len(shorter) == len(rest):  # unbalanced: no JSON, so the reader will say so
            return shorter.count(b"[") > most
        rest = shorter
    return True


def not_a_number(body: bytes) -> list[str | int] | None:
    """Where the first NaN or infinity of a JSON body stands, as keys and places; None if there is none.

    Args:
        body: JSON, not too deep.
    """
    if not any(word in body for word in _NO_NUMBERS):
        return None
    try:
        return _path(json.loads(body))
    except ValueError:  # no JSON at all: whoever reads it says so
        return None


def _path(value: Any) -> list[str | int] | None:
    if isinstance(value, float) and not math.isfinite(value):
        return []
    children: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    for key, child in children:
        found = _path(child)
        if found is not None:
            return [key, *found]
    return None
