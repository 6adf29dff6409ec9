"""The runs that are served, opened and checked once when the service starts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caretrace.application import Application
from caretrace.application.run import Run
from caretrace.application.verbs import verbs_of
from caretrace.apps import load_application
from caretrace.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclasses.dataclass(frozen=True)
class LoadedBundle:
    """One run that is served.

    Args:
        id: Name of its folder, unique among those served.
        app: Its application.
        run: Its folder.
    """

    id: str
    app: Application
    run: Run

    def describe(self) -> dict[str, Any]:
        """What `GET /bundles` says of it."""
        stored = self.run.read()
        return {
            "id": self.id,
            "app": self.app.name,
            "title": self.app.title,
            "summary": self.app.summary,
            "trained": stored.get("created_at"),
            "verbs": list(verbs_of(self.app)),
        }


def open_bundles(runs: Sequence[Path]) -> dict[str, LoadedBundle]:
    """Open run folders.

    Raises:
        BundleError: One of them is no run.
        ConfigError: Two have the same name, or a name that cannot stand in an address.
    """
    found: dict[str, LoadedBundle] = {}
    for path in runs:
        name = path.resolve().name
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{path}: the name of a run becomes part of an address; use letters, digits, . _ -"
            )
        if name in found:
            raise ConfigError(
                f"{path} and {found[name].run.path} are both called {name!r}; rename one of the folders"
            )
        run = Run(path)
        found[name] = LoadedBundle(name, load_application(run.read()["application"]), run)
    return found


def of_application(bundles: dict[str, LoadedBundle], name: str) -> LoadedBundle | None:
    """The first bundle of an application, or None."""
    return next((bundle for bundle in bundles.values() if bundle.app.name == name), None)
