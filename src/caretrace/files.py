"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caretrace.errors import OutputExistsError, ResourceError


def refuse_existing(target: Path) -> None:
    """Stop before any work is done if an output path is taken.

    Raises:
        OutputExistsError: `target` exists and is not an empty folder.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputExistsError(f"{target} already exists: choose another output path or remove it first")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that is renamed into place when the block ends well.

    A process killed inside the block leaves `target` absent; its leftover `.NAME.*.partial` folder
    is removed by the next writer of the same target. Of two writers, the first to end wins.

    Raises:
        OutputExistsError: `target` exists and is not an empty folder.
        ResourceError: There is no right to write there, or no space left.
    """
    refuse_existing(target)
    try:
        partial = _partial(target)
        partial.mkdir()
    except OSError as error:
        raise _explained(error, target) from error
    lock = os.open(partial, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks; the process id must do
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield partial
        _move(partial, target)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            raise _explained(error, target) from error
        raise
    finally:
        os.close(lock)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that replaces it when the block ends well.

    A process killed inside the block leaves `target` as it was; its leftover `.NAME.*.partial` file is
    removed by the next writer of the same target.
    """
    partial = _partial(target)
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN and infinities are refused."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with whole_file(target) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """The JSON value stored at `path`."""
    return json.loads(path.read_text(encoding="utf-8"))


def _partial(target: Path) -> Path:
    """A new name beside `target`; what killed writers of the same target left behind is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        if not _alive(leftover):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    return target.parent / f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.partial"


def _move(partial: Path, target: Path) -> None:
    """Put a folder in its place in one step that also replaces an empty folder, but nothing else.

    Raises:
        OutputExistsError: Another writer was faster.
    """
    try:
        partial.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            refuse_existing(target)
        raise


def _explained(error: OSError, target: Path) -> Exception:
    """The same error in words, if the disk is to blame and not a file that was read."""
    if error.filename is not None and not Path(error.filename).is_relative_to(target.parent):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ResourceError(
            f"{target}: no space left on the disk ({error.strerror}); free some or choose another output path"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ResourceError(
            f"{target} cannot be written ({error.strerror}); choose another output path, or get the right to "
            f"write in {target.parent}"
        )
    return error


def _alive(leftover: Path) -> bool:
    """Whether the process that made a partial folder still runs (two writers must not collide).

    A folder is locked by its writer: a process id alone says nothing of a writer in another container.
    """
    if leftover.is_dir() and _locked(leftover):
        return True
    pid = leftover.name.rsplit(".", 2)[1].split("-", 1)[0]
    if not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return int(pid) != os.getpid()


def _locked(folder: Path) -> bool:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # it has just gone
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    finally:
        os.close(handle)
    return False
