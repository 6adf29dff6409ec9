"""What is served, and what is known of it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Request

from caretrace.errors import BundleError
from caretrace.files import read_json
from caretrace.serve.bundles import LoadedBundle
from caretrace.serve.security import Caller, require
from caretrace.serve.security.roles import READ

router = APIRouter(tags=["bundles"])
Reader = Annotated[Caller, Depends(require(READ))]
_SHOWN = ("metrics", "comparators", "gates")


@router.get("/bundles")
async def bundles(request: Request, _who: Reader) -> list[dict[str, Any]]:
    """The runs that are served."""
    served: dict[str, LoadedBundle] = request.app.state.bundles
    return [bundle.describe() for bundle in served.values()]


@router.get("/bundles/{name}/card")
async def card(
    request: Request, _who: Reader, name: Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
) -> dict[str, Any]:
    """The model card, and the held-out figures where the run was evaluated."""
    found: LoadedBundle | None = request.app.state.bundles.get(name)
    if found is None:
        raise HTTPException(404, f"no run called {name!r} is served; GET /bundles has the list")
    return await asyncio.to_thread(_card, found)


def _card(bundle: LoadedBundle) -> dict[str, Any]:
    text = bundle.run.bundle / "README.md"
    figures: dict[str, Any] = {}
    judged = bundle.run.evaluation / "evaluation.json"
    if judged.is_file():
        try:
            figures = read_json(judged)
        except ValueError as error:
            raise BundleError(f"{judged} is damaged ({error}); run `caretrace evaluate` again") from None
    stored = bundle.run.read()
    return {
        **bundle.describe(),
        "markdown": text.read_text(encoding="utf-8") if text.is_file() else "",
        "source": stored.get("source"),
        "limits": bundle.app.limits(str(stored.get("source", ""))),
        **{name: figures.get(name, {}) for name in _SHOWN},
    }
