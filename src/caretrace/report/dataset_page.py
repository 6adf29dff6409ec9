"""The page of a dataset: what is in it, what was measured, how well it was read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from caretrace import schema
from caretrace.dataset import Dataset
from caretrace.report import charts, page
from caretrace.report.quality import read_quality
from caretrace.report.story import is_simulated
from caretrace.report.summary import summarise_dataset
from caretrace.report.wording import MISSING, count, plural, readable

# Quarantined rows of one table that are listed.
_MOST_SET_ASIDE = 10

_SECTIONS = (
    ("counts", "In short"),
    ("records", "Record length"),
    ("types", "What was measured"),
    ("quality", "Quality"),
    ("making", "Where it comes from"),
)


def render_dataset_page(dataset: Dataset, out: Path, summary: Mapping[str, Any] | None = None) -> Path:
    """Write the HTML page of a dataset.

    Args:
        dataset: The dataset.
        out: HTML file to write; an older one is replaced.
        summary: What `summarise_dataset` returned, to save reading the data again.

    Returns:
        The file written.
    """
    summary = summary if summary is not None else summarise_dataset(dataset)
    return page.write(page.render("dataset.html.j2", _values(dataset, summary)), out)


def _values(dataset: Dataset, summary: Mapping[str, Any]) -> dict[str, Any]:
    days = summary["record_days"]
    metadata = summary["metadata"]
    return {
        "title": f"Dataset {summary['name']}",
        "facts": [
            f"version {metadata['dataset_version']}" if metadata.get("dataset_version") else "",
            f"made {str(metadata['created_at'])[:10]}" if metadata.get("created_at") else "",
            plural(summary["subjects"], "subject"),
            plural(summary["measurements"], "measurement"),
        ],
        "sections": _SECTIONS,
        "summary": summary,
        "simulated": is_simulated(summary["name"]),
        "lead": _lead(summary),
        "cards": _cards(summary),
        "lengths": charts.record_lengths(days["edges"], days["counts"]) if days else None,
        "widest": max([1, *summary["event_types"].values()]),
        "quality": read_quality(summary["quality"]),
        "set_aside": _set_aside(dataset),
        "set_aside_most": _MOST_SET_ASIDE,
        "facts_table": [
            ("Folder", str(dataset.path)),
            *((readable(key), _plain(value)) for key, value in metadata.items() if value not in (None, "")),
        ],
    }


def _lead(summary: Mapping[str, Any]) -> str:
    types = [readable(name).lower() for name in list(summary["event_types"])[:3]]
    text = f"{plural(summary['measurements'], 'measurement')} of {plural(summary['subjects'], 'subject')}"
    if types:
        listed = " and ".join([", ".join(types[:-1]), types[-1]]) if types[1:] else types[0]
        text += f", most of them of the type {listed}"
    first, last = summary["time"]["first"], summary["time"]["last"]
    if first and last:
        text += f". Times run from {first[:10]} to {last[:10]}; sources that hide dates shift or replace them"
    return text + "."


def _cards(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    subjects, missing = summary["subjects"], summary["subjects_without_measurements"]
    quality = read_quality(summary["quality"])
    quarantined = quality.total("quarantined") if quality else None
    per_subject = f"{summary['measurements'] / subjects:,.0f} a subject" if subjects else MISSING
    with_all = f"{count(missing)} of them without any measurement" if missing else "each with measurements"
    return [
        {"label": "Subjects", "value": count(subjects), "meaning": with_all},
        {
            "label": "Measurements",
            "value": count(summary["measurements"]),
            "meaning": f"on average {per_subject}",
        },
        {
            "label": "Codes",
            "value": count(summary["codes"]),
            "meaning": f"of {plural(len(summary['event_types']), 'event type')}",
        },
        {
            "label": "Rows quarantined",
            "value": count(quarantined),
            "meaning": f"of {count(quality.total('read'))} raw rows read"
            if quality
            else "no quality report stored",
        },
    ]


def _set_aside(dataset: Dataset) -> list[dict[str, Any]]:
    """Places and reasons of the first quarantined rows; not their values, as pages travel further than data."""
    columns = ("file", "row", "column", "reason")
    found: list[dict[str, Any]] = []
    for path in sorted((dataset.path / schema.QUARANTINE_DIR).glob("*.parquet")):
        rows = pl.scan_parquet(path)
        known = [name for name in columns if name in rows.collect_schema()]
        first = rows.select(known).head(_MOST_SET_ASIDE).collect().to_dicts()
        found += [{name: row.get(name) for name in columns} for row in first]
    return found


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
