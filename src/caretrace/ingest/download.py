"""`caretrace ingest SOURCE --fetch-demo`: openly licensed files over HTTP, each whole and checked or not there.

A plain HTTP client (urllib): an interrupted file goes on where it stopped, a file with the wrong checksum is
refused, and what lay in the folder before is never removed or replaced.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import caretrace
from caretrace.errors import ConfigError, InputError
from caretrace.ingest.archives import free_bytes, unpack
from caretrace.ingest.demo_files import Demo, DemoFile, parse_checksums, part_of, read_demo

# Called with the file on its way, its bytes so far, and how many it has (None where the server does not say).
Transfer = Callable[[str, int, int | None], None]

_BLOCK = 1 << 18
_TIMEOUT_SECONDS = 30
# Seconds to wait before the second, third and fourth attempt.
WAITS_SECONDS = (1.0, 4.0, 15.0)
# A list of checksums longer than this is something else (a login page, an endless stream).
_LARGEST_LIST = 4 << 20


def fetch_demo(
    source: str, raw: Path, *, base_url: str | None = None, progress: Transfer | None = None
) -> list[Path]:
    """Fetch the openly licensed files of a source into a folder that `ingest` can then read.

    Files that are there already and have the right checksum are not fetched again.

    Args:
        source: Name of the source.
        raw: Folder to fill; made when needed.
        base_url: A mirror with the publisher's folder; every file is asked for below it.
        progress: Told after every block: file, bytes so far, bytes in all or None.

    Returns:
        The files, those that were there already among them.

    Raises:
        ConfigError: The source has nothing to fetch without an account; the message says what to sign and where.
        InputError: No connection, no room, a login asked for, or a file that is not what its publisher says.
    """
    demo = read_demo(source)
    base = _base(base_url or demo.url)
    if raw.exists() and not raw.is_dir():
        raise InputError(f"{raw} is a file; give the folder to fetch {demo.title} into")
    fetcher = _Fetcher(demo, raw, base, base_url is not None, progress or (lambda _name, _done, _size: None))
    files = fetcher.plan()
    wanted = [file for file in files if not fetcher.is_there(file)]
    if wanted:
        _refuse_without_room(raw, demo)
    for file in wanted:
        fetcher.fetch(file)
    return [path for file in files for path in fetcher.made(file)]


@dataclasses.dataclass
class _Fetcher:
    """One demo on its way into one folder."""

    demo: Demo
    raw: Path
    base: str
    mirrored: bool
    progress: Transfer
    unpacked: dict[str, list[Path]] = dataclasses.field(default_factory=dict)

    def plan(self) -> list[DemoFile]:
        """Every file to have, with the checksum that it must have."""
        files = {file.name: file for file in self.demo.files}
        if self.demo.checksums_file is None:
            return list(files.values())
        where = self.base + self.demo.checksums_file
        published = parse_checksums(self._text(where), where)
        for name, sha256 in published.items():
            known = files.get(name)
            if known is not None and known.sha256 not in (None, sha256):
                raise InputError(
                    f"{where}: {name} is said to have the checksum {sha256}, but the version that this source "
                    f"is for has {known.sha256}; the server holds another version, so nothing was fetched"
                )
            if known is not None:
                files[name] = dataclasses.replace(known, sha256=sha256)
            elif any(fnmatch.fnmatchcase(name, pattern) for pattern in self.demo.include):
                files[name] = DemoFile(name, sha256=sha256)
        if not files:
            raise InputError(f"{where} lists none of {', '.join(self.demo.include)}; check --fetch-url")
        return list(files.values())

    def is_there(self, file: DemoFile) -> bool:
        """Whether the file lies in the folder already.

        Raises:
            InputError: A file of that name is there, but it is another one.
        """
        if file.unpack:
            # The archive goes last of all, so where it still lies the unpacking was interrupted.
            whole = not part_of(self.raw, file.name).exists()
            return whole and bool(file.gives) and all((self.raw / name).exists() for name in file.gives)
        path = self.raw / file.name
        if not path.exists():
            return False
        if file.sha256 is None or _sha256(path) == file.sha256:
            return True
        raise InputError(
            f"{path} is there already but is not the file of {self.demo.title}: SHA-256 {_sha256(path)}, "
            f"published {file.sha256}. Nothing was changed; move it away, or fetch into another folder"
        )

    def fetch(self, file: DemoFile) -> None:
        """Fetch one file, check it, and put it in its place or unpack it."""
        path = self.raw / file.name
        part = part_of(self.raw, file.name)
        url = self._url(file)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._retry(url, lambda: self._checked(file, url, part))
            if file.unpack:
                self.unpacked[file.name] = unpack(part, self.raw, strip=file.strip, label=file.name)
                part.unlink()
            else:
                part.rename(path)
        except OSError as error:
            raise InputError(
                f"{error.filename or path}: cannot write ({error.strerror or error}); what was fetched so far "
                "stays, so make room or give another folder, and run again"
            ) from None

    def made(self, file: DemoFile) -> list[Path]:
        """The files that stand in the folder because of `file`."""
        if file.unpack:
            return self.unpacked.get(file.name) or [self.raw / name for name in file.gives]
        return [self.raw / file.name]

    def _url(self, file: DemoFile) -> str:
        if file.url is not None and not self.mirrored:
            return file.url
        return self.base + urllib.parse.quote(file.name, safe="/+")

    def _checked(self, file: DemoFile, url: str, part: Path) -> None:
        if file.sha256 is None:  # nobody could tell two halves that do not belong together
            part.unlink(missing_ok=True)
        started = part.stat().st_size if part.exists() else 0
        self._body(file, url, part)
        if file.sha256 is None or _sha256(part) == file.sha256:
            return
        got = _sha256(part)
        part.unlink()
        if started:  # what an earlier call left may have been of another version
            raise _AgainError(f"the part that was there did not belong to it (SHA-256 {got})")
        raise InputError(
            f"{url}: SHA-256 {got}, but its publisher says {file.sha256}; the file was not kept and nothing "
            "else was changed. Try again, or compare with the publisher's page: a proxy may have altered it"
        )

    def _body(self, file: DemoFile, url: str, part: Path) -> None:
        done = part.stat().st_size if part.exists() else 0
        try:
            response = _open(url, done)
        except urllib.error.HTTPError as error:
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
                raise
            return  # all of it is there; the checksum decides
        with response:
            if response.status != http.client.PARTIAL_CONTENT:
                done = 0
            length = response.headers.get("Content-Length", "")
            size = done + int(length) if length.isdigit() else None
            self._refuse_too_large(file, size, done)
            with part.open("ab" if done else "wb") as out:
                self.progress(file.name, done, size)
                while block := response.read(_BLOCK):
                    out.write(block)
                    done += len(block)
                    self.progress(file.name, done, size)
            if size is not None and done < size:
                raise _AgainError(f"the connection ended after {done:,} of {size:,} bytes")

    def _refuse_too_large(self, file: DemoFile, size: int | None, done: int) -> None:
        if size is not None and size - done > free_bytes(self.raw):
            raise InputError(
                f"{file.name} needs {(size - done) / 1e6:,.0f} MB, but {free_bytes(self.raw) / 1e6:,.0f} MB are "
                f"free on the disk of {self.raw}; make room, or give a folder on another disk"
            )

    def _text(self, url: str) -> str:
        found: list[bytes] = []

        def read() -> None:
            with _open(url) as response:
                found.append(response.read(_LARGEST_LIST))

        self._retry(url, read)
        return found[-1].decode("utf-8", errors="replace")

    def _retry(self, url: str, attempt: Callable[[], None]) -> None:
        for wait in (*WAITS_SECONDS, None):
            try:
                return attempt()
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code != http.client.TOO_MANY_REQUESTS:
                    self._refuse(url, error.code)
                problem = f"the server answered {error.code} {error.reason}"
            except urllib.error.URLError as error:
                problem = f"no connection ({error.reason})"
            except (http.client.HTTPException, TimeoutError, ConnectionError, _AgainError) as error:
                problem = str(error) or type(error).__name__
            except ssl.SSLError as error:
                problem = f"the connection is not safe ({error.reason})"
            if wait is not None:
                time.sleep(wait)
        raise InputError(
            f"{url}: {problem}, {len(WAITS_SECONDS) + 1} times. What was fetched so far stays: run the same "
            "command again to go on, or name a mirror with --fetch-url"
        )

    def _refuse(self, url: str, status: int) -> NoReturn:
        if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            raise InputError(
                f"{url}: the server wants a login ({status}), which caretrace never asks for. "
                f"{self.demo.credentials or f'Fetch {self.demo.title} in a browser.'}"
            )
        raise InputError(
            f"{url}: the server answered {status}; the publisher may have moved it. Look at {self.demo.url}, "
            "or name a mirror with --fetch-url"
        )


class _AgainError(Exception):
    """Worth another attempt."""


def _open(url: str, start: int = 0) -> http.client.HTTPResponse:
    # No compression on the way: it would change the bytes that the checksum is of.
    headers = {"User-Agent": f"caretrace/{caretrace.__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    _refuse_other_schemes(url)
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - see the line above
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # noqa: S310
    return response


def _base(url: str) -> str:
    """The address of a folder, with a slash at its end."""
    _refuse_other_schemes(url)
    return url if url.endswith("/") else f"{url}/"


def _refuse_other_schemes(url: str) -> None:
    """Only http and https: urllib would read `file:` too."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"--fetch-url {url!r} is not an address such as https://server/folder/")


def _refuse_without_room(raw: Path, demo: Demo) -> None:
    free = free_bytes(raw.absolute()) / 1e6
    if free < demo.megabytes:
        raise InputError(
            f"{demo.title} needs {demo.megabytes:,.0f} MB, but {free:,.0f} MB are free on the disk of {raw}; "
            "make room, or give a folder on another disk"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
