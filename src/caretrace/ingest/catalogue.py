"""The table of sources: one folder each in `sources/`, found by its `events.yaml`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

from caretrace.errors import ConfigError, unknown_name
from caretrace.ingest.mapping import SourceMapping, folder_name
from caretrace.ingest.mapping_file import read_mapping

SOURCES = Path(__file__).parent / "sources"


@dataclasses.dataclass(frozen=True)
class Source:
    """One line of `caretrace sources`.

    Args:
        name: What `caretrace ingest` takes.
        title: Full name.
        summary: What it holds.
        url: Where to get it.
        licence: Licence, and whether credentials are needed.
        options: Name → help of what `--option` can set.
        has_demo: `--fetch-demo` can download an openly licensed demo.
        folder: Mapping, predicates, README and sample.
    """

    name: str
    title: str
    summary: str
    url: str
    licence: str
    options: Mapping[str, str]
    has_demo: bool
    folder: Path


def sources() -> list[Source]:
    """Every source, by name."""
    mappings = [read_mapping(path) for path in sorted(SOURCES.glob("*/events.yaml"))]
    return [
        Source(
            m.source,
            m.title,
            m.summary,
            m.url,
            m.licence,
            m.options,
            (m.folder / "demo.yaml").exists(),
            m.folder,
        )
        for m in mappings
    ]


@functools.cache
def source_mapping(name: str) -> SourceMapping:
    """The mapping of one source.

    Raises:
        ConfigError: No such source.
    """
    path = SOURCES / folder_name(name) / "events.yaml"
    valid = [source.parent.name.replace("_", "-") for source in SOURCES.glob("*/events.yaml")]
    if name not in valid or not path.exists():
        raise ConfigError(unknown_name("source", name, valid))
    return read_mapping(path)


def sources_that_fit(raw: Path) -> list[str]:
    """Sources whose required tables all lie below `raw`, for a helpful message."""
    from caretrace.ingest.reading import find_files

    fitting = []
    for source in sources():
        mapping = source_mapping(source.name)
        required = [table for table in mapping.tables.values() if not table.optional]
        if required and all(any(find_files(raw, stem) for stem in table.files) for table in required):
            fitting.append(source.name)
    return fitting
