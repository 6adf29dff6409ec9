"""What the service keeps: on SQLite, in one file, or on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caretrace.serve.settings import ServeSettings
    from caretrace.serve.store.store import Store

__all__ = ["join_store", "open_store"]


def open_store(settings: ServeSettings) -> Store:
    """Open the store that the settings name; its schema is brought up to date.

    Raises:
        CaretraceError: It cannot be used; the message says why.
    """
    from caretrace.serve.store.store import Store

    return Store(settings.store_url, shared=settings.workers > 1)


def join_store(settings: ServeSettings) -> Store:
    """Open the store that the leader of this service owns, to append to its log.

    Raises:
        CaretraceError: It cannot be used; the message says why.
    """
    from caretrace.serve.store.store import Store

    return Store(settings.store_url, shared=True, owner=False)
