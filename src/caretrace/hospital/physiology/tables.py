"""The recordings as a monitoring system would export them, in Parquet, and the truth in a folder of its own."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from caretrace.config import to_dict
from caretrace.files import whole_folder, write_json
from caretrace.hospital.physiology.artefacts import ARTEFACTS
from caretrace.hospital.physiology.config import CHANNELS, TEMP, UNITS, PhysiologyConfig
from caretrace.hospital.physiology.disturbances import DISTURBANCES
from caretrace.hospital.physiology.monitor import Block, Plan, iter_blocks, plan_subject

CHUNK = 50  # people per file of vital signs
GROUP_ROWS = 262_144  # rows gathered before they are written, as one row group
GROUP_TABLES = 2_000  # or this many tables, because small ones take more memory than their rows tell
SECOND = 1_000_000  # microseconds

README = f"""# Simulated vital signs

Everything in this folder is simulated by caretrace; no real person is in here, and no figure from it says anything
about real patients. The settings are in `simulation.json`.

- `patients.parquet`: one row per person: age in years, sex, when the recording begins (UTC).
- `vitals/vitals-NNNNN.parquet`: one row per person and sample, {CHUNK} people per file, in order of person and time:
  {", ".join(f"`{name}` ({unit})" for name, unit in zip(CHANNELS, UNITS, strict=True))}. An empty cell means that
  the monitor showed nothing; where it showed nothing at all the row is absent.

`truth/` holds the answers and is never ingested:

- `subjects`: whether somebody is prone to deteriorate, each person's own level and how much the signs swing.
- `events`: deteriorations. Nothing differs up to and including `onset`; the effect grows from the next second on,
  is full at `peak`, recedes from `turn` on and is gone at `end`, which may lie after the recording.
