"""From a template and its values to one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from caretrace import __version__
from caretrace.files import whole_file
from caretrace.report import wording


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template of `templates/`; every value is escaped unless it is markup made in `svg`.

    Args:
        template: File name within `templates/`.
        values: Names the template uses; a missing one is an error.
    """
    environment = Environment(
        loader=PackageLoader("caretrace.report", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loader = environment.loader
    assert loader is not None
    style = Markup(loader.get_source(environment, "style.css")[0])  # noqa: S704 - our own file
    return environment.get_template(template).render(
        words=wording, research_use=wording.RESEARCH_USE, version=__version__, style=style, **values
    )


def write(html: str, out: Path) -> Path:
    """Write the page, whole or not at all; returns `out`."""
    with whole_file(out) as partial:
        partial.write_text(html, encoding="utf-8")
    return out
