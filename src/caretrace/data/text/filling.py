"""Filling the embedding store: only texts that are new, resumable, with any number of writers at once.

A writer puts what it has finished into segments, small whole files of its own, every few seconds. At the end it
takes the store's lock and merges all segments it finds, its own and those of writers that were killed, into the
encoder's file. So a kill loses seconds, and two writers lose and double nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import random
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from caretrace.data.text.encoder import TextEncoder
from caretrace.data.text.store import EmbeddingStore, keys_of, read_vectors, write_vectors
from caretrace.errors import ConfigError, ResourceError
from caretrace.files import whole_file

# What is handed to the encoder at once: texts of like length, few enough that a segment is never far.
_PORTION_TEXTS = 2048
_PORTION_CHARACTERS = 200_000
_MERGE_ROWS = 1 << 16
# A segment takes seconds to write: a temporary file as old as this is what a killed writer left.
_ABANDONED_SECONDS = 3600

Part = tuple[np.ndarray, np.ndarray]  # keys, vectors


@dataclasses.dataclass(frozen=True)
class Filled:
    """What a call of `fill` did.

    Args:
        texts: Distinct texts asked for.
        new: Of these, the ones this call embedded.
        truncated: Of these, the ones longer than the encoder reads, so cut.
    """

    texts: int
    new: int
    truncated: int


def fill(
    folder: Path,
    encoder: TextEncoder,
    texts: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    flush_seconds: float = 10.0,
) -> Filled:
    """Embed the texts that the store does not have.

    Safe to kill, to call again, and to call from several processes at once: they share the work.

    Args:
        folder: The store; made if it is not there.
        encoder: What embeds.
        texts: Texts; repeats cost nothing.
        progress: Called with (texts done, texts in all).
        flush_seconds: Write down what is finished at least this often, between portions.

    Raises:
        DatasetError: A file of the store is damaged.
        ConfigError: The encoder gave a vector with NaN, or with a number too large for half precision.
        ResourceError: The store cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _Writer(folder, encoder, list(dict.fromkeys(texts))).fill(progress, flush_seconds)
    except OSError as error:
        raise ResourceError(
            f"{folder} cannot be written ({error.strerror or error}); free some space, get the right to write there, "
            "or choose another store. What is embedded so far is kept"
        ) from error


