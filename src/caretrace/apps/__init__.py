"""Applications by name. To add one: one folder here, and one row in `APPS`."""

from __future__ import annotations

import importlib

from caretrace.application import Application
from caretrace.application.verbs import offers
from caretrace.errors import ConfigError, unknown_name

# Name → module that offers `APPLICATION`; imported only when asked for.
APPS = {
    "mortality": "caretrace.apps.mortality.application",
    "safety": "caretrace.apps.safety.application",
    "synth": "caretrace.apps.synth.application",
    "vitals": "caretrace.apps.vitals.application",
}


def load_application(name: str, verb: str | None = None) -> Application:
    """The application called `name`.

    Args:
        name: A key of `APPS`.
        verb: What will be asked of it; None for nothing in particular.

    Raises:
        ConfigError: No application has this name, or this one lacks the verb.
    """
    if name not in APPS:
        raise ConfigError(unknown_name("application", name, APPS))
    application: Application = importlib.import_module(APPS[name]).APPLICATION
    if verb is not None and not offers(application, verb):
        having = [other for other in APPS if offers(load_application(other), verb)]
        who = f"those that can: {', '.join(having)}" if having else "no application can"
        raise ConfigError(f"{name} cannot {verb}; {who}")
    return application
