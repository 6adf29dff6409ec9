"""From a MEDS dataset to recordings: the vital signs of each subject on a regular grid, cut at long gaps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from caretrace import schema
from caretrace.apps.vitals.config import CHARTED, CHARTED_SECONDS, CONCEPTS, MONITOR, GridConfig, Resolution
from caretrace.cohort.predicates import PlainPredicate, parse_predicate
from caretrace.data.grid import CHANNEL, GridSettings, Stretch, stretches
from caretrace.dataset import Dataset, scan_file
from caretrace.errors import CohortError

FloatArray = npt.NDArray[np.float64]
# Measurements per subject below which nothing can be said of a course over time.
FEWEST = 10


@dataclasses.dataclass(frozen=True)
class Recordings:
    """The vital signs of one split.

    Args:
        settings: Channels, step and windows.
        resolution: Where those came from, with the detector's time scales.
        stretches: In order of subject and time; none bridges a gap or two subjects.
        known_after: Seconds from the beginning of a step until its last measurement is there.
    """

    settings: GridSettings
    resolution: Resolution
    stretches: list[Stretch]
    known_after: float

    @property
    def channels(self) -> tuple[str, ...]:
        """Signals, in order."""
        return self.settings.channels

    @property
    def subjects(self) -> list[int]:
        """Whose recordings these are, in order."""
        return sorted({stretch.subject for stretch in self.stretches})

    def times(self, stretch: Stretch) -> FloatArray:
        """When each step is known, seconds since 1970, [step]."""
        first = stretch.first * self.settings.step_seconds + self.known_after
        return np.asarray(first + np.arange(len(stretch)) * self.settings.step_seconds, np.float64)

    def watched(self) -> dict[int, float]:
        """Seconds that each subject was recorded."""
        seconds: dict[int, float] = {}
        for each in self.stretches:
            seconds[each.subject] = seconds.get(each.subject, 0.0) + len(each) * self.settings.step_seconds
        return seconds


def channel_codes(dataset: Dataset, wanted: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Which codes of a dataset are which channel.

    A predicate of the dataset with the concept's name decides; else codes `VITAL//<concept>//<unit>` do.

    Args:
        dataset: Whose codes.
        wanted: Channels; none takes all there are.

    Returns:
        Channel → codes, in the order of `CONCEPTS`.

    Raises:
        CohortError: A wanted channel has no codes, or there is neither heart rate nor saturation.
    """
    codes = dataset.codes.select(schema.CODE)
    found: dict[str, list[str]] = {}
    for concept, channel in CONCEPTS.items():
        value = dataset.predicates.get(concept)
        predicate = None if value is None else parse_predicate(value, f"predicates.{concept}")
        if isinstance(predicate, PlainPredicate):
            test = predicate.expression() if predicate.regex is None else _matches(predicate.regex)
        else:
            test = pl.col(schema.CODE).str.starts_with(f"VITAL//{concept}//")
        names = codes.filter(test)[schema.CODE].sort().to_list()
        if names and (not wanted or channel in wanted):
            found[channel] = names
    missing = [channel for channel in wanted if channel not in found]
    if missing or not {"hr", "spo2"} & found.keys():
        raise CohortError(
            f"{dataset.path}: no measurements of {', '.join(missing) or 'heart rate or oxygen saturation'} "
            f"(found {', '.join(found) or 'no vital signs'}); vitals reads codes such as VITAL//heart_rate//bpm, or "
            f"what the predicates heart_rate, oxygen_saturation … in {schema.PREDICATES_FILE} say"
        )
    return found


def _matches(regex: str) -> pl.Expr:
    return pl.col(schema.CODE).str.contains(regex)


