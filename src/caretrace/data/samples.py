"""Inputs as arrays ready to be cut into batches, and the fitted parts that make them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch

from caretrace import schema
from caretrace.data.batch import NO_TEXT, EventBatch, gaps
from caretrace.data.clock import hour_of_week
from caretrace.data.inputs import HOURS_BEFORE, SAMPLE, Inputs
from caretrace.data.statics import StaticFeatures
from caretrace.data.text.reader import TextReader
from caretrace.data.values import QuantileScaler
from caretrace.data.vocabulary import UNKNOWN, Vocabulary

# Fields of `Samples` with one value per measurement, and with one row per sample.
PER_MEASUREMENT = ("code", "numeric_value", "numeric_mask", "event_type", "time_hours", "text_id")
_PER_SAMPLE = ("static", "outcomes", "hour_of_week", "hours_since_admission")

_EVENT_TYPES = [kind.value for kind in schema.EventType]


@dataclasses.dataclass(frozen=True)
class Samples:
    """All samples of a split, measurements end to end.

    Args:
        offsets: Sample i owns measurements offsets[i] to offsets[i + 1], int64 [sample + 1].
        code: Code numbers, int64 [measurement].
        numeric_value: Scaled values, float32 [measurement].
        numeric_mask: Which measurements have a value, bool [measurement].
        event_type: Positions in `schema.EventType`, int64 [measurement].
        time_hours: Hours relative to the prediction time, ≤ 0, float32 [measurement].
        static: Static features, float32 [sample, feature].
        outcomes: Labels 0 or 1, float32 [sample].
        hour_of_week: Prediction time, hours since Monday 0:00, float32 [sample]; NaN where unknown, as
            everywhere when left out.
        hours_since_admission: Hours from the latest ICU admission to the prediction time, float32 [sample]; NaN
            where unknown, as everywhere when left out.
        text_id: Rows of the texts' vectors, int64 [measurement]; -1 for none, as everywhere when left out.
        unknown_codes: Measurements whose code the vocabulary does not know.
    """

    offsets: np.ndarray
    code: np.ndarray
    numeric_value: np.ndarray
    numeric_mask: np.ndarray
    event_type: np.ndarray
    time_hours: np.ndarray
    static: np.ndarray
    outcomes: np.ndarray
    unknown_codes: int = 0
    hour_of_week: np.ndarray = None  # type: ignore[assignment]  # these three are filled in below
    hours_since_admission: np.ndarray = None  # type: ignore[assignment]
    text_id: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name in ("hour_of_week", "hours_since_admission"):
            if vars(self)[name] is None:
                object.__setattr__(self, name, np.full(len(self.outcomes), np.nan, np.float32))
        if vars(self)["text_id"] is None:
            object.__setattr__(self, "text_id", np.full(len(self.code), NO_TEXT, np.int64))

    def __len__(self) -> int:
        return len(self.outcomes)

    def take(self, rows: np.ndarray) -> Samples:
        """The samples at `rows`, in that order; `unknown_codes` is not divided among them and is 0."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        source = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        parts = {name: getattr(self, name)[source] for name in PER_MEASUREMENT}
        return Samples(offsets=offsets, **parts, **{name: getattr(self, name)[rows] for name in _PER_SAMPLE})

    @classmethod
    def concat(cls, parts: Sequence[Samples]) -> Samples:
        """Samples one after the other; at least one part."""
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in (*PER_MEASUREMENT, *_PER_SAMPLE)
        }
        return cls(
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            **joined,
            unknown_codes=sum(part.unknown_codes for part in parts),
        )

    def batch(self, rows: Sequence[int] | np.ndarray) -> EventBatch:
        """The samples at `rows` as one padded batch."""
        starts, ends = self.offsets[:-1][rows], self.offsets[1:][rows]
        lengths = ends - starts
        width = max(1, int(lengths.max(initial=0)))
        slot = np.arange(width)
        padding = slot[None, :] >= lengths[:, None]
        source = np.where(padding, 0, starts[:, None] + slot[None, :])

        def cut(values: np.ndarray) -> torch.Tensor:
            taken = values[source] if len(values) else np.zeros(source.shape, values.dtype)
            return torch.from_numpy(np.where(padding, np.zeros((), values.dtype), taken))

        code, time_hours, mask = cut(self.code), cut(self.time_hours), torch.from_numpy(padding)
        return EventBatch(
            code=code,
            numeric_value=cut(self.numeric_value),
            numeric_mask=cut(self.numeric_mask),
            text_id=cut(self.text_id).masked_fill(mask, NO_TEXT),
            event_type=cut(self.event_type),
            time_hours=time_hours,
            time_delta_hours=gaps(time_hours, mask),
            static=torch.from_numpy(self.static[rows]),
            padding_mask=mask,
            hour_of_week=torch.from_numpy(self.hour_of_week[rows]),
            hours_since_admission=torch.from_numpy(self.hours_since_admission[rows]),
        )


