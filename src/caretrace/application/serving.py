"""What `serve` and an application agree on.

An application that learns from labels is served as it is (`answering`). Another one, or one that wants more, has a
module `api` beside its `application`, which offers any of

- `open_run(run)`: whatever answers its questions, made once when the service starts; torch may be imported there.
  What the page asks of it: `board(time)` and `summary()` (`apps.safety.api`, `apps.synth.api`).
- `router(desk)`: a FastAPI router of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Desk(Protocol):
    """Where an application's routes get what is not theirs."""

    def opened(self, application: str, bundle: str | None = None) -> Any:
        """What `open_run` made of a run that is served: of a bundle, or of the first one of the application."""
        ...

    async def compute(self, work: Callable[[], T]) -> T:
        """Do work that holds a processor for long, beside the loop that answers requests."""
        ...

    async def reads(self, request: Any, what: str, subjects: list[int], *, kept: bool = False) -> None:
        """Write into the audit whose data is answered about; no answer without it.

        Args:
            request: The request.
            what: In a few words.
            subjects: Whose.
            kept: The data is ours, not sent along: who asks must be allowed to know of these subjects.
        """
        ...

    def permit(self, action: str) -> Any:
        """A dependency that lets pass only who may do this."""
        ...