- `artefacts`: one row per artefact and channel, from `start` up to but not including `end`.
- `disturbances`: exertions and short desaturations. They are neither deteriorations nor artefacts.
- `clean/` (only with `keep_clean`): the signal before artefacts and rounding, and the latent `course`.
"""


def simulate_vitals(
    out: Path, config: PhysiologyConfig, progress: Callable[[float], None] | None = None
) -> dict[str, int]:
    """Record everybody and write the tables; memory depends on neither the number of people nor the hours.

    Args:
        out: Folder to make; it appears whole or not at all.
        config: What to record.
        progress: Called with the number of people done since the last call.

    Returns:
        Rows written, per file path relative to `out`.

    Raises:
        OutputExistsError: `out` exists and is not an empty folder.
    """
    with whole_folder(out) as folder:
        with VitalsWriter(folder, config) as writer:
            for subject in range(config.subjects):
                writer.add_subject(subject)
                if progress is not None:
                    progress(1)
        write_json(folder / "simulation.json", to_dict(config))
        (folder / "README.md").write_text(README, encoding="utf-8")
    return dict(writer.rows)


class VitalsWriter(contextlib.ExitStack):
    """Appends people to the tables of one folder, in order.

    Args:
        folder: Where the files go; exists.
        config: Settings.
    """

    def __init__(self, folder: Path, config: PhysiologyConfig) -> None:
        super().__init__()
        self.rows: Counter[str] = Counter()
        self._folder, self._config = folder, config
        self._files: dict[str, _GrowingParquet] = {}
        self._chunk = -1

    def add_subject(self, subject: int) -> None:
        """Record one person, from first to last sample."""
        plan = plan_subject(subject, self._config)
        for name, table in plan_tables(plan, self._config).items():
            self._add(f"{name}.parquet", table)
        if subject // CHUNK != self._chunk:
            self._close_chunk()
            self._chunk = subject // CHUNK
        for block in iter_blocks(plan, subject, self._config):
            self._add(f"vitals/vitals-{self._chunk:05d}.parquet", vitals_table(plan, block))
            if self._config.keep_clean:
                self._add(f"truth/clean/clean-{self._chunk:05d}.parquet", clean_table(plan, block))

    def _add(self, name: str, table: pa.Table) -> None:
        if name not in self._files:
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files[name] = self.enter_context(_GrowingParquet(path, table.schema))
        self._files[name].add(table)
        self.rows[name] += table.num_rows

    def _close_chunk(self) -> None:
        for name in [n for n in self._files if "-" in n]:
            self._files.pop(name).close()


class _GrowingParquet(contextlib.AbstractContextManager["_GrowingParquet"]):
    """A Parquet file written in row groups of `GROUP_ROWS` rows."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        # Differences of whole numbers and times pack to a few bits, in half the time that dictionaries take.
        packed = [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_timestamp(f.type)]
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in schema.names if name not in packed],
            column_encoding=dict.fromkeys(packed, "DELTA_BINARY_PACKED"),
        )
        self._waiting: list[pa.Table] = []
        self._count = 0

    def add(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._count += table.num_rows
        if self._count >= GROUP_ROWS or len(self._waiting) >= GROUP_TABLES:
            self._flush()

    def close(self) -> None:
        """Write what waits; may be called twice."""
        if self._waiting:
            self._flush()
        self._writer.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting, self._count = [], 0


def vitals_table(plan: Plan, block: Block) -> pa.Table:
    """What the monitor exports of a block: gaps empty, rows without any value absent."""
    second, values = block.second, block.values
    missing = np.isnan(values)
    if (silent := missing.all(axis=0)).any():
        second, values, missing = second[~silent], values[:, ~silent], missing[:, ~silent]
    columns = _keys(plan, second)
    for channel, name in enumerate(CHANNELS):
        value, mask = values[channel], missing[channel]
        if channel != TEMP:
            value = np.where(mask, 0, value).astype(np.int16)
        columns[name] = pa.array(value, mask=mask if mask.any() else None)
    return pa.table(columns)


def clean_table(plan: Plan, block: Block) -> pa.Table:
    """The signal before artefacts and rounding, with the latent course."""
    columns = _keys(plan, block.second)
    columns |= {name: pa.array(block.clean[channel]) for channel, name in enumerate(CHANNELS)}
    return pa.table(columns | {"course": pa.array(block.course)})


def plan_tables(plan: Plan, config: PhysiologyConfig) -> dict[str, pa.Table]:
    """The small tables of one person, by name; truth under `truth/…`."""
    person = plan.person
    patient = {
        "subject_id": [person.subject_id],
        "age": [int(person.age)],
        "sex": ["M" if person.male else "F"],
    }
    begin = pl.DataFrame(patient | {"start": [person.start]})
    subject = {
        "subject_id": [person.subject_id],
        "prone": [person.prone < config.share_deteriorating],
        "lung_disease": [person.lung_disease],
        "lability": [person.lability],
    } | {f"level_{name}": [float(person.level[c])] for c, name in enumerate(CHANNELS) if name != "map"}
    return {
        "patients": _arrow(begin, 0, ["start"]),
        "truth/subjects": pl.DataFrame(subject).to_arrow(),
        "truth/events": _events(plan),
        "truth/artefacts": _artefacts(plan),
        "truth/disturbances": _disturbances(plan),
    }


def _keys(plan: Plan, second: NDArray[np.int64]) -> dict[str, pa.Array]:
    time = (plan.person.start + second) * SECOND
    return {
        "subject_id": pa.array(np.full(len(second), plan.person.subject_id, np.int64)),
        "time": pa.array(time.view("datetime64[us]")),
    }


def _events(plan: Plan) -> pa.Table:
    times = ("onset", "peak", "turn", "end")
    fields = [
        ("kind", pl.String),
        ("course", pl.String),
        ("severity", pl.Float64),
        *((t, pl.Int64) for t in times),
    ]
    rows = [[getattr(event, name) for name, _ in fields] for event in plan.events]
    table = pl.DataFrame(rows, schema=fields, orient="row")
    return _arrow(_owned(plan, table), plan.person.start, times)


def _artefacts(plan: Plan) -> pa.Table:
    struck = plan.artefacts
    rows = [(i, channel) for i in range(len(struck.start)) for channel in struck.channels(i)]
    index, channel = np.array(rows, np.int64).reshape(-1, 2).T
    table = pl.DataFrame(
        {
            "channel": pl.Series(CHANNELS).gather(channel),
            "kind": pl.Series(ARTEFACTS).gather(struck.kind[index]),
            "start": struck.start[index],
            "end": struck.end[index],
        }
    )
    return _arrow(_owned(plan, table), plan.person.start, ("start", "end"))


def _disturbances(plan: Plan) -> pa.Table:
    d = plan.disturbances
    kind = pl.Series(DISTURBANCES).gather(d.kind)
    table = pl.DataFrame({"kind": kind, "start": d.start, "end": d.end, "size": d.size})
    return _arrow(_owned(plan, table), plan.person.start, ("start", "end"))


def _owned(plan: Plan, table: pl.DataFrame) -> pl.DataFrame:
    return table.select(pl.lit(plan.person.subject_id, pl.Int64).alias("subject_id"), *table.columns)


def _arrow(table: pl.DataFrame, start: int, times: Sequence[str]) -> pa.Table:
    """Seconds since `start` as date-times."""
    calendar = [((pl.col(t) + start) * SECOND).cast(pl.Datetime("us")) for t in times]
    return table.with_columns(calendar).to_arrow()
