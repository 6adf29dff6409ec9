"""Too little memory or disk, told apart from everything else that can go wrong while an engine runs."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caretrace.errors import ResourceError

# As engines quote the system in messages of their own.
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
# What an engine says when spilling would fill the disk, though it calls that out of memory.
_SPILL = "max_temp_directory_size"
_MEMORY = "Out of Memory Error"
_NO_MEMORY = (_MEMORY, "java.lang.OutOfMemoryError", "SparkOutOfMemoryError")


@contextmanager
def naming_what_lacks(work: Path, memory_limit: str) -> Iterator[None]:
    """Turn the many ways in which engines say "no memory" or "no space" into one error that names the remedy.

    Args:
        work: Where the engine stores and spills.
        memory_limit: What the engine was allowed.

    Raises:
        ResourceError: Memory or disk ran out in the block.
    """
    try:
        yield
    except Exception as error:
        problem = _problem(error, work, memory_limit)
        if problem is None:
            raise
        raise ResourceError(problem) from error


def _problem(error: BaseException | None, work: Path, memory_limit: str) -> str | None:
    """What ran out, looking behind errors too: a reader may take a full disk for an unreadable file."""
    while error is not None:
        text = str(error)
        full = next((reason for reason in (_SPILL, *_FULL) if reason in text), None)
        if full is not None:
            # The work folder is temporary and hidden; beside it stands what the user named.
            return (
                f"no space left on the disk that holds {work.parent.parent} ({full}); free some, or choose an output "
                "path on another disk"
            )
        if any(word in text for word in _NO_MEMORY):
            return (
                f"--memory-limit {memory_limit} is not enough memory: {_first_line(text)}; give more with "
                "--memory-limit"
            )
        if isinstance(error, MemoryError):
            return (
                f"the machine has no memory left ({_first_line(text)}), with {memory_limit} promised to the engine; "
                "end other programs, or lower --memory-limit so that it spills to disk earlier"
            )
        error = error.__cause__ or error.__context__
    return None


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no details"])[0].removeprefix(f"{_MEMORY}: ")
