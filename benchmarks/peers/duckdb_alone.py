"""The least that DuckDB can do: `chartevents.csv.gz` to one Parquet file sorted by subject and time.

No check, no mapping, no join, no other table: a ceiling for whatever reads with DuckDB, not an ingest.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

COLUMNS = (
    "subject_id", "hadm_id", "stay_id", "caregiver_id", "charttime", "storetime", "itemid", "value",
    "valuenum", "valueuom", "warning",
)  # fmt: skip


def main(tables: Path, out: Path, cores: int) -> None:
    """Read `tables`, write `out`/data/train/0.parquet."""
    folder = out / "data" / "train"
    folder.mkdir(parents=True)
    named = ", ".join(f"'{column}': 'VARCHAR'" for column in COLUMNS)
    connection = duckdb.connect(str(out / "work.duckdb"))
    connection.execute(f"SET threads = {cores}; SET preserve_insertion_order = false")
    connection.execute(
        "COPY (SELECT subject_id::BIGINT AS subject_id, storetime::TIMESTAMP AS time, "
        "'VITAL//' || itemid || '//' || coalesce(valueuom, '') AS code, "
        "valuenum::FLOAT AS numeric_value, value AS text_value "
        f"FROM read_csv('{tables / 'icu' / 'chartevents.csv.gz'}', header = true, auto_detect = false, "
        f"columns = {{{named}}}) ORDER BY subject_id, time) TO '{folder / '0.parquet'}'"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
