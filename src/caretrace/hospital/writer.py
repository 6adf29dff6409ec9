"""Raw tables to CSV and the truth to Parquet, chunk by chunk."""

from __future__ import annotations

import collections
import contextlib
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import polars as pl
import pyarrow.parquet as pq

from caretrace.config import to_dict
from caretrace.files import write_json
from caretrace.hospital.config import Faults, HospitalConfig
from caretrace.hospital.faults import README as FAULTS_README
from caretrace.hospital.planting import README as RULES_README
from caretrace.hospital.truth import README as TRUTH_README

README = """# A simulated hospital

Everything in this folder is simulated by `caretrace simulate`; no real person is in here, and no figure
from it says anything about real patients. The settings are in `simulation.json`.

Times are UTC, `YYYY-MM-DD HH:MM:SS`. Next: `caretrace ingest hospital <this folder> <dataset>`.

When a value can be known: a lab or culture result at `result_time`, not at `collect_time`; the end, the
amount and the status of an infusion or procedure, and the stop of a prescription, only at that end;
`discharge_location`, `discharge_time` and `death_time` only then.
The folder `truth/` holds the answers and is never ingested.
"""


class TableWriter(contextlib.AbstractContextManager["TableWriter"]):
    """Appends tables to files as they come, so that memory holds one chunk at a time.

    Args:
        folder: Where the files go; exists.
        config: Written beside them.
    """

    def __init__(self, folder: Path, config: HospitalConfig) -> None:
        self.rows: collections.Counter[str] = collections.Counter()
        self._folder = folder
        self._config = config
        self._files: dict[str, IO[bytes]] = {}
        self._truth: dict[str, Any] = {}
        (folder / "truth").mkdir()

    def add(self, name: str, table: pl.DataFrame) -> None:
        """Append rows of one table; `truth/…` goes to Parquet, a row group at a time, the rest to CSV."""
        if name.startswith("truth/"):
            rows = table.to_arrow()
            if name not in self._truth:
                path = self._folder / f"{name}.parquet"
                self._truth[name] = pq.ParquetWriter(path, rows.schema, compression="zstd")
            self._truth[name].write_table(rows)
            self.rows[f"{name}.parquet"] += table.height
            return
        if name not in self._files:
            self._files[name] = (self._folder / f"{name}.csv").open("wb")
            header = True
        else:
            header = False
        _calendar(table).write_csv(
            self._files[name],
            include_header=header,
            datetime_format="%Y-%m-%d %H:%M:%S",
            date_format="%Y-%m-%d",
        )
        self.rows[f"{name}.csv"] += table.height

    def finish(self) -> None:
        """Write what comes last: the settings and the two pages."""
        write_json(self._folder / "simulation.json", to_dict(self._config))
        (self._folder / "README.md").write_text(README, encoding="utf-8")
        parts = [TRUTH_README]
        parts += [RULES_README] if self._config.rules else []
        parts += [FAULTS_README] if self._config.faults != Faults() else []
        (self._folder / "truth" / "README.md").write_text("".join(parts), encoding="utf-8")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (*self._files.values(), *self._truth.values()):
            file.close()


def _calendar(table: pl.DataFrame) -> pl.DataFrame:
    """Seconds since 1970 as date-times, days as dates."""
    return table.with_columns(
        *((pl.col(c) * 1_000_000).cast(pl.Datetime("us")) for c in table.columns if _is_time(c)),
        *(pl.col(c).cast(pl.Int32).cast(pl.Date) for c in table.columns if c.endswith("_date")),
    )


def _is_time(column: str) -> bool:
    return column == "time" or column.endswith("_time")
