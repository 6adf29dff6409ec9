"""What is in a dataset: counts, times, record lengths and the code table, file by file.

Nothing is loaded whole. MEDS keeps each subject in one file, so per-file counts add up exactly; values are
counted after rounding to four significant digits, so percentiles come from a small table of counts and are
off by at most one part in two thousand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from caretrace import schema
from caretrace.dataset import Dataset

SIGNIFICANT_DIGITS = 4
PERCENTILES = {"p01": 0.01, "median": 0.5, "p99": 0.99}
LENGTH_BINS = 24

_SECONDS_PER_DAY = 86_400.0


def summarise_dataset(
    dataset: Dataset, codes: int = 50, advance: Callable[[float, str], None] | None = None
) -> dict[str, Any]:
    """Describe a dataset without loading it.

    Args:
        dataset: The dataset.
        codes: How many of the most frequent codes to describe.
        advance: Called with (1, file name) after each file is read; every file is read twice.

    Returns:
        JSON values: "name", "metadata", "subjects", "subjects_without_measurements", "measurements",
        "static_measurements", "codes", "splits" {split: {"subjects", "measurements"}}, "event_types"
        {type: measurements}, "time" {"first", "last"}, "record_days" {"p25", "median", "p75", "max",
        "edges", "counts"}, "top_codes" (rows with "code", "description", "unit", "event_type", "count",
        "subjects", "share_with_value", "p01", "median", "p99"), "quality" and "quarantine" {file: rows}.
        Births do not count in times and lengths.
    """
    parts = [_read_part(split, path, advance) for split in schema.SPLITS for path in dataset.files(split)]
    by_code = _add_up(parts)
    subjects = pl.concat([part["subjects"] for part in parts]) if parts else _NO_SUBJECTS
    top = by_code.sort("count", schema.CODE, descending=[True, False]).head(codes)
    counted = dataset.splits.group_by(schema.SPLIT).len()
    split_subjects = dict(zip(counted[schema.SPLIT], counted["len"], strict=True))
    return {
        "name": str(dataset.metadata.get("dataset_name") or dataset.path.name),
        "metadata": dataset.metadata,
        "subjects": dataset.splits.height,
        "subjects_without_measurements": dataset.splits.height - subjects.height,
        "measurements": int(by_code["count"].sum()),
        "static_measurements": int(by_code["static"].sum()),
        "codes": by_code.height,
        "splits": {
            split: {
                "subjects": split_subjects.get(split, 0),
                "measurements": sum(part["measurements"] for part in parts if part["split"] == split),
            }
            for split in schema.SPLITS
        },
        "event_types": _event_types(by_code, dataset),
        "time": {"first": _iso(subjects["first"].min()), "last": _iso(subjects["last"].max())},
        "record_days": record_days(subjects),
        "top_codes": _describe(top, _percentiles(dataset, top, advance), dataset),
        "quality": dataset.quality,
        "quarantine": _quarantine(dataset),
    }


def record_days(subjects: pl.DataFrame) -> dict[str, Any] | None:
    """Distribution of the time between a subject's first and last measurement, in days.

    Args:
        subjects: One row per subject with times `first` and `last`.

    Returns:
        Quartiles, maximum and a histogram up to the 99th percentile, the last bin holding all above it; None
        when no measurement has a time.
    """
    days = (subjects["last"] - subjects["first"]).drop_nulls().dt.total_seconds().cast(
        pl.Float64
    ) / _SECONDS_PER_DAY
    if days.is_empty():
        return None
    quartiles = {
        name: days.quantile(q, "linear") for name, q in (("p25", 0.25), ("median", 0.5), ("p75", 0.75))
    }
    far = days.quantile(0.99, "linear") or 0.0
    width = far / LENGTH_BINS or 1.0 / LENGTH_BINS
    bins = (days / width).floor().clip(0, LENGTH_BINS - 1).cast(pl.Int64)
    counts = dict(bins.value_counts().iter_rows())
    return {
        **quartiles,
        "max": days.max(),
        "edges": [width * k for k in range(LENGTH_BINS + 1)],
        "counts": [counts.get(k, 0) for k in range(LENGTH_BINS)],
    }


def _read_part(split: str, path: Path, advance: Callable[[float, str], None] | None) -> dict[str, Any]:
    """Counts of one data file, per code and per subject."""
    rows = _scan(path)
    timed = pl.when(pl.col(schema.CODE) != schema.BIRTH).then(pl.col(schema.TIME))
    by_code = rows.group_by(schema.CODE).agg(
        count=pl.len(),
        subjects=pl.col(schema.SUBJECT_ID).n_unique(),
        with_value=pl.col(schema.NUMERIC_VALUE).is_not_null().sum(),
        static=pl.col(schema.TIME).is_null().sum(),
    )
    by_subject = rows.group_by(schema.SUBJECT_ID).agg(first=timed.min(), last=timed.max())
    codes, subjects = pl.collect_all([by_code, by_subject], engine="streaming")
    _step(advance, path)
    return {"split": split, "codes": codes, "subjects": subjects, "measurements": int(codes["count"].sum())}


def _scan(path: Path) -> pl.LazyFrame:
    return pl.scan_parquet(path).select(
        pl.col(schema.SUBJECT_ID).cast(pl.Int64),
        pl.col(schema.TIME).cast(pl.Datetime("us")),
        pl.col(schema.CODE).cast(pl.String),
        pl.col(schema.NUMERIC_VALUE).cast(pl.Float64),
    )


_COUNTS = ("count", "subjects", "with_value", "static")
_NO_SUBJECTS = pl.DataFrame(
    schema={schema.SUBJECT_ID: pl.Int64, "first": pl.Datetime("us"), "last": pl.Datetime("us")}
)


def _add_up(parts: list[dict[str, Any]]) -> pl.DataFrame:
    if not parts:
        return pl.DataFrame(schema={schema.CODE: pl.String, **dict.fromkeys(_COUNTS, pl.Int64)})
    together = pl.concat([part["codes"] for part in parts])
    return together.group_by(schema.CODE).agg(pl.col(name).cast(pl.Int64).sum() for name in _COUNTS)


def _percentiles(
    dataset: Dataset, top: pl.DataFrame, advance: Callable[[float, str], None] | None
) -> dict[str, dict[str, float]]:
    """Percentiles of the values of each code: the smallest value that so many of the values do not exceed."""
    wanted = top.filter(pl.col("with_value") > 0)[schema.CODE].to_list()
    value, code = pl.col(schema.NUMERIC_VALUE), pl.col(schema.CODE)
    tables = []
    for path in dataset.files():
        rounded = _scan(path).filter(code.is_in(wanted), value.is_finite())
        rounded = rounded.select(schema.CODE, value.round_sig_figs(SIGNIFICANT_DIGITS))
        tables.append(
            rounded.group_by(schema.CODE, schema.NUMERIC_VALUE).len("rows").collect(engine="streaming")
        )
        _step(advance, path)
    if not tables:
        return {}
    counted = pl.concat(tables).group_by(schema.CODE, schema.NUMERIC_VALUE).agg(pl.col("rows").sum())
    answer: dict[str, dict[str, float]] = {}
    for (name,), group in counted.sort(schema.NUMERIC_VALUE).partition_by(schema.CODE, as_dict=True).items():
        so_far = group["rows"].cum_sum()
        answer[str(name)] = {
            key: float(group[schema.NUMERIC_VALUE][so_far.search_sorted(max(1, math.ceil(q * so_far[-1])))])
            for key, q in PERCENTILES.items()
        }
    return answer


def _describe(
    top: pl.DataFrame, percentiles: Mapping[str, Mapping[str, float]], dataset: Dataset
) -> list[dict[str, Any]]:
    known = _code_table(dataset)
    rows = []
    for row in top.iter_rows(named=True):
        described = known.get(row[schema.CODE], {})
        rows.append(
            {
                "code": row[schema.CODE],
                "description": described.get(schema.DESCRIPTION),
                "unit": described.get(schema.UNIT),
                "event_type": described.get(schema.EVENT_TYPE) or str(schema.EventType.OTHER),
                "count": row["count"],
                "subjects": row["subjects"],
                "share_with_value": row["with_value"] / row["count"],
                **(dict.fromkeys(PERCENTILES) | dict(percentiles.get(row[schema.CODE], {}))),
            }
        )
    return rows


def _event_types(by_code: pl.DataFrame, dataset: Dataset) -> dict[str, int]:
    known, counts = _code_table(dataset), dict[str, int]()
    for code, rows in by_code.select(schema.CODE, "count").iter_rows():
        kind = known.get(code, {}).get(schema.EVENT_TYPE) or str(schema.EventType.OTHER)
        counts[kind] = counts.get(kind, 0) + rows
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _code_table(dataset: Dataset) -> dict[str, dict[str, Any]]:
    columns = [c for c in (schema.DESCRIPTION, schema.UNIT, schema.EVENT_TYPE) if c in dataset.codes.columns]
    rows = dataset.codes.select(schema.CODE, *columns).unique(schema.CODE, keep="first", maintain_order=True)
    return {row[schema.CODE]: row for row in rows.iter_rows(named=True)}


def _quarantine(dataset: Dataset) -> dict[str, int]:
    folder = dataset.path / schema.QUARANTINE_DIR
    return {
        path.relative_to(folder).as_posix(): int(pl.scan_parquet(path).select(pl.len()).collect().item())
        for path in sorted(folder.rglob("*.parquet"))
    }


def _iso(moment: Any) -> str | None:
    return moment.isoformat(sep=" ") if moment is not None else None


def _step(advance: Callable[[float, str], None] | None, path: Path) -> None:
    if advance is not None:
        advance(1, path.name)
