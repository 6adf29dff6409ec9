"""Every test of the store runs on SQLite and on PostgreSQL."""

import itertools

import pytest
from sqlalchemy import create_engine, text

from .. import postgres

_NAMES = itertools.count()


@pytest.fixture(scope="session")
def postgres_server():
    """Address of a server of our own; skips with the reason where there can be none."""
    why = postgres.missing()
    if why:
        pytest.skip(why)
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request, tmp_path):
    """Address of an empty store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ward.db'}"
    url = request.getfixturevalue("postgres_server")
    name = f"ward{next(_NAMES)}"
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.replace("/postgres", f"/{name}", 1) if url.endswith("/postgres") else url
