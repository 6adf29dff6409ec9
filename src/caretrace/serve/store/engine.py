"""Opening a store: SQLite in WAL with full sync, or PostgreSQL; one service owns it at a time, its workers join it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from caretrace.errors import ConfigError, OutputExistsError, ResourceError
from caretrace.serve.store.migrations import migrate

_BUSY_MS = 10_000
_OWNER = 0x74726163  # PostgreSQL's advisory lock of the service that writes
_PATIENCE = 5.0  # seconds for a killed service's connection to be noticed


class Database:
    """One engine to write with, one to read with, and the lock that says the store is ours.

    Args:
        url: SQLAlchemy address.
        owner: Whether to own it; else another process of the same service does, which keeps the schema, too.

    Raises:
        ConfigError: The address cannot be used, or its driver is missing.
        OutputExistsError: Another service is using the store.
        ResourceError: It cannot be opened or written.
    """

    def __init__(self, url: str, *, owner: bool = True) -> None:
        self.url = _checked(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._owns = owner
        self._held: int | None = None
        if self.sqlite and owner:
            self._held = _lock_file(Path(str(self.url.database)))
        try:
            self.reading = _engine(self.url, "BEGIN")
            self.writing = _engine(self.url, "BEGIN IMMEDIATE")
            self._writer = self._connect()
            if owner:
                with self.writing.begin() as connection:
                    migrate(connection)
        except SQLAlchemyError as error:
            self.close()
            raise ResourceError(f"store {self.shown}: {_first_line(error)}; check the address") from None
        except BaseException:
            self.close()
            raise

    @property
    def shown(self) -> str:
        """The address without its password."""
        return self.url.render_as_string(hide_password=True)

    def write_connection(self) -> Connection:
        """The connection that all is written through; the owner's holds the lock.

        Raises:
            OutputExistsError: It was lost, and another service has taken the store since.
            SQLAlchemyError: The database cannot be reached.
        """
        if self._writer.invalidated or self._writer.closed:
            self._writer = self._connect()
        return self._writer

    def close(self) -> None:
        """Give everything back."""
        with contextlib.suppress(AttributeError, SQLAlchemyError):
            self._writer.close()
        for name in ("reading", "writing"):
            engine: Engine | None = getattr(self, name, None)
            if engine is not None:
                engine.dispose()
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _connect(self) -> Connection:
        """A connection of our own. PostgreSQL frees its lock when the connection ends, a killed one's too."""
        connection = self.writing.connect()
        if self.sqlite or not self._owns:
            return connection
        until = time.monotonic() + _PATIENCE
        while True:
            ours = connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _OWNER})
            connection.commit()
            if ours:
                return connection
            if time.monotonic() > until:
                connection.close()
                raise _taken(self.shown)
            time.sleep(0.05)


def _checked(url: str) -> URL:
    try:
        made = make_url(url)
    except ArgumentError:
        raise ConfigError(
            f"--store {url!r}: not an address; give sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from None
    if made.drivername == "postgresql":
        made = made.set(drivername="postgresql+psycopg")
    if made.get_backend_name() not in ("sqlite", "postgresql") or not made.database:
        raise ConfigError(
            f"--store {made.render_as_string()}: give sqlite:///FILE or postgresql://USER@HOST/NAME"
        )
    if made.get_backend_name() == "sqlite" and made.database == ":memory:":
        raise ConfigError("--store sqlite in memory would lose what was acknowledged; name a file")
    return made


def _engine(url: URL, begin: str) -> Engine:
    try:
        if url.get_backend_name() != "sqlite":
            return create_engine(url, pool_pre_ping=True, connect_args={"application_name": "caretrace"})
        engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": _BUSY_MS / 1000})
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--store {url.get_backend_name()}: {error.name} is not installed; pip install 'caretrace[postgresql]'"
        ) from None
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin) and None)
    return engine


def _set_up(connection: Any, _record: Any) -> None:
    """Full sync: a commit is on the disk before it is acknowledged."""
    connection.isolation_level = None  # transactions are begun by us, savepoints need that
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_MS}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _lock_file(path: Path) -> int:
    """Hold `<path>.lock`; the system lets go of it when the process ends, however it ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ResourceError(f"store {path}: {error.strerror}; choose a folder that can be written") from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise ResourceError(f"store {path}: cannot be locked ({error.strerror})") from None
        raise _taken(str(path)) from None
    return held


def _taken(what: str) -> OutputExistsError:
    return OutputExistsError(
        f"store {what} is in use by another service; stop that one, or name another store with --store"
    )


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0]
