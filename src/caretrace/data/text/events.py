"""The texts of a dataset: which there are, and the row of each in a matrix of vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.data.batch import NO_TEXT
from caretrace.data.text.encoder import TextEncoder
from caretrace.data.text.filling import Filled, fill
from caretrace.data.text.store import EmbeddingStore
from caretrace.dataset import Dataset
from caretrace.errors import DatasetError


@dataclasses.dataclass(frozen=True)
class EmbeddedTexts:
    """The distinct texts of a dataset and their vectors.

    Args:
        texts: Distinct texts in alphabetical order, String.
        rows: Row of each in `matrix`, int64 [text].
        matrix: float16 [row, width]; memory-mapped, so that a row costs nothing until it is read. It is the whole
            store, and may hold texts of other datasets too.
        filled: How many texts there were, how many were new, how many were cut.
    """

    texts: pl.Series
    rows: np.ndarray
    matrix: np.ndarray
    filled: Filled

    def __len__(self) -> int:
        return len(self.texts)

    def ids(self, texts: pl.Series) -> np.ndarray:
        """Row of each text in `matrix`, the `text_id` of `EventBatch`.

        Args:
            texts: One text per event, String; null or blank where there is none.

        Returns:
            int64 [event]; `NO_TEXT`, -1, where there is no text.

        Raises:
            DatasetError: A text is not among the embedded ones.
        """
        table = pl.DataFrame({schema.TEXT_VALUE: self.texts, "row": self.rows})
        found = (
            pl.DataFrame({schema.TEXT_VALUE: texts}, schema={schema.TEXT_VALUE: pl.String})
            .join(table, on=schema.TEXT_VALUE, how="left", maintain_order="left")
            .select(pl.when(has_text()).then("row").otherwise(NO_TEXT))
            .to_series()
        )
        if (
            found.null_count()
        ):  # the texts themselves may say whose they are, so the message does not show them
            raise DatasetError(
                f"{found.null_count()} of {len(found)} texts were not embedded; embed the texts of the dataset they "
                "come from with `embed_dataset`"
            )
        return found.to_numpy(writable=True)

    def in_memory(self) -> EmbeddedTexts:
        """The same with a matrix of these texts alone, row i for text i: what to move to a GPU."""
        return dataclasses.replace(self, rows=np.arange(len(self)), matrix=self.matrix[self.rows])


def embed_texts(
    texts: pl.Series,
    encoder: TextEncoder,
    store: Path,
    progress: Callable[[int, int], None] | None = None,
) -> EmbeddedTexts:
    """Embed texts that the store does not have yet.

    Args:
        texts: Texts, String, in any order; null, blank and repeated ones cost nothing.
        encoder: What embeds.
        store: Folder of the embedding store; made if it is not there. Many datasets may share one.
        progress: Called with (texts done, texts in all).

    Raises:
        DatasetError: A file of the store is damaged.
        ResourceError: The store cannot be written.
    """
    frame = pl.DataFrame({schema.TEXT_VALUE: texts}, schema={schema.TEXT_VALUE: pl.String})
    distinct = frame.filter(has_text())[schema.TEXT_VALUE].unique().sort()
    asked = distinct.to_list()
    filled = fill(store, encoder, asked, progress)
    opened = EmbeddingStore.open(store, encoder)
    return EmbeddedTexts(distinct, opened.find(asked), opened.vectors, filled)


def embed_dataset(
    dataset: Dataset,
    encoder: TextEncoder,
    store: Path,
    progress: Callable[[int, int], None] | None = None,
) -> EmbeddedTexts:
    """Embed every distinct text of a dataset, of all splits.

    An encoder learns nothing from what it embeds, so held-out texts may be among them; what it was fitted on is
    another matter (`fit_on_training`).

    Args:
        dataset: The MEDS dataset.
        encoder: What embeds.
        store: Folder of the embedding store; made if it is not there. Many datasets may share one.
        progress: Called with (texts done, texts in all).

    Raises:
        DatasetError: A file of the dataset or the store is damaged.
        ResourceError: The store cannot be written.
    """
    texts = dataset.scan().filter(has_text()).select(pl.col(schema.TEXT_VALUE).unique()).collect()
    return embed_texts(texts[schema.TEXT_VALUE], encoder, store, progress)


def has_text() -> pl.Expr:
    """Whether a measurement has a text that says anything: not null, and not blank."""
    return pl.col(schema.TEXT_VALUE).fill_null("").str.strip_chars().str.len_bytes() > 0
