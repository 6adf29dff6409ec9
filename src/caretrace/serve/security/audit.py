"""The audit: who read, changed or was denied what, appended and never changed.

Each entry names the hash of the one before it, so a changed, removed or inserted entry breaks every hash after it;
a second small file names the last entry, so that cutting the end off is seen, too. Whoever can write both files can
write both anew: the last hash belongs on another machine now and then (`GET /audit` says it).
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from caretrace.errors import ResourceError
from caretrace.serve.clock import Clock, iso

FILE, HEAD = "audit.jsonl", "audit.head"
START = "0" * 64
MOST_OWED = 10_000
_NEAR = 64 * 2**10


@dataclasses.dataclass(frozen=True)
class Entry:
    """What happened.

    Args:
        who: Name of the token, or of the address where nobody was known.
        what: In a few words, with the verb first.
        subject_id: Whose data it was about.
        outcome: `done` or `denied`.
    """

    who: str
    what: str
    subject_id: int | None = None
    outcome: str = "done"


class _Checked(NamedTuple):
    """The last entry of a chain that was followed to there.

    Args:
        number: Its number.
        hash: Its hash.
        end: Place behind it in the file.
    """

    number: int
    hash: str
    end: int


class _Stamp(NamedTuple):
    """What a file system says of a file; changes whenever anybody touches it."""

    inode: int = 0
    changed: int = 0
    size: int = 0

    @classmethod
    def of(cls, path: Path) -> Self:
        """Of a file, or of none."""
        try:
            found = path.stat()
        except OSError:
            return cls()
        return cls(found.st_ino, found.st_ctime_ns, found.st_size)


class _Waiting:
    """Entries on their way to the disk, together."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self.entries = entries
        self.done = False
        self.error: OSError | None = None


_NOTHING = _Checked(0, START, 0)