class _Writer:
    """One call of `fill`.

    Args:
        folder: The store.
        encoder: What embeds.
        texts: Distinct texts.
    """

    def __init__(self, folder: Path, encoder: TextEncoder, texts: list[str]) -> None:
        self.folder, self.encoder, self.texts = folder, encoder, texts
        store = EmbeddingStore.open(folder, encoder)
        self.path, self.salt = store.path, store.salt
        self.segments = self.path.with_suffix(".segments")
        self.segments.mkdir(exist_ok=True)
        self._keys = keys_of(texts, self.salt)
        self._absent = store.find_keys(self._keys) < 0
        self._seen: set[Path] = set()

    def fill(self, progress: Callable[[int, int], None] | None, flush_seconds: float) -> Filled:
        """Embed what is missing, then merge."""
        todo = self._missing(np.arange(len(self.texts)))
        cut, new, done = self.encoder.truncated, 0, len(self.texts) - len(todo)
        finished: list[Part] = []
        flushed = time.monotonic()
        for portion in _portions(self.texts, todo):
            rows = self._missing(portion)  # another writer may have been here
            if len(rows):
                finished.append((self._keys[rows], self._encode([self.texts[row] for row in rows])))
            new, done = new + len(rows), done + len(portion)
            if time.monotonic() - flushed >= flush_seconds:
                self._flush(finished)
                finished, flushed = [], time.monotonic()
            if progress:
                progress(done, len(self.texts))
        self._flush(finished)
        self._merge()
        return Filled(len(self.texts), new, self.encoder.truncated - cut)

    def _missing(self, rows: np.ndarray) -> np.ndarray:
        """Those of the rows that neither the file nor any segment holds by now."""
        for path in self._list_segments() - self._seen:
            self._seen.add(path)
            with contextlib.suppress(FileNotFoundError):  # its writer has just merged it
                keys, vectors = self._read(path)
                segment = EmbeddingStore(path, self.salt, keys, vectors)
                self._absent &= segment.find_keys(self._keys) < 0
        return rows[self._absent[rows]]

    def _encode(self, texts: list[str]) -> np.ndarray:
        vectors = self.encoder.encode(texts)
        if vectors.shape != (len(texts), self.encoder.width):
            raise ConfigError(
                f"encoder {self.encoder.name} gave an array of shape {vectors.shape} for {len(texts)} texts; `encode` "
                f"must give [{len(texts)}, {self.encoder.width}], one vector per text"
            )
        with np.errstate(over="ignore"):
            halves = vectors.astype(np.float16)
        if not np.isfinite(halves).all():
            raise ConfigError(
                f"encoder {self.encoder.name} gave NaN, or a number beyond ±65504, which half precision cannot hold; "
                "its weights are damaged, or it needs another pooling"
            )
        return halves

    def _flush(self, finished: list[Part]) -> None:
        """Write what is finished as a segment of our own."""
        if not finished:
            return
        keys, vectors = (np.concatenate(parts) for parts in zip(*finished, strict=True))
        path = self.segments / f"{uuid.uuid4().hex}.arrow"
        with whole_file(path) as partial:
            self._write(partial, keys, vectors)
        self._seen.add(path)
        self._absent &= EmbeddingStore(path, self.salt, keys, vectors).find_keys(self._keys) < 0

    def _merge(self) -> None:
        """Put every segment there is into the encoder's file; whoever holds the lock does it for all."""
        with _locked(self.segments / "lock"):
            paths = sorted(self._list_segments())
            if paths:
                old = EmbeddingStore.open(self.folder, self.encoder)
                self._replace([(old.keys, old.vectors), *map(self._read, paths)])
            for path in paths:
                path.unlink()
            for leftover in self.segments.glob(".*.partial"):
                if time.time() - leftover.stat().st_mtime > _ABANDONED_SECONDS:
                    leftover.unlink()

    def _replace(self, parts: list[Part]) -> None:
        """Write the parts one after the other as the encoder's file, each key once, where it first stands."""
        keys = np.concatenate([part for part, _ in parts])
        kept = _first_rows(keys)
        starts = np.cumsum([0, *(len(part) for part, _ in parts)])
        # Staged on disk: the vectors of a large hospital do not fit in memory.
        with tempfile.TemporaryFile(dir=self.folder) as stage:
            merged = np.memmap(stage, np.float16, "w+", shape=(len(kept), self.encoder.width))
            for (_, vectors), start, end in zip(parts, starts, starts[1:], strict=False):
                first, last = np.searchsorted(kept, [start, end])
                for block in range(first, last, _MERGE_ROWS):
                    rows = kept[block : min(block + _MERGE_ROWS, last)]
                    merged[block : block + len(rows)] = vectors[rows - start]
            with whole_file(self.path) as partial:
                self._write(partial, keys[kept], merged)

    def _write(self, path: Path, keys: np.ndarray, vectors: np.ndarray) -> None:
        about = {"encoder": self.encoder.name, "fingerprint": dict(self.encoder.fingerprint)}
        write_vectors(path, keys, vectors, salt=self.salt, about=about)

    def _read(self, path: Path) -> Part:
        return read_vectors(path, self.salt, self.encoder.width)

    def _list_segments(self) -> set[Path]:
        return set(self.segments.glob("*.arrow"))


def _portions(texts: Sequence[str], rows: np.ndarray) -> list[np.ndarray]:
    """Rows in groups of like length, in an order that differs from writer to writer, so that they share."""
    lengths = np.fromiter((len(texts[row]) for row in rows), np.int64, len(rows))
    order = np.argsort(lengths, kind="stable")
    found, start, characters = [], 0, 0
    for end, length in enumerate(lengths[order].tolist()):
        characters += length
        if end > start and (end - start >= _PORTION_TEXTS or characters > _PORTION_CHARACTERS):
            found.append(rows[order[start:end]])
            start, characters = end, length
    if len(rows):
        found.append(rows[order[start:]])
    random.SystemRandom().shuffle(found)
    return found


def _first_rows(keys: np.ndarray) -> np.ndarray:
    """Increasing row numbers at which each distinct key first stands."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: of equal keys the earliest comes first
    new = np.ones(len(keys), dtype=bool)
    new[1:] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    return np.sort(order[new])


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for, and hold, a lock that the system releases when its holder dies."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
