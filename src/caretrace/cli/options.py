"""Options and arguments that several verbs take, so that they mean the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[Path, typer.Argument(help="Run folder that `caretrace train` wrote.")]
