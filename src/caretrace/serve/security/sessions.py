"""Sessions of browsers: a cookie that stands for a token until it is ended, one small file each.

Files, so that several processes agree, and so that logging out ends a session for all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import secrets
import time
from pathlib import Path

from caretrace.serve.security.tokens import Token, digest

COOKIE = "caretrace_session"
HOURS = 12.0
MOST = 10_000
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclasses.dataclass(frozen=True)
class Session:
    """One session.

    Args:
        token: Digest of the token that began it.
        expires: Epoch seconds.
    """

    token: str
    expires: float


class Sessions:
    """The sessions in a folder.

    Args:
        folder: Made when the first session begins.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, token: Token, now: float) -> tuple[str, float]:
        """Start a session.

        Returns:
            What the cookie says, and when it ends, epoch seconds: never after the token.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep(now)
        secret, expires = secrets.token_urlsafe(32), min(token.expires, now + HOURS * 3600)
        handle = os.open(self._folder / digest(secret), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"token": token.digest, "expires": expires}, file)
        return secret, expires

    def find(self, secret: str, now: float) -> Session | None:
        """The session of a cookie, or None when it is unknown, has ended or has expired."""
        if not _SECRET.fullmatch(secret):
            return None
        try:
            value = json.loads((self._folder / digest(secret)).read_text(encoding="utf-8"))
            session = Session(str(value["token"]), float(value["expires"]))
        except (OSError, ValueError, KeyError):
            return None
        return session if now < session.expires else None

    def end(self, secret: str) -> None:
        """End a session; the cookie is worth nothing from now on."""
        if _SECRET.fullmatch(secret):
            (self._folder / digest(secret)).unlink(missing_ok=True)

    def _sweep(self, now: float) -> None:
        """Remove what has expired; of too many, the oldest."""
        files = sorted(self._folder.iterdir(), key=lambda file: file.stat().st_mtime)
        limit = min(now, time.time()) - HOURS * 3600
        for number, file in enumerate(files):
            if file.stat().st_mtime < limit or number < len(files) - MOST:
                with contextlib.suppress(OSError):
                    file.unlink()
