"""What turns a text into a vector, and how such a thing is named, so that its vectors can be kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class TextEncoder(Protocol):
    """Texts → vectors, one each, that depend on the text and on nothing else."""

    @property
    def name(self) -> str:
        """For people: which model, which revision."""

    @property
    def width(self) -> int:
        """Numbers per vector."""

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """JSON values that change whenever a vector could: weights, pooling, longest text, format."""

    @property
    def truncated(self) -> int:
        """Texts that were too long and cut, since the encoder was loaded."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """One vector per text.

        Args:
            texts: Texts, in any order, of any length.

        Returns:
            float32 [text, width].
        """


def digest(fingerprint: Mapping[str, Any]) -> str:
    """SHA-256 of a fingerprint, in hexadecimal: two encoders that share it give the same vectors."""
    content = json.dumps(fingerprint, sort_keys=True, allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()
