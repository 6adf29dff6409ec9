"""A raw file before its rows are read: where it is, what it claims to be, and whether that is true.

Everything here refuses (`InputError`) rather than guesses, and nothing holds a whole file in memory.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from caretrace.errors import InputError

SUFFIXES = (".csv", ".csv.gz", ".parquet")

# A part of a table: STEM-000000000000 (BigQuery), STEM-00000-of-00005.
_PART = re.compile(r"(?P<stem>.+?)-(?P<number>[0-9]{3,})(?:-of-(?P<total>[0-9]{3,}))?")

# A compressed file may grow to this many times its size; hospital tables grow 4 to 15 times, deflate
# at most 1,032 times (https://zlib.net/zlib_tech.html). Small results are let through whatever the ratio.
MAX_EXPANSION = 200
ALWAYS_ALLOWED_BYTES = 64 << 20

# A header longer than this is not a header.
_HEADER_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
# So many lines of another length than the header's, and most of those in the first megabyte, are no accident.
_MISFITS = 1000
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"
_GZIP = 31  # zlib's window bits for a gzip member


@dataclasses.dataclass(frozen=True)
class Contents:
    """What one pass over the bytes of a file found.

    Args:
        size: Bytes after unpacking.
        has_nul: A NUL byte occurs somewhere, so the rows that hold one must be looked for.
    """

    size: int
    has_nul: bool


Stamp = tuple[int, int, int]


def find_file(raw: Path, stem: str) -> Path | None:
    """The one file of a table below the raw folder, whatever its suffix; None when there is none.

    Raises:
        InputError: As `find_files`, or a table in several parts.
    """
    found = find_files(raw, stem)
    if len(found) > 1:
        raise InputError(
            f"{raw}: {stem} is in {len(found)} parts, but is read as one file; join them into one"
        )
    return found[0] if found else None


def find_files(raw: Path, stem: str) -> list[Path]:
    """The files of a stem (one, or its parts), or those of a pattern such as `data/**/*`, in order of their names.

    Parts are named as exports from data warehouses name them: `STEM-000000000000.parquet` and so on, or
    any tables directly in a folder `STEM`.

    Raises:
        InputError: One table twice, a part missing, or a link that leads out of the raw folder.
    """
    if any(mark in stem for mark in "*?["):
        found = {path for suffix in SUFFIXES for path in raw.glob(f"{stem}{suffix}") if path.is_file()}
    else:
        whole = [path for suffix in SUFFIXES if (path := raw / f"{stem}{suffix}").is_file()]
        found = {*whole, *_parts(raw, stem)}
        if len(whole) > 1 or (whole and len(found) > 1):
            names = ", ".join(path.relative_to(raw).as_posix() for path in sorted(found)[:3])
            raise InputError(f"{raw}: {names} are the same table twice; keep one of them")
    for path in found:
        refuse_escape(path, raw)
    return sorted(found)


def stems_of(label: str) -> list[str]:
    """The stems that a file may belong to: its own, that of the parts it is one of, and its folder's."""
    suffix = next((suffix for suffix in SUFFIXES if label.endswith(suffix)), None)
    if suffix is None:
        return [label]
    stem = label.removesuffix(suffix)
    numbered = _PART.fullmatch(stem)
    return [
        stem,
        *([numbered["stem"]] if numbered else []),
        *([stem.rpartition("/")[0]] if "/" in stem else []),
    ]


def _parts(raw: Path, stem: str) -> list[Path]:
    """The parts of a table, none of them missing as far as their numbers tell."""
    place = raw / stem
    beside = place.parent.iterdir() if place.parent.is_dir() else ()
    inside = place.iterdir() if place.is_dir() else ()
    numbers: dict[int, Path] = {}
    parts = [path for path in inside if path.name.endswith(SUFFIXES) and path.name[0] not in "._"]
    total = None
    for path in beside:
        named = _PART.fullmatch(
            next((path.name.removesuffix(s) for s in SUFFIXES if path.name.endswith(s)), "")
        )
        if named is None or named["stem"] != place.name or not path.is_file():
            continue
        if int(named["number"]) in numbers or parts:
            raise InputError(
                f"{raw}: {path.name} and another file are the same part of {stem}; keep one of them"
            )
        numbers[int(named["number"])] = path
        total = named["total"] or total
    if numbers:
        first = min(numbers, default=0)
        last = first + int(total) - 1 if total else max(numbers)
        missing = [number for number in range(min(first, 1), last + 1) if number not in numbers]
        if missing:
            raise InputError(
                f"{raw}: {stem} has {len(numbers)} parts up to number {max(numbers)}, but number {missing[0]} is "
                "missing; fetch it, or all parts again"
            )
    return [*parts, *numbers.values()]