def collect(
    dataset: Dataset,
    config: GridConfig,
    split: str | None,
    like: Recordings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Recordings:
    """Read the vital signs of a split.

    Args:
        dataset: MEDS dataset.
        config: What is read.
        split: Which subjects; None for all.
        like: Recordings whose channels and resolution are kept, such as those of training.
        progress: Told files done and files in all.

    Raises:
        CohortError: No vital signs, or a table with next to no measurements per subject: no time series.
    """
    codes = channel_codes(dataset, like.channels if like else config.channels)
    resolution = like.resolution if like else None
    settings = like.settings if like else None
    files = dataset.files(split)
    every: list[Stretch] = []
    moments: list[npt.NDArray[np.int64]] = []
    known = 0.0
    for number, file in enumerate(files):
        table = measurements(file, codes)  # file by file: a subject stands in one, and all would be large
        if len(table):
            moments.append(_moments(table))
            resolution = resolution or _resolution(config, table)
            settings = settings or grid_settings(config, resolution, tuple(codes))
            every += stretches(table, settings)
            known = max(known, _known_after(table, settings.step_seconds))
        if progress is not None:
            progress(number + 1, len(files))
    require_series(dataset, np.concatenate(moments) if moments else np.zeros(0, np.int64))
    assert resolution is not None
    assert settings is not None
    every.sort(key=lambda stretch: (stretch.subject, stretch.first))
    return Recordings(settings, resolution, every, like.known_after if like else known)


def require_series(dataset: Dataset, moments: npt.NDArray[np.int64]) -> None:
    """Stop where subjects have no course over time: windows over such a table would mix people.

    Args:
        dataset: For the message.
        moments: [subject], at how many times each was measured.

    Raises:
        CohortError: Nobody was measured, or the median subject fewer than `FEWEST` times.
    """
    if not moments.size:
        raise CohortError(
            f"{dataset.path}: no vital signs in this split; ingest more subjects, or name another split"
        )
    middle = float(np.median(moments))
    if middle < FEWEST:
        raise CohortError(
            f"{dataset.path} is no time series: {moments.size} subjects, of whom the median has {middle:g} "
            f"moments of measurement; vitals needs {FEWEST} or more per subject. A table with a row or two per person "
            "is a cross-section: windows over it would mix people. Compare people in it instead, with a comparator of "
            "caretrace.comparators, or use recordings over time"
        )


def _moments(table: pl.DataFrame) -> npt.NDArray[np.int64]:
    return (
        table.group_by(schema.SUBJECT_ID)
        .agg(pl.col(schema.TIME).n_unique())[schema.TIME]
        .cast(pl.Int64)
        .to_numpy()
    )


def measurements(file: Path, codes: dict[str, list[str]]) -> pl.DataFrame:
    """Measurements of the channels in one data file: whose, when, `CHANNEL`, value.

    Args:
        file: Parquet file of a dataset.
        codes: Channel → its codes, from `channel_codes`.
    """
    channel = {code: name for name, group in codes.items() for code in group}
    return (
        scan_file(file)
        .filter(
            pl.col(schema.TIME).is_not_null()
            & pl.col(schema.NUMERIC_VALUE).is_not_null()
            & pl.col(schema.CODE).is_in(list(channel))
        )
        .select(
            schema.SUBJECT_ID,
            schema.TIME,
            pl.col(schema.CODE).replace_strict(channel, return_dtype=pl.String).alias(CHANNEL),
            schema.NUMERIC_VALUE,
        )
        .collect()
    )


def _resolution(config: GridConfig, table: pl.DataFrame) -> Resolution:
    """The preset that the usual distance between measurements asks for, changed by what was set."""
    times = table.select(schema.SUBJECT_ID, schema.TIME).unique().sort(schema.SUBJECT_ID, schema.TIME)
    apart = times.select(pl.col(schema.TIME).diff().over(schema.SUBJECT_ID).dt.total_microseconds())
    seconds = float(np.median(apart[schema.TIME].drop_nulls().to_numpy())) / 1e6
    preset = CHARTED if seconds >= CHARTED_SECONDS else MONITOR
    chosen = {
        name: value
        for name in ("step_seconds", "length", "stride", "max_gap_seconds", "fill_seconds")
        if (value := getattr(config, name)) is not None
    }
    if "length" in chosen and "stride" not in chosen:
        chosen["stride"] = max(1, chosen["length"] // 2)
    return dataclasses.replace(preset, **chosen)


def grid_settings(config: GridConfig, resolution: Resolution, channels: tuple[str, ...]) -> GridSettings:
    """The grid of a resolution."""
    return GridSettings(
        channels=channels,
        step_seconds=resolution.step_seconds,
        length=resolution.length,
        stride=resolution.stride,
        max_gap_seconds=resolution.max_gap_seconds,
        fill_seconds=resolution.fill_seconds,
        min_observed=config.min_observed,
    )


def _known_after(table: pl.DataFrame, step_seconds: float) -> float:
    """How long after the beginning of a step its latest measurement came, seconds."""
    within = pl.col(schema.TIME).cast(pl.Int64) % round(step_seconds * 1e6)
    return float(table.select(within.max()).item()) / 1e6
