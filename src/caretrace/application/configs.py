"""Named configurations: settings that belong together, in a YAML file of the application."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from caretrace.application import Application
from caretrace.errors import ConfigError, unknown_name


@runtime_checkable
class NamesConfigurations(Protocol):
    """An application that ships configurations."""

    @property
    def configs(self) -> Path:
        """Folder of YAML files."""
        ...


def find_config(application: Application, given: Path | None) -> Path | None:
    """The file with settings: one of the user's, or a configuration of the application by its name.

    Args:
        application: Whose configurations.
        given: What `--config` was given; a file that exists is taken as it is.

    Raises:
        ConfigError: Neither a file nor a name.
    """
    if given is None or given.exists() or not isinstance(application, NamesConfigurations):
        return given
    names = names_of(application)
    if str(given) in names:
        return application.configs / f"{given}.yaml"
    if given.suffix or len(given.parts) > 1:
        return given  # it looks like a file, and reading it says that it is missing
    raise ConfigError(
        f"--config {given}: no such file, and " + unknown_name("named configuration", str(given), names)
    )


def names_of(application: Application) -> list[str]:
    """Names of the configurations that an application ships."""
    if not isinstance(application, NamesConfigurations):
        return []
    return sorted(path.stem for path in application.configs.glob("*.yaml"))
