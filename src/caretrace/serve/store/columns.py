"""Samples and arrays as bytes: fixed columns or safetensors, never anything that could run code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from caretrace.errors import InputError

# Column by column, little-endian: the layout of `batches.data`.
_LAYOUT: tuple[tuple[str, str], ...] = (
    ("subject", "<i8"),
    ("time", "<f8"),
    ("channel", "<i2"),
    ("value", "<f4"),
)
_BYTES = sum(np.dtype(kind).itemsize for _, kind in _LAYOUT)


class Samples(NamedTuple):
    """Columns of samples, all of one length.

    Args:
        subject: int64, whose.
        time: float64, epoch seconds.
        channel: int16, a place in `live.samples.CHANNELS`; -1 says that nothing was measured until then.
        value: float32, in the channel's unit.
    """

    subject: npt.NDArray[np.int64]
    time: npt.NDArray[np.float64]
    channel: npt.NDArray[np.int16]
    value: npt.NDArray[np.float32]

    def encode(self) -> bytes:
        """As bytes."""
        pairs = zip(self, _LAYOUT, strict=True)
        return b"".join(np.ascontiguousarray(column, kind).tobytes() for column, (_, kind) in pairs)

    @classmethod
    def decode(cls, data: bytes) -> Samples:
        """From bytes.

        Raises:
            InputError: Not a whole number of rows.
        """
        rows, rest = divmod(len(data), _BYTES)
        if rest:
            raise InputError(f"a batch of {len(data)} bytes in the store is damaged; restore the store")
        columns, at = [], 0
        for _, kind in _LAYOUT:
            columns.append(np.frombuffer(data, kind, rows, at))
            at += rows * np.dtype(kind).itemsize
        return cls(*columns)

    @classmethod
    def joined(cls, parts: list[Samples]) -> Samples:
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.decode(b"")
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def take(self, which: npt.NDArray[Any]) -> Samples:
        """Some of them, by mask or by number."""
        return Samples(*(column[which] for column in self))


def pack(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Named arrays as safetensors."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def unpack(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Named arrays.

    Raises:
        InputError: Damaged.
    """
    try:
        return dict(load(data))
    except (SafetensorError, ValueError) as error:
        raise InputError(f"arrays in the store are damaged ({error}); restore the store") from None
