"""A demo's held-out recordings as if they came in now, faster than they were recorded.

They take the same way as `POST /vitals`: batches that the hub accepts when they are stored. The ward's clock is the
replay's: it runs `speed` times as fast as the wall, and never ahead of what has been sent, so that a busy machine makes
the ward slower and not its data old.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from caretrace import schema
from caretrace.apps.vitals.task import channel_codes, measurements
from caretrace.data.grid import CHANNEL
from caretrace.dataset import Dataset
from caretrace.errors import ConfigError
from caretrace.files import read_json
from caretrace.serve.live.samples import CHANNELS, Batch
from caretrace.serve.paired import Foretell, Foretelling, PairedRecords
from caretrace.serve.settings import DEMO_FILE

MOST = 20_000  # samples of a batch while the hours before now are sent
PAUSE = 0.5  # seconds until a batch is sent again that could not be taken


class Ward(Protocol):
    """What takes the samples."""

    async def accept(self, batch: Batch) -> Any:
        """Keep a batch; it is durable when this returns."""
        ...

    async def place(self, subject: int, bed: str, ward: str) -> Any:
        """Say where somebody lies."""
        ...

    def ready(self) -> list[str]:
        """Why it cannot be relied on yet; empty when it can."""
        ...

    def newest(self) -> float | None:
        """Time of the newest sample that is stored, epoch seconds; None without any."""
        ...


@dataclasses.dataclass(frozen=True)
class Recording:
    """Samples of a whole ward, in order of time.

    Args:
        subject: [sample], whose.
        offset: [sample], seconds since the recording of that subject began.
        channel: [sample], a place in `CHANNELS`.
        value: [sample], in the channel's unit.
        step_seconds: Usual time between two samples of a channel.
    """

    subject: npt.NDArray[np.int64]
    offset: npt.NDArray[np.float64]
    channel: npt.NDArray[np.int16]
    value: npt.NDArray[np.float32]
    step_seconds: float

    @property
    def seconds(self) -> float:
        """From the first sample until the next one would come."""
        return float(self.offset[-1]) + self.step_seconds

    @property
    def subjects(self) -> list[int]:
        """Who was recorded, in order."""
        return [int(each) for each in np.unique(self.subject)]

    def between(self, first: float, last: float) -> slice:
        """Samples from `first` up to but not including `last`, in seconds of the recording."""
        low, high = np.searchsorted(self.offset, [first, last])
        return slice(int(low), int(high))


class Replay:
    """A ward of recordings that begin again when they are over.

    Args:
        recording: What is replayed.
        speed: Seconds of the recording in one second.
        start_hours: How much of it has been when the replay begins.
        ward: Name of the ward.
        wall: The clock on the wall, epoch seconds.
        paired: Records for the beds, to predict from.
    """

    def __init__(
        self,
        recording: Recording,
        speed: float,
        start_hours: float,
        ward: str = "A",
        wall: Callable[[], float] = time.time,
        paired: PairedRecords | None = None,
    ) -> None:
        if not speed > 0:
            raise ConfigError(f"replay.speed: got {speed}; give a number above 0")
        self.recording, self.speed, self._wall, self._paired = recording, speed, wall, paired
        step = recording.step_seconds
        self._ahead = min(start_hours * 3600, recording.seconds - step)
        self._ahead -= self._ahead % step
        self._begun = wall()
        # A whole number of steps, so that a step of the recording is one of the ward's.
        self._now = self._begun // step * step
        self._sent = self._now
        subjects = recording.subjects
        self.beds = {each: (f"{ward}-{place:02d}", ward) for place, each in enumerate(subjects, 1)}

    @classmethod
    def open(cls, demo: Path, speed: float | None = None) -> Replay | None:
        """The replay of a demo folder; None where it has no vitals.

        Args:
            demo: Folder that `caretrace demo` wrote.
            speed: Instead of what the demo says.

        Raises:
            ConfigError: There is no demo.json, or its recordings are gone.
        """
        path = demo / DEMO_FILE
        if not path.is_file():
            raise ConfigError(f"{path} is not there; make the folder with `caretrace demo --out {demo}`")
        described = read_json(path)
        told, risks = described.get("replay"), described.get("risks")
        if told is None:
            return None
        recording = read_recording(Dataset(demo / told["dataset"]), told["split"])
        paired = None if risks is None else PairedRecords.open(demo, risks)
        return cls(recording, speed or told["speed"], told["start_hours"], told["ward"], paired=paired)

    def clock(self) -> float:
        """The ward's time, epoch seconds: up to one step beyond what was sent."""
        due = self._now + (self._wall() - self._begun) * self.speed
        return min(due, self._sent + self.recording.step_seconds)

    def begin(self, after: float | None = None) -> None:
        """Start the ward's clock now, or behind what an earlier replay left in the store.

        Args:
            after: Time of the newest sample that is stored already, epoch seconds.
        """
        step = self.recording.step_seconds
        self._begun = self._wall()
        earliest = -np.inf if after is None else after + self._ahead + step
        self._now = float(-(-max(self._begun, earliest) // step) * step)
        self._sent = self._now

    async def run(self, ward: Ward, keep: Foretell | None = None) -> None:
        """Send the hours before now at once, then each step when it is due; for ever.

        Args:
            ward: Who takes the samples.
            keep: Predicts from the records of the beds, and keeps the risks; None for none.
        """
        foretelling = None if self._paired is None or keep is None else Foretelling(self._paired, keep)
        for subject, (bed, name) in self.beds.items():
            await ward.place(subject, bed, name)
        while ward.ready():  # what it kept of an earlier replay is being read
            await asyncio.sleep(PAUSE)
        self.begin(ward.newest())
        origin = self._now - self._ahead
        for batch in self.batches(origin, 0.0, self._ahead):
            await _deliver(ward, batch)
        # What took long before the first live step shall not be made up for in a hurry.
        self._begun = self._wall()
        try:
            await self._go_on(ward, origin, foretelling)
        finally:
            if foretelling is not None:
                foretelling.stop()

    async def _go_on(self, ward: Ward, origin: float, foretelling: Foretelling | None) -> None:
        step, first = self.recording.step_seconds, self._ahead
        while True:
            for offset in np.arange(first, self.recording.seconds, step):
                await asyncio.sleep(max(0.0, self._due(origin + offset) - self._wall()))
                for batch in self.batches(origin, float(offset), float(offset) + step):
                    await _deliver(ward, batch)
                self._sent = origin + float(offset)
                if foretelling is not None:
                    foretelling.due(origin + self._ahead, self._sent)
            origin, first = origin + -(-self.recording.seconds // step) * step, 0.0

    def batches(self, origin: float, first: float, last: float) -> Iterator[Batch]:
        """Samples of a stretch of the recording, as the ward would get them.

        Args:
            origin: When the recording began by the ward's clock, epoch seconds.
            first: From here, seconds of the recording.
            last: Up to but not including this.
        """
        part = self.recording.between(first, last)
        for start in range(part.start, part.stop, MOST):
            rows = slice(start, min(start + MOST, part.stop))
            yield Batch(
                batch_id=f"replay-{origin:.0f}-{start}",
                subject=self.recording.subject[rows],
                time=origin + self.recording.offset[rows],
                channel=self.recording.channel[rows],
                value=self.recording.value[rows],
            )

    def _due(self, moment: float) -> float:
        """When the ward's clock shows a moment, by the wall."""
        return self._begun + (moment - self._now) / self.speed


async def _deliver(ward: Ward, batch: Batch) -> None:
    """Send a batch until it is taken: the same id keeps it from being stored twice."""
    while True:
        try:
            await ward.accept(batch)
        except TimeoutError:
            await asyncio.sleep(PAUSE)
        else:
            return


def read_recording(dataset: Dataset, split: str) -> Recording:
    """The vital signs of a split, each subject's from its own beginning.

    Args:
        dataset: MEDS dataset of vital signs.
        split: Whose.

    Raises:
        ConfigError: Nobody in it was measured.
    """
    codes = channel_codes(dataset)
    tables = [measurements(file, codes) for file in dataset.files(split)]
    table = pl.concat(tables).filter(pl.col(schema.NUMERIC_VALUE).is_finite()) if tables else pl.DataFrame()
    if table.is_empty():
        raise ConfigError(f"{dataset.path}: no vital signs of {split} subjects to replay; run the demo again")
    begun = pl.col(schema.TIME).min().over(schema.SUBJECT_ID)
    seconds = (pl.col(schema.TIME) - begun).dt.total_microseconds() / 1e6
    place = pl.col(CHANNEL).replace_strict(
        {name: CHANNELS.index(name) for name in codes}, return_dtype=pl.Int16
    )
    table = table.with_columns(offset=seconds, channel=place).sort("offset", schema.SUBJECT_ID, "channel")
    apart = table.select(pl.col("offset").unique().sort().diff().drop_nulls().median()).item()
    return Recording(
        subject=table[schema.SUBJECT_ID].to_numpy(),
        offset=table["offset"].to_numpy(),
        channel=table["channel"].to_numpy(),
        value=table[schema.NUMERIC_VALUE].cast(pl.Float32).to_numpy(),
        step_seconds=float(apart or 1.0),
    )
