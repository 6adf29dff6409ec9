"""How a run was made, in rows: settings, versions, times; and what the pages of all runs begin and end with."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from caretrace.report import wording
from caretrace.report.charts import training
from caretrace.report.quality import read_quality
from caretrace.report.record import Json, RunRecord, mapping
from caretrace.report.wording import readable

_SERIES = {"train_loss": ("training", 1), "tuning_loss": ("tuning", 0)}


def frame(
    record: RunRecord,
    sections: Sequence[tuple[str, str]],
    limits: list[str],
    *,
    loss: str,
    title: str,
    series: dict[str, tuple[str, int]] | None = None,
) -> dict[str, Any]:
    """What the page of any run needs beside its own sections.

    Args:
        record: The run.
        sections: Anchor and heading of each part of the page.
        limits: What the model must not be used for.
        loss: What the losses of training and tuning are, for their plot.
        title: Of a run that has none.
        series: Key of the log → name and colour of its line; training and tuning loss by default.
    """
    run = record.run
    return {
        "title": str(run.get("title") or title),
        "sections": sections,
        "path": shlex.quote(str(record.path)),
        "loss": training(record.epochs, series or _SERIES, loss),
        "quality": read_quality(record.quality),
        "limits": limits,
        "making": making(run),
        "config": list(leaves(mapping(run, "config"))),
    }


def facts(run: Json, *own: str) -> list[str]:
    """A few words for the head of a page: its own, then where the data came from, and when it was trained."""
    return [
        *own,
        f"source {run['source']}" if run.get("source") else "",
        f"trained {str(run['created_at'])[:10]}" if run.get("created_at") else "",
    ]


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
