"""What an address and a header may be, and where a request may come from."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes, urlsplit

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NOT_IN_A_PATH = re.compile(rb"(?:^|/)\.\.?(?:/|$)|//|[\\#?\x00-\x1f\x7f]")
_MOST_DECODING = 4
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1", "testserver"})

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


def odd_path(raw: bytes) -> bool:
    """Whether a path climbs (`..`), is not normal (`//`) or hides something (`#`, `?`, backslash, control characters).

    Args:
        raw: As it was sent, without the query; percent signs are decoded until nothing changes.
    """
    for _ in range(_MOST_DECODING):
        if _NOT_IN_A_PATH.search(raw):
            return True
        decoded = unquote_to_bytes(raw)
        if decoded == raw:
            return False
        raw = decoded
    return True  # wrapped more often than anybody honest does


def odd_request_id(value: bytes | None) -> bool:
    """Whether a request id could forge a line of a log."""
    return value is not None and REQUEST_ID.fullmatch(value) is None


def cross_site(method: str, headers: dict[bytes, bytes], scheme: str) -> bool:
    """Whether a browser sends a change from another site's page.

    Args:
        method: Of the request.
        headers: Names in lower case.
        scheme: `http` or `https`.
    """
    if method in _SAFE:
        return False
    fetch = headers.get(b"sec-fetch-site")
    if fetch is not None and fetch not in (b"same-origin", b"none"):
        return True
    origin = headers.get(b"origin")
    if origin is None:
        return False
    try:
        parts = urlsplit(origin.decode("ascii"))
    except ValueError:
        return True
    host = headers.get(b"host", b"").decode("latin-1").lower()
    # A proxy may speak TLS for us, never the other way round.
    return parts.netloc.lower() != host or (scheme == "https" and parts.scheme != "https")


def foreign_host(headers: dict[bytes, bytes]) -> bool:
    """Whether a request names another host than this machine, or came through a proxy.

    Asked only where everybody at this machine may do everything: a page of another site must not reach us by a
    name that it lets point here (DNS rebinding), nor the world through somebody's proxy.
    """
    if any(name in headers for name in (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via")):
        return True
    try:
        name = urlsplit("//" + headers.get(b"host", b"").decode("ascii")).hostname
    except ValueError:
        return True
    return name not in _LOCAL_NAMES
