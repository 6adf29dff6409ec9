"""Texts as a model reads them: a row number for each, and the vectors that the rows stand for."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from caretrace.data.text.encoder import TextEncoder
from caretrace.data.text.events import embed_texts


class TextReader:
    """An encoder with its store. Texts are embedded when they are first met, of whichever dataset they are.

    Rows of the store stay where they are when it grows, so row numbers given before stay right.

    Args:
        encoder: What embeds; fitted on training subjects, or pretrained.
        store: Folder that keeps the vectors; by default a temporary one, gone with this reader.
        progress: Called with (texts done, texts in all).
    """

    def __init__(
        self,
        encoder: TextEncoder,
        store: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.encoder, self.progress = encoder, progress
        if store is None:
            store = Path(tempfile.mkdtemp(prefix="caretrace-texts-"))
            weakref.finalize(self, shutil.rmtree, store, ignore_errors=True)
        self.store = store
        self.matrix = np.zeros((0, encoder.width), dtype=np.float16)

    @property
    def width(self) -> int:
        """Numbers per vector."""
        return self.encoder.width

    def ids(self, texts: pl.Series) -> np.ndarray:
        """Row of each text in `matrix`, which is memory-mapped, and holds all texts met so far.

        Args:
            texts: One text per event, String; null or blank where there is none.

        Returns:
            int64 [event]; -1 where there is no text.

        Raises:
            DatasetError: A file of the store is damaged.
            ResourceError: The store cannot be written.
        """
        embedded = embed_texts(texts, self.encoder, self.store, self.progress)
        self.matrix = embedded.matrix
        return embedded.ids(texts)

    def __deepcopy__(self, memo: dict[int, Any]) -> TextReader:
        """A copy of a model reads the same texts."""
        return self
