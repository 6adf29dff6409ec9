"""Every route of the service; a module here offers `router`, and stands in this table."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import APIRouter

ROUTES = (
    "vitals",  # first: nothing is asked as often
    "health",
    "session",
    "bundles",
    "predict",
    "explain",
    "generate",
    "jobs",
    "stream",
    "ward",
    "alarms",
    "subjects",
    "board",
    "audit",
)


def routers() -> list[APIRouter]:
    """The routers, in the order of the table."""
    return [importlib.import_module(f"{__name__}.{name}").router for name in ROUTES]
