"""Zip and tar archives, unpacked without trusting a single name in them."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from caretrace.errors import InputError
from caretrace.ingest.demo_files import safe_name

# More than this many times its own size is no archive of tables but a bomb (real ones stay below 40).
_LARGEST_RATIO = 200
_LEAST_ALLOWED = 1 << 20
_BLOCK = 1 << 20


def unpack(archive: Path, folder: Path, *, strip: int = 0, label: str = "") -> list[Path]:
    """Unpack every file of an archive below `folder`, all of them or none.

    Args:
        archive: A zip or tar (gz, bz2, xz) file.
        folder: Where its members go; files that are there already stay as they are and must be equal.
        strip: Folders to take off the front of every name.
        label: What to call the archive in messages.

    Returns:
        The files, in the order of the archive.

    Raises:
        InputError: Not an archive, damaged, a name or link that leads out, a bomb, or another file in the way.
    """
    label = label or archive.name
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as temporary:
        inside = Path(temporary)
        try:
            names = [_write(member, inside, strip, label) for member in _members(archive, label)]
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
            raise InputError(f"{label} is damaged ({error}); remove it and fetch it again") from None
        for name in names:
            _refuse_other(inside / name, folder / name, label)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (inside / name).replace(folder / name)
    return [folder / name for name in names]


class _Member:
    """One file of an archive."""

    def __init__(self, name: str, size: int, content: IO[bytes]) -> None:
        self.name, self.size, self.content = name, size, content


def _members(archive: Path, label: str) -> Iterator[_Member]:
    allowed = max(_LEAST_ALLOWED, archive.stat().st_size * _LARGEST_RATIO)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            _refuse_bomb(sum(entry.file_size for entry in entries), allowed, label)
            for entry in entries:
                # Python quietly mends some names when it extracts; refusing all of them is clearer.
                safe_name(entry.orig_filename.removesuffix("/"), label)
                if stat.S_ISLNK(entry.external_attr >> 16):
                    _refuse_link(entry.filename, label)
                if not entry.is_dir():
                    with packed.open(entry) as content:
                        yield _Member(entry.filename, entry.file_size, content)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as packed_tar:
            total = 0
            for member in packed_tar:
                total += member.size
                _refuse_bomb(total, allowed, label)
                safe_name(member.name, label)
                opened = packed_tar.extractfile(member) if member.isfile() else None
                if opened is not None:
                    with opened:
                        yield _Member(member.name, member.size, opened)
                elif not member.isdir():
                    _refuse_link(member.name, label)
    else:
        raise InputError(f"{label} is neither a zip nor a tar file; remove it and fetch it again")


def _write(member: _Member, inside: Path, strip: int, label: str) -> str:
    parts = PurePosixPath(safe_name(member.name, label)).parts
    name = "/".join(parts[strip:] or parts[-1:])
    target = inside / name
    if target.exists():
        raise InputError(f"{label} holds {name!r} twice; nothing was unpacked")
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with target.open("wb") as out:
        while block := member.content.read(_BLOCK):
            written += len(block)
            if written > member.size:
                _refuse_bomb(1, 0, label)
            out.write(block)
    return name


def _refuse_bomb(size: int, allowed: int, label: str) -> None:
    if size > allowed:
        raise InputError(
            f"{label} unpacks to more than {_LARGEST_RATIO} times its size, as no archive of tables does; "
            "nothing was unpacked"
        )


def _refuse_link(name: str, label: str) -> None:
    raise InputError(f"{label}: {name!r} is a link or a device, not a file; nothing was unpacked")


def _refuse_other(new: Path, there: Path, label: str) -> None:
    if not os.path.lexists(there):
        return
    if there.is_symlink() or not there.is_file() or not _equal(new, there):
        raise InputError(
            f"{there} is there already and differs from the one in {label}; nothing was changed. "
            "Move it away, or fetch into another folder"
        )


def _equal(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        while block := a.read(_BLOCK):
            if block != b.read(_BLOCK):
                return False
    return True


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
