"""API tokens: only their hashes are kept, each has a role, wards and an end, and can be revoked while we run.

A token is 256 random bits, so one round of SHA-256 hides it; nobody can try them all. The file is read again whenever
it changes, so `caretrace token revoke` ends a token of a running service within `LOOK_SECONDS`.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caretrace.errors import ConfigError, unknown_name
from caretrace.files import whole_file
from caretrace.serve.clock import iso
from caretrace.serve.security.roles import ROLES

PREFIX = "caretrace_"
MOST_DAYS = 3650
LOOK_SECONDS = 0.05
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")


@dataclasses.dataclass(frozen=True)
class Token:
    """What the file knows of a token.

    Args:
        name: Who holds it; stands in the audit.
        digest: SHA-256 of the token, hexadecimal.
        role: One of `roles.ROLES`.
        wards: Wards it may see; None for all.
        created: Epoch seconds.
        expires: Epoch seconds.
        revoked: Epoch seconds, or None.
    """

    name: str
    digest: str
    role: str
    wards: tuple[str, ...] | None
    created: float
    expires: float
    revoked: float | None = None

    def why_not(self, now: float) -> str | None:
        """Why it is not valid at a time, or None."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if now >= self.expires else None

    def describe(self) -> dict[str, Any]:
        """What `caretrace token list` shows; not the digest."""
        return {
            "name": self.name,
            "role": self.role,
            "wards": None if self.wards is None else list(self.wards),
            "created": iso(self.created, "seconds"),
            "expires": iso(self.expires, "seconds"),
            "revoked": None if self.revoked is None else iso(self.revoked, "seconds"),
        }


class Tokens:
    """The tokens of a file.

    Args:
        path: JSON file, made when the first token is added.
        look_every: Seconds for which the file is not looked at again; under load each look costs more than a request.
    """

    def __init__(self, path: Path, look_every: float = 0.0) -> None:
        self.path = path
        self._look_every, self._looked = look_every, -math.inf
        self._seen: tuple[int, int, int] | None = None
        self._by_digest: dict[str, Token] = {}

    def add(self, name: str, role: str, *, wards: Sequence[str] | None = None, days: float = 90.0) -> str:
        """Make a token; it is shown this once.

        Args:
            name: Who will hold it.
            role: One of `roles.ROLES`.
            wards: Wards it may see; None for all.
            days: How long it is valid.

        Raises:
            ConfigError: The name is taken or odd, there is no such role, or it would never or always be expired.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"token name {name!r}: up to 64 letters, digits, spaces and . _ @ -")
        if role not in ROLES:
            raise ConfigError(unknown_name("role", role, ROLES))
        if not 0 < days <= MOST_DAYS:
            raise ConfigError(f"--days {days}: more than 0 and at most {MOST_DAYS}; a token must end one day")
        secret, now = PREFIX + secrets.token_urlsafe(32), time.time()
        with self._changing() as tokens:
            if any(token.name == name and token.why_not(now) is None for token in tokens):
                raise ConfigError(
                    f"there is a valid token called {name!r}; revoke it first, or choose a name"
                )
            kept = None if not wards else tuple(sorted(set(wards)))
            tokens.append(Token(name, digest(secret), role, kept, now, now + days * 86_400))
        return secret

    def revoke(self, name: str) -> int:
        """End the tokens of a name at once; returns how many.

        Raises:
            ConfigError: None has this name.
        """
        with self._changing() as tokens:
            if not any(token.name == name for token in tokens):
                raise ConfigError(unknown_name("token", name, {token.name for token in tokens}))
            ended = 0
            for number, token in enumerate(tokens):
                if token.name == name and token.revoked is None:
                    tokens[number] = dataclasses.replace(token, revoked=time.time())
                    ended += 1
        return ended

    def all(self) -> list[Token]:
        """Every token ever made, oldest first."""
        self._refresh()
        return list(self._by_digest.values())

    def find(self, digest_of_token: str) -> Token | None:
        """The token with a digest, valid or not."""
        self._refresh()
        return self._by_digest.get(digest_of_token)

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._looked < self._look_every:
            return
        self._looked = now
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._seen, self._by_digest = None, {}
            return
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            self._by_digest = {token.digest: token for token in self._read()}
            self._seen = seen

    def _read(self) -> list[Token]:
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))["tokens"]
            return [
                Token(**{**value, "wards": None if value["wards"] is None else tuple(value["wards"])})
                for value in values
            ]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.path} is damaged ({error}); restore it, or remove it and make new tokens with `caretrace token`"
            ) from None

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """The tokens, to be changed by one process at a time and written whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tokens = self._read()
            yield tokens
            with whole_file(self.path) as partial:
                descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump({"tokens": [dataclasses.asdict(token) for token in tokens]}, file, indent=2)
                    file.flush()
                    os.fsync(file.fileno())


def digest(secret: str) -> str:
    """SHA-256 of a token, hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
