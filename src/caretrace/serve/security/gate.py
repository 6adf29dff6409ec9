"""Whether a request comes from somebody: bearer tokens, sessions, or nobody but this machine."""

from __future__ import annotations

from caretrace.errors import ConfigError
from caretrace.serve.clock import Clock
from caretrace.serve.security.audit import Audit
from caretrace.serve.security.caller import Caller
from caretrace.serve.security.roles import ADMIN
from caretrace.serve.security.sessions import COOKIE, Sessions
from caretrace.serve.security.tokens import LOOK_SECONDS, Token, Tokens, digest
from caretrace.serve.settings import ServeSettings

LOCAL = Caller("local", ADMIN)
_BEARER = "bearer "


class Gate:
    """Who may come in.

    Args:
        settings: Address, tokens and state of the service.

    Raises:
        ConfigError: Others could reach the service, and no token is valid.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.clock = Clock()
        self.tokens = Tokens(settings.tokens, LOOK_SECONDS)
        self.sessions = Sessions(settings.state / "sessions")
        self.audit = Audit(settings.audit)
        self._loopback = settings.loopback
        valid = [token for token in self.tokens.all() if token.why_not(self.clock()) is None]
        if not self._loopback and not valid:
            raise ConfigError(
                f"--host {settings.host} lets others reach the service, and no token is valid, so anybody could read "
                f"it; make one with `caretrace token add NAME --role clinician --file {settings.tokens}`, or listen "
                "on 127.0.0.1"
            )

    @property
    def open(self) -> bool:
        """Whether whoever sits at this machine may do everything: a loopback address, and no token was ever made."""
        return self._loopback and not self.tokens.all()

    def identify(self, authorization: str | None, cookie: str | None) -> Caller | None:
        """Who asks, or None.

        Args:
            authorization: The header `Authorization`.
            cookie: Value of the cookie `sessions.COOKIE`.
        """
        token = self._token(authorization, cookie)
        if token is None:
            return LOCAL if authorization is None and cookie is None and self.open else None
        return of_token(token)

    def valid(self, secret: str) -> Token | None:
        """The valid token behind a secret, or None."""
        token = self.tokens.find(digest(secret))
        return token if token is not None and token.why_not(self.clock()) is None else None

    def _token(self, authorization: str | None, cookie: str | None) -> Token | None:
        if authorization is not None:
            if not authorization.lower().startswith(_BEARER):
                return None
            return self.valid(authorization[len(_BEARER) :].strip())
        if cookie is None:
            return None
        session = self.sessions.find(cookie, self.clock())
        token = None if session is None else self.tokens.find(session.token)
        return token if token is not None and token.why_not(self.clock()) is None else None


def of_token(token: Token) -> Caller:
    """The caller that a token stands for."""
    return Caller(token.name, token.role, None if token.wards is None else frozenset(token.wards))


def cookie_of(header: str | None) -> str | None:
    """The session in a `Cookie` header, or None."""
    for part in (header or "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return None
