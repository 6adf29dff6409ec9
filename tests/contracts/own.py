"""How applications that train in their own way are tried: add a row to `CASES` with an application of yours."""

import dataclasses
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Case:
    """A dataset that suits an application, and settings with which it trains in seconds."""

    write: Callable[[Path], Path]
    settings: tuple[str, ...]


CASES: dict[str, Case] = {}
