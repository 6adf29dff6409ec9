"""What an application offers whose models attend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn

    from caretrace.data.batch import EventBatch

FOLDER = "attention"


@runtime_checkable
class ShowsAttention(Protocol):
    """An application whose models attend."""

    def watch(self, model: nn.Module, config: Any, folder: Path) -> None:
        """Save attention into `folder` while the model is trained, if the settings ask for it."""
        ...

    def save_attention(self, model: nn.Module, config: Any, batch: EventBatch, path: Path) -> dict[str, int]:
        """Write all weights of one model and batch; returns what was kept."""
        ...