def estimated_rows(path: Path) -> float:
    """About how many rows a file has, from its first megabyte; exact for Parquet. For progress only."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return float(pq.read_metadata(path).num_rows)
    with path.open("rb") as file:
        start = (
            gzip.GzipFile(fileobj=file).read(_HEADER_BYTES) if is_packed(path) else file.read(_HEADER_BYTES)
        )
        return start.count(b"\n") * path.stat().st_size / max(1, file.tell())


def refuse_escape(path: Path, raw: Path) -> None:
    """Refuse a file that, links followed, lies outside the raw folder: itself or a folder above it.

    Raises:
        InputError: It does.
    """
    if not path.resolve().is_relative_to(raw.resolve()):
        raise InputError(f"{path} is a link that leads out of {raw}; copy the file into the folder")


def stamp(path: Path) -> Stamp:
    """What changes when somebody writes to a file: its size, its time and the file itself."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def refuse_changed(path: Path, label: str, before: Stamp) -> None:
    """Refuse a file that is not what it was when `before` was taken.

    Raises:
        InputError: It grew, was written to, replaced or removed.
    """
    try:
        same = stamp(path) == before
    except FileNotFoundError:
        same = False
    if not same:
        raise InputError(f"{label} changed while it was read; wait until its writer is done and run again")


@contextmanager
def unchanged(path: Path, label: str) -> Iterator[None]:
    """Refuse the file when it changes before the block ends; see `refuse_changed`."""
    before = stamp(path)
    yield
    refuse_changed(path, label, before)


def read_header(path: Path, label: str) -> list[str]:
    """The column names of a file; a column without a name is called `unnamed_` and its position.

    Args:
        path: The file.
        label: How reports and messages call it.

    Raises:
        InputError: Empty file, not UTF-8, not gzip, not Parquet, or one column name twice.
    """
    names = _parquet_names(path, label) if path.suffix == ".parquet" else _text_names(path, label)
    header = [name.strip() or f"unnamed_{position}" for position, name in enumerate(names, start=1)]
    lowered = [name.lower() for name in header]
    twice = sorted({name for name in lowered if lowered.count(name) > 1})
    if twice:
        raise InputError(f"{label}: the header names {twice[0]!r} twice; rename or remove one of the columns")
    return header