@dataclasses.dataclass(frozen=True)
class Preprocessor:
    """Everything between measurements and tensors that is learned, learned from training samples.

    Args:
        vocabulary: Code numbers.
        values: Value scaling per code.
        static: Static features.
        max_measurements: Keep at most this many measurements per sample, the latest ones.
        forget_hours: Measurements longer before the prediction time than this are not read; None reads all.
        texts: What gives texts their vectors; None where texts are not read. It is saved beside the rest
            (`data.text.save_encoder`), not by `to_dict`.
    """

    vocabulary: Vocabulary
    values: QuantileScaler
    static: StaticFeatures
    max_measurements: int
    forget_hours: float | None = None
    texts: TextReader | None = None

    @classmethod
    def fit(
        cls,
        train: Inputs,
        *,
        static_prefixes: Sequence[str],
        min_samples: int,
        max_measurements: int,
        forget_hours: float | None = None,
    ) -> Preprocessor:
        """Fit on the training split; no other split may be passed in.

        Args:
            train: Inputs of training subjects.
            static_prefixes: Code prefixes whose latest code is a static feature.
            min_samples: A code must occur in this many training samples to get a number.
            max_measurements: Latest measurements kept per sample.
            forget_hours: Older measurements are not read; None reads all.
        """
        timed = train.measurements.filter(_in_sequence(forget_hours))
        vocabulary = Vocabulary.fit(timed, min_samples)
        return cls(
            vocabulary,
            QuantileScaler.fit(timed, vocabulary),
            StaticFeatures.fit(train.measurements, len(train), static_prefixes),
            max_measurements,
            forget_hours,
        )

    def kept(self, inputs: Inputs) -> pl.DataFrame:
        """The rows of `inputs.measurements` that become measurements of samples, in the order of their slots."""
        timed = inputs.measurements.filter(_in_sequence(self.forget_hours))
        return timed.filter(
            pl.int_range(pl.len(), 0, -1).over(SAMPLE, mapping_strategy="group_to_rows")
            <= self.max_measurements
        )

    def transform(self, inputs: Inputs) -> Samples:
        """Arrays for any split."""
        timed = self.kept(inputs)
        numbers = self.vocabulary.encode(timed[schema.CODE])
        raw = timed[schema.NUMERIC_VALUE].fill_null(float("nan")).to_numpy().astype(np.float64)
        values, mask = self.values.transform(numbers, raw)
        types = timed[schema.EVENT_TYPE].replace_strict(
            _EVENT_TYPES,
            list(range(len(_EVENT_TYPES))),
            default=_EVENT_TYPES.index(schema.EventType.OTHER),
            return_dtype=pl.Int64,
        )
        counts = np.bincount(timed[SAMPLE].to_numpy(), minlength=len(inputs))
        return Samples(
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            code=numbers,
            numeric_value=values,
            numeric_mask=mask,
            event_type=types.to_numpy(),
            time_hours=-timed[HOURS_BEFORE].to_numpy(),
            static=self.static.transform(inputs.measurements, len(inputs)),
            outcomes=inputs.outcomes,
            unknown_codes=int((numbers == UNKNOWN).sum()),
            hour_of_week=hour_of_week(inputs.labels[schema.PREDICTION_TIME]),
            hours_since_admission=inputs.hours_since_admission(),
            text_id=self._text_ids(timed[schema.TEXT_VALUE]),
        )

    def _text_ids(self, texts: pl.Series) -> np.ndarray:
        return np.full(len(texts), NO_TEXT, np.int64) if self.texts is None else self.texts.ids(texts)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return {
            "vocabulary": self.vocabulary.to_dict(),
            "values": self.values.to_dict(),
            "static": self.static.to_dict(),
            "max_measurements": self.max_measurements,
            "forget_hours": self.forget_hours,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Preprocessor:
        """The preprocessor that `to_dict` described."""
        return cls(
            Vocabulary.from_dict(value["vocabulary"]),
            QuantileScaler.from_dict(value["values"]),
            StaticFeatures.from_dict(value["static"]),
            int(value["max_measurements"]),
            value.get("forget_hours"),
        )


def _in_sequence(forget_hours: float | None) -> pl.Expr:
    """Timed measurements; birth is a static feature (the age) and would only stretch the time axis."""
    timed = pl.col(HOURS_BEFORE).is_not_null() & (pl.col(schema.CODE) != schema.BIRTH)
    return timed if forget_hours is None else timed & (pl.col(HOURS_BEFORE) <= forget_hours)
