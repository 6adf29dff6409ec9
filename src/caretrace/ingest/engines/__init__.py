"""What can run a mapping: one row per engine, loaded only when it is asked for."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caretrace.errors import ConfigError, unknown_name
from caretrace.ingest.engines.base import Engine, Malformed, RawFile
from caretrace.ingest.engines.resources import naming_what_lacks

ENGINES = {
    "duckdb": "caretrace.ingest.engines.duckdb:DuckDB",
    "spark": "caretrace.ingest.engines.spark:Spark",
}


@contextmanager
def running(
    engine: str, work: Path, *, memory_limit: str = "4GB", threads: int | None = None
) -> Iterator[Engine]:
    """An engine that is closed when the block ends.

    Args:
        engine: One of `ENGINES`.
        work: Folder for what it stores and spills; removed by the caller.
        memory_limit: What it may use before it spills to disk, for example `4GB`.
        threads: Threads to use; None takes the machine's.

    Raises:
        ConfigError: Unknown engine or unreadable memory limit.
        ResourceError: Memory or disk ran out in the block.
    """
    if engine not in ENGINES:
        raise ConfigError(unknown_name("engine", engine, ENGINES))
    module, name = ENGINES[engine].split(":")
    with warnings.catch_warnings():
        # ibis 12.0 calls what DuckDB 2.0 renamed; not ours to mend, and harmless.
        warnings.filterwarnings("ignore", r"fetch_arrow_table\(\) is deprecated", DeprecationWarning)
        started: Engine = getattr(importlib.import_module(module), name)(work, memory_limit, threads)
        try:
            with naming_what_lacks(work, memory_limit):
                yield started
        finally:
            started.close()


__all__ = ["ENGINES", "Engine", "Malformed", "RawFile", "running"]
