"""Applications by name. To add one: one folder here, and one row in `APPS`."""

from __future__ import annotations

import importlib

from caretrace.application import Application
from caretrace.errors import ConfigError, unknown_name

# Name → module that offers `APPLICATION`; imported only when asked for.
APPS = {"mortality": "caretrace.apps.mortality.task"}


def load_application(name: str) -> Application:
    """The application called `name`.

    Raises:
        ConfigError: No application has this name.
    """
    if name not in APPS:
        raise ConfigError(unknown_name("application", name, APPS))
    application: Application = importlib.import_module(APPS[name]).APPLICATION
    return application
