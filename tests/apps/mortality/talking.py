"""The tiny dataset with texts: what a measurement says, in words."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from caretrace import schema

from ...tiny import write_tiny_dataset

WORDS = {
    "LAB//lactate": "Lactate",
    "LAB//creatinine": "Creatinine",
    "VITAL//HR": "",
    "DRUG//a": "Norepinephrine, 4 mg intravenous",
    "DRUG//b": "Paracetamol, 1 g oral",
}


def write_talking_dataset(
    path: Path, n_subjects: int = 240, change: Callable[[pl.DataFrame, str], pl.DataFrame] | None = None
) -> Path:
    """The tiny dataset whose labs and drugs have texts, such as `Lactate: 2.1 abnormal`.

    Args:
        path: Folder to write.
        n_subjects: Number of stays.
        change: Given the measurements of a split and its name, returns others in their place.
    """
    write_tiny_dataset(path, n_subjects)
    for split in schema.SPLITS:
        for file in (path / schema.DATA_DIR / split).glob("*.parquet"):
            frame = pl.read_parquet(file)
            value = pl.col(schema.NUMERIC_VALUE)
            words = pl.col(schema.CODE).replace_strict(WORDS, default="", return_dtype=pl.String)
            text = (
                pl.when(value.is_null())
                .then(words)
                .otherwise(
                    words
                    + ": "
                    + value.round(1).cast(pl.String)
                    + pl.when(value > 2).then(pl.lit(" abnormal")).otherwise(pl.lit(""))
                )
            )
            frame = frame.with_columns(
                pl.when(words == "").then(None).otherwise(text).alias(schema.TEXT_VALUE)
            )
            (frame if change is None else change(frame, split)).write_parquet(file)
    return path
