"""JSON answers that may hold arrays; what is not a number becomes null."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Response

# The numbers that SQLite, PostgreSQL and JSON readers agree on; others are 422, and never reach SQL.
SMALLEST, LARGEST = -(2**63), 2**63 - 1


def answer(payload: Any, status: int = 200) -> Response:
    """JSON, quickly: NumPy arrays as lists, NaN as null."""
    body = orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, media_type="application/json")
