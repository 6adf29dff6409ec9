"""`demo.yaml`: which openly licensed files `--fetch-demo` may fetch for a source, and how they are checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from caretrace.config import read_yaml
from caretrace.errors import ConfigError, InputError, unknown_name
from caretrace.ingest.catalogue import SOURCES, source_mapping
from caretrace.ingest.mapping import folder_name

DEMO_FILE = "demo.yaml"

_REQUIRED = ("title", "url", "licence", "megabytes")
_OPTIONAL = ("checksums_file", "include", "files", "credentials", "note")
_FILE_KEYS = ("url", "sha256", "unpack", "gives", "strip")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class DemoFile:
    """One file to fetch.

    Args:
        name: Where it goes, below the raw folder.
        url: Its own address; None is the demo's `url` and the name.
        sha256: What the publisher says it is; None where nobody says.
        unpack: It is a zip or tar archive: its members go below the raw folder, the archive does not stay.
        gives: Members of the archive whose presence means that it was unpacked already.
        strip: Folders to take off the front of the members' names.
    """

    name: str
    url: str | None = None
    sha256: str | None = None
    unpack: bool = False
    gives: tuple[str, ...] = ()
    strip: int = 0


@dataclasses.dataclass(frozen=True)
class Demo:
    """The open files of one source.

    Args:
        source: Name of the source.
        title: What is fetched.
        url: The folder on the publisher's server, with a slash at its end.
        licence: Its licence.
        megabytes: Room it needs on disk, unpacked; checked before the first byte is asked for.
        checksums_file: The publisher's list of checksums in that folder, fetched first; None where there is none.
        include: Patterns of the names in that list to fetch, beside `files`.
        files: Files named one by one.
        credentials: What the full data need, shown when a server asks for a login.
    """

    source: str
    title: str
    url: str
    licence: str
    megabytes: float
    checksums_file: str | None
    include: tuple[str, ...]
    files: tuple[DemoFile, ...]
    credentials: str


def demos() -> list[str]:
    """Sources with files that can be fetched, by name."""
    return sorted(path.parent.name.replace("_", "-") for path in SOURCES.glob(f"*/{DEMO_FILE}"))


def read_demo(source: str) -> Demo:
    """What can be fetched for a source.

    Raises:
        ConfigError: No such source, or nothing of it can be fetched without an account.
    """
    path = SOURCES / folder_name(source) / DEMO_FILE
    if not path.is_file():
        mapping = source_mapping(source)
        raise ConfigError(
            f"{source} has no open files that caretrace may fetch ({mapping.licence}); get the data from "
            f"{mapping.url}. --fetch-demo knows {', '.join(demos()) or 'no source'}"
        )
    return parse_demo(source, read_yaml(path), f"{path.parent.name}/{path.name}")


def parse_demo(source: str, values: Mapping[str, Any], where: str) -> Demo:
    """Check the values of a `demo.yaml`.

    Raises:
        ConfigError: A key is unknown or missing, a checksum is not one, or nothing is named to fetch.
    """
    _known(values, (*_REQUIRED, *_OPTIONAL), where)
    for key in _REQUIRED:
        if key not in values:
            raise ConfigError(f"{where}: the key {key!r} is missing; add it")
    listed = values.get("files") or {}
    files = tuple(_file(str(name), part, where) for name, part in listed.items())
    include = tuple(str(pattern) for pattern in values.get("include") or ())
    if include and not values.get("checksums_file"):
        raise ConfigError(f"{where}: `include` picks names from `checksums_file`, which is missing; add it")
    if not files and not include:
        raise ConfigError(f"{where}: names no file; add `files` or `include`")
    url = str(values["url"])
    return Demo(
        source=source,
        title=str(values["title"]),
        url=url if url.endswith("/") else f"{url}/",
        licence=str(values["licence"]),
        megabytes=float(values["megabytes"]),
        checksums_file=values.get("checksums_file"),
        include=include,
        files=files,
        credentials=" ".join(str(values.get("credentials", "")).split()),
    )


def parse_checksums(text: str, where: str) -> dict[str, str]:
    """A `SHA256SUMS.txt`: name → checksum.

    Raises:
        InputError: A line is not `checksum name`, or a name leads out of the folder.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        checksum, _, name = line.strip().partition(" ")
        if not _SHA256.fullmatch(checksum.lower()) or not name.strip():
            raise InputError(
                f"{where} line {number}: {line[:80]!r} is not `checksum name`; this is not the publisher's "
                "list, so check --fetch-url and what stands between you and the server"
            )
        found[safe_name(name.strip().removeprefix("*").removeprefix("./"), where)] = checksum.lower()
    return found


def safe_name(name: str, where: str) -> str:
    """A name that stays below the folder it is put into.

    Raises:
        InputError: Absolute, with `..`, a drive or a backslash.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or re.search(r"[\\:\0]", name):
        raise InputError(
            f"{where}: the name {name!r} leads out of the folder; nothing was written. "
            "Do not use this file, and tell its publisher"
        )
    return path.as_posix()


def _file(name: str, part: Any, where: str) -> DemoFile:
    place = f"{where} files.{name}"
    if isinstance(part, str):
        part = {"sha256": part}
    part = part or {}
    _known(part, _FILE_KEYS, place)
    sha256 = part.get("sha256")
    if sha256 is not None and not _SHA256.fullmatch(str(sha256)):
        raise ConfigError(
            f"{place}: {sha256!r} is not a SHA-256 of 64 digits 0-9a-f; leave it out if unknown"
        )
    return DemoFile(
        name=safe_name(name, where),
        url=part.get("url"),
        sha256=sha256,
        unpack=bool(part.get("unpack", False)),
        gives=tuple(part.get("gives", ())),
        strip=int(part.get("strip", 0)),
    )


def _known(values: Any, valid: tuple[str, ...], where: str) -> None:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected `key: value` lines, got {values!r}")
    for key in values:
        if key not in valid:
            raise ConfigError(f"{where}: " + unknown_name("key", str(key), valid))


def part_of(raw: Path, name: str) -> Path:
    """Where a file lies while it is on its way; kept after an interruption, so that the next call goes on."""
    target = raw / name
    return target.with_name(f".{target.name}.part")
