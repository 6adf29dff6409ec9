"""How a run was made, in rows: settings, versions, times."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from caretrace.report import wording
from caretrace.report.record import Json, mapping
from caretrace.report.wording import readable


def making(run: Json) -> list[tuple[str, str]]:
    """Rows of name and value; what `run.json` does not say is left out."""
    seconds = run.get("seconds")
    times = seconds if isinstance(seconds, Mapping) else {"training": seconds} if seconds is not None else {}
    rows = [
        ("Application", run.get("application")),
        ("Task", run.get("task")),
        ("Source", run.get("source")),
        ("Dataset", run.get("dataset")),
        ("Dataset fingerprint (SHA-256)", run.get("fingerprint")),
        ("Backbone", run.get("backbone")),
        (
            "Parameters",
            wording.count(run.get("n_parameters")) if run.get("n_parameters") is not None else None,
        ),
        ("Seed", run.get("seed")),
        ("Made at", run.get("created_at")),
        ("Time taken", ", ".join(f"{readable(str(k))} {wording.duration(v)}" for k, v in times.items())),
        ("Versions", ", ".join(f"{name} {value}" for name, value in mapping(run, "versions").items())),
    ]
    return [(name, _plain(value)) for name, value in rows if value not in (None, "", [], {})]


def leaves(values: Json, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings as dotted names with their values as YAML would read them."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