def refuse_misfit(path: Path, label: str, header: Sequence[str]) -> None:
    """Refuse a text file most of whose lines have more or fewer values than its header.

    A few such lines are quarantined one by one. A file that is full of them has another header than it needs
    (a comma at the end of every line, say), and DuckDB would hold all of them in memory.

    Args:
        path: The file; its first megabyte is looked at.
        label: How messages call it.
        header: Its columns.

    Raises:
        InputError: There are more than 1,000 such lines in it, and fewer others.
    """
    if path.suffix == ".parquet":
        return
    text, _, _ = _start(path, label).decode("utf-8", errors="replace").rpartition("\n")
    try:
        lengths = [len(row) for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
    except csv.Error:  # a value longer than Python reads: the engine will see
        return
    misfits = [(row, length) for row, length in enumerate(lengths, start=1) if length != len(header)]
    if len(misfits) > max(_MISFITS, len(lengths) // 2):
        row, length = misfits[0]
        raise InputError(
            f"{label}: {len(misfits):,} of its first {len(lengths):,} rows have another number of values than the "
            f"header, row {row} for one ({length} for {len(header)}); mend the header or the rows and run again"
        )


def is_packed(path: Path) -> bool:
    """Whether it is compressed as a whole."""
    return path.suffix == ".gz"


def scan(path: Path, label: str, share: Callable[[float], None] = lambda _: None) -> Contents:
    """Read a file once, chunk by chunk, before anything is loaded from it.

    A compressed file is unpacked (into nothing) to its end: so its checksum is verified and its
    expansion known before a single row of it is believed.

    Args:
        path: The file.
        label: How messages call it.
        share: Told how much of the file is read.

    Raises:
        InputError: A compressed file that is cut off, damaged, not gzip at all, or that expands beyond
            `MAX_EXPANSION` times its size (and beyond `ALWAYS_ALLOWED_BYTES`).
    """
    if path.suffix == ".parquet":
        return Contents(path.stat().st_size, has_nul=False)
    limit = max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION * path.stat().st_size)
    size, has_nul = 0, False
    try:
        blocks = _told(path, share)
        for chunk in _unpacked(blocks) if is_packed(path) else blocks:
            size += len(chunk)
            has_nul = has_nul or b"\0" in chunk
            if is_packed(path) and size > limit:
                raise InputError(
                    f"{label} expands to more than {MAX_EXPANSION} times its size ({path.stat().st_size:,} "
                    f"bytes), which no table does; if you trust it, unpack it yourself and run again"
                )
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(label, error) from None
    return Contents(size, has_nul)


def _plain(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _told(path: Path, share: Callable[[float], None]) -> Iterator[bytes]:
    done, total = 0, path.stat().st_size
    for block in _plain(path):
        yield block
        done += len(block)
        share(min(1.0, done / total))


def _unpacked(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """What the blocks of a gzip file hold, all its members, never more than one chunk in memory.

    `gzip.open` would do too, but takes three times as long.
    """
    member = None
    for block in blocks:
        rest = block
        while rest := rest if member else rest.lstrip(b"\0"):  # zeros may pad the end of a member
            member = member or zlib.decompressobj(_GZIP)
            if chunk := member.decompress(rest, _CHUNK_BYTES):
                yield chunk
            rest = member.unconsumed_tail
            if member.eof:
                rest, member = member.unused_data, None
    while member is not None and (chunk := member.decompress(member.unconsumed_tail, _CHUNK_BYTES)):
        yield chunk
    if member is not None and not member.eof:
        raise EOFError("the file ends before its last compressed block does")


def _parquet_names(path: Path, label: str) -> list[str]:
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (OSError, ValueError) as error:
        raise InputError(f"{label} is not a Parquet file ({_first_line(error)}); fetch it again") from None


def _text_names(path: Path, label: str) -> list[str]:
    start = _start(path, label)
    if start.startswith(_UTF16_MARKS):
        raise InputError(f"{label} is UTF-16; save it as UTF-8 and run again")
    start = start.removeprefix(_UTF8_MARK)
    if not start.strip():
        raise InputError(f"{label} is empty, not even a header; fetch it again or remove the file")
    first = start.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n", 1)[0]
    if b"\0" in first:
        raise InputError(
            f"{label}: the header holds NUL bytes, as UTF-16 without its mark does; save the file as UTF-8"
        )
    if len(first) >= _HEADER_BYTES:
        raise InputError(
            f"{label}: the first line is longer than 1 MB, so it is no header; is this a CSV file?"
        )
    try:
        return next(csv.reader(io.StringIO(first.decode("utf-8"))))
    except UnicodeDecodeError:
        raise InputError(f"{label}: the header is not UTF-8; save the file as UTF-8 and run again") from None


def _start(path: Path, label: str) -> bytes:
    try:
        if is_packed(path):
            with gzip.open(path, "rb") as packed:
                return packed.read(_HEADER_BYTES) if path.stat().st_size else b""
        with path.open("rb") as plain:
            return plain.read(_HEADER_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(label, error) from None


def _unreadable(label: str, error: Exception) -> InputError:
    return InputError(f"{label} cannot be read ({_first_line(error)}); fetch the file again")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
