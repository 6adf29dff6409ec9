"""The embedding store: every text embedded once per encoder, and read back from a memory-mapped file.

A store is a folder with one Arrow IPC file per encoder, named by the hash of its fingerprint (model, revision,
pooling, longest text, format). The file holds one record batch, so that all vectors are one array on disk:

key      FixedSizeBinary(16)        BLAKE2b of the text, keyed with the encoder's hash
vector   FixedSizeList<half>[width]

Rows are only ever added at the end: a row number stays good for as long as the file lives. `filling` writes it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from caretrace.data.text.encoder import TextEncoder, digest
from caretrace.errors import DatasetError

KEY_BYTES = 16
_FORMAT = b"1"
_CRC_BLOCK = 1 << 26


@dataclasses.dataclass(frozen=True)
class EmbeddingStore:
    """The vectors of one encoder, memory-mapped, as they were when it was opened.

    Args:
        path: The file; it need not exist.
        salt: Hash of the encoder's fingerprint.
        keys: Two 64-bit numbers per row, uint64 [row, 2].
        vectors: float16 [row, width].
    """

    path: Path
    salt: str
    keys: np.ndarray
    vectors: np.ndarray

    @classmethod
    def open(cls, folder: Path, encoder: TextEncoder) -> EmbeddingStore:
        """Open the part of a store that belongs to an encoder; it is empty if nothing was embedded yet.

        Every byte is checked once, at some gigabytes a second.

        Args:
            folder: The store.
            encoder: Whose vectors.

        Raises:
            DatasetError: The file is damaged, or not ours.
        """
        salt = digest(encoder.fingerprint)
        path = file_of(folder, salt)
        if not path.exists():
            return cls(path, salt, *_empty(encoder.width))
        return cls(path, salt, *read_vectors(path, salt, encoder.width))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def width(self) -> int:
        """Numbers per vector."""
        return int(self.vectors.shape[1])

    def find(self, texts: Sequence[str]) -> np.ndarray:
        """Row of each text, int64 [text]; -1 for one that was not embedded."""
        return self.find_keys(keys_of(texts, self.salt))

    def find_keys(self, keys: np.ndarray) -> np.ndarray:
        """Row of each key, int64 [key]; -1 where there is none.

        Args:
            keys: uint64 [key, 2].
        """
        rows = np.full(len(keys), -1, dtype=np.int64)
        order, sorted_keys = self._index
        place = np.searchsorted(sorted_keys, keys[:, 0])
        todo = np.arange(len(keys))
        while len(todo):  # twice only where two texts share 64 bits
            todo = todo[place[todo] < len(sorted_keys)]
            todo = todo[sorted_keys[place[todo]] == keys[todo, 0]]
            candidate = order[place[todo]]
            same = self.keys[candidate, 1] == keys[todo, 1]
            rows[todo[same]] = candidate[same]
            todo = todo[~same]
            place[todo] += 1
        return rows

    def look_up(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The vectors at some rows.

        Args:
            rows: Row numbers, from 0, int64 [any].
            out: Where to put them, float16 [any, width]; a new array by default.

        Returns:
            float16 [any, width].

        Raises:
            DatasetError: A row is not in the store.
        """
        beyond = (rows < 0) | (rows >= len(self))
        if beyond.any():
            raise DatasetError(
                f"{self.path} has rows 0 to {len(self) - 1}, row {int(rows[beyond][0])} was asked for; embed the texts "
                "first, and take row numbers from `find`"
            )
        # The rows are checked above; without "clip" numpy would copy into a buffer and then into `out`.
        return np.take(self.vectors, rows, axis=0, out=out, mode="clip")

    @functools.cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows by the first half of their key, and those halves in order."""
        order = np.argsort(self.keys[:, 0], kind="stable")
        return order, self.keys[order, 0]


def file_of(folder: Path, salt: str) -> Path:
    """The file of an encoder in a store."""
    return folder / f"{salt[:32]}.arrow"


def keys_of(texts: Sequence[str], salt: str) -> np.ndarray:
    """128-bit content addresses, uint64 [text, 2]: equal for equal texts of the same encoder alone.

    Args:
        texts: Texts.
        salt: Hash of the encoder's fingerprint, 64 hexadecimal digits.
    """
    start = hashlib.blake2b(digest_size=KEY_BYTES, key=bytes.fromhex(salt))
    found = bytearray()
    for text in texts:
        each = start.copy()
        each.update(text.encode())
        found += each.digest()
    return np.frombuffer(bytes(found), dtype="<u8").reshape(-1, 2)


def write_vectors(
    path: Path, keys: np.ndarray, vectors: np.ndarray, *, salt: str, about: Mapping[str, Any]
) -> None:
    """Write a file of vectors; the caller puts it in its place.

    Args:
        path: File to write.
        keys: uint64 [row, 2], in one piece.
        vectors: float16 [row, width], may itself be memory-mapped: it is streamed.
        salt: Hash of the encoder's fingerprint.
        about: What people may want to know, JSON values.
    """
    n_rows, width = vectors.shape
    key = pa.Array.from_buffers(pa.binary(KEY_BYTES), n_rows, [None, pa.py_buffer(keys)])
    halves = pa.Array.from_buffers(pa.float16(), n_rows * width, [None, pa.py_buffer(vectors)])
    batch = pa.record_batch(
        [key, pa.FixedSizeListArray.from_arrays(halves, width)], schema=_schema(width, salt, about)
    )
    options = pa.ipc.IpcWriteOptions(allow_64bit=True)  # more than 2^31 numbers, 2.8 million rows of 768
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch, custom_metadata={"crc32": _crc(keys, vectors)})


def read_vectors(path: Path, salt: str, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Map a file of vectors and check every byte of it.

    Returns:
        Keys, uint64 [row, 2], and vectors, float16 [row, width]; both lie on disk.

    Raises:
        DatasetError: The file is damaged, or belongs to another encoder.
    """
    remedy = "remove it and embed again: only the texts in it are lost"
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            metadata = reader.schema.metadata or {}
            batch, custom = reader.get_batch_with_custom_metadata(0)
            batch.validate()
        ours = metadata.get(b"encoder") == salt.encode() and metadata.get(b"format") == _FORMAT
        if ours and batch.schema.equals(_schema(width, salt, {})):
            keys, vectors = _arrays(batch, width)
            damage = "" if (custom or {}).get(b"crc32") == _crc(keys, vectors) else "checksum differs"
        else:
            damage = "it holds vectors of another encoder or of another caretrace"
    except (pa.ArrowException, OSError, ValueError, IndexError, KeyError) as error:
        damage = (str(error) or type(error).__name__).splitlines()[0]
    if damage:
        raise DatasetError(f"{path} cannot be used ({damage}); {remedy}")
    return keys, vectors


