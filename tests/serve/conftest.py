"""A service for tests: no server, the whole application, tokens of every role."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text

from caretrace.serve.app import create_app
from caretrace.serve.security.tokens import Tokens
from caretrace.serve.settings import Limits, ServeSettings

from . import postgres

_NAMES = itertools.count()


@dataclasses.dataclass
class Service:
    """A service that runs in this process.

    Args:
        client: Speaks to it, as a program on this machine would.
        state: Its folder.
        tokens: Name → token, of whoever may come in.
    """

    client: TestClient
    state: Path
    tokens: dict[str, str]

    def ask(self, method: str, path: str, who: str | None = None, **more: Any) -> Any:
        """A request, with somebody's token."""
        headers = dict(more.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {self.tokens[who]}"
        return self.client.request(method, path, headers=headers, **more)

    def audit(self) -> list[dict[str, Any]]:
        """What was written down."""
        return list(self.client.app.state.audit.entries())


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start a service: `serving(runs=(…), roles=("viewer", …), wards={"viewer": ["A"]}, limits=Limits(…))`."""
    with contextlib.ExitStack() as stack:

        def start(
            runs: tuple[Path, ...] = (),
            roles: tuple[str, ...] = (),
            wards: dict[str, list[str]] | None = None,
            limits: Limits | None = None,
            hub: Any = None,
        ) -> Service:
            state = tmp_path / f"state-{len(list(tmp_path.iterdir()))}"
            tokens = {
                role: Tokens(state / "tokens.json").add(role, role, wards=(wards or {}).get(role))
                for role in roles
            }
            app = create_app(ServeSettings(runs, state, limits=limits or Limits()))
            if hub is not None:
                app.state.hub = hub
            client = stack.enter_context(TestClient(app, raise_server_exceptions=False))
            return Service(client, state, tokens)

        yield start


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Address of a PostgreSQL of our own; skips with the reason where there can be none."""
    why = postgres.missing()
    if why:
        pytest.skip(why)
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session")
def new_database(postgres_server: str) -> Callable[[], str]:
    """Makes an empty database there, and gives its address."""

    def make() -> str:
        name = f"ward{next(_NAMES)}"
        engine = create_engine(
            postgres_server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return f"{postgres_server.removesuffix('/postgres')}/{name}"

    return make
