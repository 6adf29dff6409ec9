"""Texts → hidden vectors: rows of a frozen matrix that a language model filled once, and a projection."""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from caretrace.data.batch import NO_TEXT
from caretrace.errors import ConfigError


@runtime_checkable
class TextVectors(Protocol):
    """Vectors of texts that may become more (`data.text.TextReader`)."""

    matrix: np.ndarray

    @property
    def width(self) -> int:
        """Numbers per vector."""
        ...


class TextEmbedding(nn.Module):
    """A projection of the vector of each text; a measurement without text adds nothing.

    The matrix is not trained and not saved with the weights: it belongs to the dataset, not to the model.
    A NumPy memory map stays on disk, only rows that are asked for are read.

    Args:
        matrix: One row per text, [text, width]: a tensor, which moves with the module to its device, or a
            NumPy array or memory map, which stays where it is; or what has such an array as its `matrix`.
        d_model: Width of the embedding.
    """

    def __init__(self, matrix: Tensor | np.ndarray | TextVectors, *, d_model: int) -> None:
        super().__init__()
        found = matrix if isinstance(matrix, Tensor | np.ndarray) else matrix.matrix
        if found.ndim != 2 or found.dtype not in _KINDS:
            raise ConfigError(
                f"TextEmbedding: got a matrix of shape {tuple(found.shape)} and type {found.dtype}; "
                "it must be [text, width] of float16 or float32"
            )
        self.width = int(found.shape[1])
        self.outside: np.ndarray | TextVectors | None = None if isinstance(matrix, Tensor) else matrix
        self.register_buffer("matrix", matrix if isinstance(matrix, Tensor) else None, persistent=False)
        self.project = nn.Linear(self.width, d_model)

    @property
    def on_disk(self) -> np.ndarray | None:
        """The matrix, where it does not move with the module."""
        return self.outside.matrix if isinstance(self.outside, TextVectors) else self.outside

    @property
    def n_texts(self) -> int:
        """Texts that there are vectors of."""
        found = self.matrix if self.on_disk is None else self.on_disk
        assert isinstance(found, Tensor | np.ndarray)
        return len(found)

    def forward(self, text_id: Int[Tensor, "*axes"]) -> Float[Tensor, "*axes d_model"]:
        """Embedding of each text, 0 where there is none (-1).

        Raises:
            ConfigError: An id beyond the matrix: the texts are not those of this dataset.
        """
        there = text_id != NO_TEXT
        found, where = torch.unique(
            text_id[there], return_inverse=True
        )  # a sentence comes often, and is read once
        weight = self.project.weight
        if len(found) and not 0 <= int(found[0]) <= int(found[-1]) < self.n_texts:
            raise ConfigError(
                f"text ids run from {int(found[0])} to {int(found[-1])}, the matrix has {self.n_texts} texts; "
                "take the texts of this dataset"
            )
        projected = self.project(self._rows(found).to(weight))
        embedded = torch.zeros(
            *text_id.shape, projected.shape[-1], device=weight.device, dtype=projected.dtype
        )
        return embedded.index_put((there,), projected[where])

    def _rows(self, found: Tensor) -> Tensor:
        on_disk = self.on_disk
        if on_disk is not None:
            return torch.from_numpy(np.ascontiguousarray(on_disk[found.cpu().numpy()]))
        assert isinstance(self.matrix, Tensor)
        return self.matrix[found]


_KINDS = {torch.float16, torch.float32, np.dtype(np.float16), np.dtype(np.float32)}
