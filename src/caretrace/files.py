"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import glob
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caretrace.errors import OutputExistsError


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
    is removed by the next writer of the same target.

    Raises:
        OutputExistsError: `target` exists and is not an empty folder.
    """
    refuse_existing(target)
    partial = _partial(target)
    partial.mkdir()
    try:
        yield partial
        refuse_existing(target)  # another writer may have been faster
        if target.is_dir():  # an empty folder the user made; rename needs the place free
            target.rmdir()
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


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


def _alive(leftover: Path) -> bool:
    """Whether the process that made a partial folder still runs (two writers must not collide)."""
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