def _arrays(batch: pa.RecordBatch, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and vectors without a copy."""
    keys = np.frombuffer(batch.column(0).buffers()[1], dtype="<u8", count=2 * len(batch)).reshape(-1, 2)
    return keys, batch.column(1).flatten().to_numpy(zero_copy_only=True).reshape(-1, width)


def _schema(width: int, salt: str, about: Mapping[str, Any]) -> pa.Schema:
    return pa.schema(
        [
            pa.field("key", pa.binary(KEY_BYTES), nullable=False),
            pa.field("vector", pa.list_(pa.float16(), width), nullable=False),
        ],
        metadata={"format": _FORMAT, "encoder": salt, "about": json.dumps(about)},
    )


def _crc(keys: np.ndarray, vectors: np.ndarray) -> bytes:
    """CRC-32 of all bytes, in hexadecimal; read block by block, so that a large file need not fit in memory."""
    value = zlib.crc32(keys.tobytes())
    content = vectors.reshape(-1).view(np.uint8).data
    for start in range(0, len(content), _CRC_BLOCK):
        value = zlib.crc32(content[start : start + _CRC_BLOCK], value)
    return f"{value:08x}".encode()


def _empty(width: int) -> tuple[np.ndarray, np.ndarray]:
    return np.empty((0, 2), dtype="<u8"), np.empty((0, width), dtype=np.float16)
