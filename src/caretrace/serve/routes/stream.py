"""Routes of stream."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["stream"])
