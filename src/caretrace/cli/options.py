"""Options and arguments that several verbs take, so that they mean the same everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[Path, typer.Argument(help="Run folder that `caretrace train` wrote.")]


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports that need an extra of ours: says which, where one is missing.

    Raises:
        ConfigError: A package of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "caretrace").split(".")[0]
        if missing == "caretrace":
            raise
        from caretrace.errors import ConfigError

        raise ConfigError(
            f"this needs {missing}, which is not installed: pip install 'caretrace[{name}]'"
        ) from None