class Audit:
    """The audit in a folder. Several threads and processes may append.

    Args:
        folder: Made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._clock = Clock()
        self._queue: list[_Waiting] = []
        self._owed: list[_Waiting] = []
        self._queue_lock, self._write_lock = threading.Lock(), threading.Lock()
        self._failure: str | None = None
        # What is known to be whole: number, hash and end of the last entry checked, and the file as we left it.
        self._checked, self._left = _NOTHING, _Stamp()

    @property
    def file(self) -> Path:
        """One entry a line."""
        return self.folder / FILE

    def append(self, *entries: Entry, must: bool = True) -> None:
        """Write entries; they are on the disk when this returns. Threads that wait together share one sync.

        Args:
            entries: What happened.
            must: Fail if it cannot be written; else it is kept in memory, and written before the next one.

        Raises:
            ResourceError: It could not be written.
        """
        waiting = _Waiting(entries)
        with self._queue_lock:
            self._queue.append(waiting)
        with self._write_lock:
            if not waiting.done:
                self._write_all()
        if waiting.error is None:
            return
        if must:
            raise ResourceError(f"{self.file} cannot be written ({waiting.error.strerror or waiting.error})")
        with self._queue_lock:
            self._owed = [*self._owed, waiting][-MOST_OWED:]

    def why_not(self) -> str | None:
        """Why the last entry could not be written, or None. It is tried again."""
        if self._failure is not None:
            with self._queue_lock:
                self._queue.append(_Waiting((Entry("service", "write again after a failure"),)))
            with self._write_lock:
                self._write_all()
        return self._failure

    def entries(self, after: int = 0, most: int = 1000) -> list[dict[str, Any]]:
        """Entries with a number above `after`, oldest first."""
        found = []
        for _, value in self._read(self._place(after)):
            if int(value.get("n", 0)) > after:
                found.append({key: each for key, each in value.items() if key != "previous"})
                if len(found) == most:
                    break
        return found

    @property
    def last(self) -> int:
        """Number of the newest entry; 0 for none."""
        return self._head()[0]

    def intact(self) -> bool:
        """Whether every entry is as it was written, and none is missing.

        Read anew is what was appended since the last look, or everything if anybody but us has touched the file.
        """
        with self._write_lock:
            if _Stamp.of(self.file) != self._left:
                self._checked = _NOTHING
            self._left = _Stamp.of(self.file)
            found = self._verify(self._checked)
            self._checked = found or _NOTHING
            return found is not None

    def _write_all(self) -> None:
        with self._queue_lock:
            batch, self._queue, self._owed = [*self._owed, *self._queue], [], []
        if not batch:
            return
        try:
            self._write([entry for each in batch for entry in each.entries])
            self._failure = None
        except OSError as error:
            self._failure = f"audit: {error.strerror or error}"
            for each in batch:
                if each.done:  # owed since long; nobody waits for it
                    with self._queue_lock:
                        self._owed = [*self._owed, each][-MOST_OWED:]
                each.error = error
        for each in batch:
            each.done = True

    def _write(self, entries: list[Entry]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            touched = _Stamp.of(self.file) != self._left
            number, last, end = _last(file)
            if number < self._head()[0]:
                raise OSError("entries were removed from it; put the folder away and start a new one")
            lines = []
            for entry in entries:
                number += 1
                value = {"n": number, "time": iso(self._clock(), "seconds"), **dataclasses.asdict(entry)}
                value["previous"] = last
                last = value["hash"] = _hash(value)
                lines.append(json.dumps(value, ensure_ascii=False) + "\n")
            file.truncate(end)  # half a line that a kill left behind: nobody was told it was written
            file.seek(end)
            try:
                file.write("".join(lines).encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), end)
                raise
            self._write_head(number, last)
            if touched:
                self._checked = _NOTHING
            self._left = _Stamp.of(self.file)

    def _write_head(self, number: int, last: str) -> None:
        handle = os.open(self.folder / HEAD, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(f"{number:020d} {last}\n".encode())  # as long as the last one: written over in place

    def _verify(self, known: _Checked) -> _Checked | None:
        """Follow the chain from an entry that is known to be whole; None where it breaks."""
        head = self._head()
        number, last, end = known
        seen = (number, last) == head or (head == (0, "missing") and not self.file.exists())
        try:
            for after, value in self._read(end):
                number, end = number + 1, after
                if (
                    value.get("n") != number
                    or value.get("previous") != last
                    or value.get("hash") != _hash(value)
                ):
                    return None
                last = value["hash"]
                seen = seen or (number, last) == head
        except (ValueError, AttributeError):
            return None
        return _Checked(number, last, end) if seen else None

    def _place(self, after: int) -> int:
        """Where an entry not above `after` begins, as late as a few halvings of the file find one."""
        if after <= 0 or not self.file.exists():
            return 0
        low, high = 0, self.file.stat().st_size
        with self.file.open("rb") as file:
            while high - low > _NEAR:
                middle = (low + high) // 2
                file.seek(middle)
                file.readline()
                place, line = file.tell(), file.readline()
                number = _number(line)
                if number is None or number > after:
                    high = middle
                else:
                    low = place
        return low

    def _head(self) -> tuple[int, str]:
        try:
            number, last = (self.folder / HEAD).read_text(encoding="utf-8").split()
            return int(number), last
        except FileNotFoundError:
            return 0, "missing"
        except (OSError, ValueError):
            return 0, "damaged"

    def _read(self, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Entries from a place on, each with the place behind it."""
        try:
            with self.file.open("rb") as file:
                file.seek(start)
                for line in file:
                    start += len(line)
                    if line.endswith(b"\n"):
                        yield start, json.loads(line)
        except FileNotFoundError:
            return


def _number(line: bytes) -> int | None:
    try:
        return int(json.loads(line)["n"])
    except (ValueError, KeyError, TypeError):
        return None


def _last(file: BinaryIO) -> tuple[int, str, int]:
    """Number and hash of the last whole entry, and where it ends."""
    end = file.seek(0, os.SEEK_END)
    size = 4096
    while end:
        start = max(0, end - size)
        file.seek(start)
        tail = file.read(end - start)
        whole = tail[: tail.rfind(b"\n") + 1]
        before = whole[:-1].rfind(b"\n")
        if whole and (before >= 0 or start == 0):
            try:
                value = json.loads(whole[before + 1 :])
                return int(value["n"]), str(value["hash"]), start + len(whole)
            except (ValueError, KeyError, TypeError):
                raise OSError("its last line is damaged; put the folder away and start a new one") from None
        if start == 0:
            break
        size *= 2
    return 0, START, 0


def _hash(value: dict[str, Any]) -> str:
    content = {key: each for key, each in value.items() if key != "hash"}
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "replace"
        )
    ).hexdigest()
