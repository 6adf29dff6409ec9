"""What the service keeps: on SQLite, in one file, or on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caretrace.serve.settings import ServeSettings
    from caretrace.serve.store.store import Store

__all__ = ["open_store"]


def open_store(settings: ServeSettings) -> Store:
    """Open the store that the settings name; its schema is brought up to date.

    Raises:
        CaretraceError: It cannot be used; the message says why.
    """
    from caretrace.serve.store.store import Store

    return Store(settings.store_url)
