"""What a page about a subject shows beside the explanation, computed once and written beside it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import math
from typing import Any

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.application import Progress
from caretrace.application.predictor import HIGH, LOW, Predictor, band
from caretrace.application.run import Run
from caretrace.application.trajectory import Course, risks_along
from caretrace.data.batch import EventBatch
from caretrace.data.samples import Samples
from caretrace.dataset import Dataset
from caretrace.errors import CohortError
from caretrace.explain.explanation import CREDIT, Explanation
from caretrace.explain.groups import Groups, alike, codes, members
from caretrace.explain.heads import ShowsHeads
from caretrace.explain.patterns import evolution
from caretrace.explain.removal import interactions, per_group, removal
from caretrace.explain.scores import Score
from caretrace.explain.surroundings import Surroundings
from caretrace.files import read_json

# Lengths of a window and of a step of the trajectory, hours; the first that gives few enough of them is taken.
_LENGTHS = (1.0, 2.0, 4.0, 6.0, 12.0, 24.0, 48.0, 96.0, 168.0)
_MOST_WINDOWS = 12
_MOST_POINTS = 25
_LANDMARKS = 9
_CODES = 24
_PAIRED = 6
_TYPES = [kind.value for kind in schema.EventType]


@dataclasses.dataclass(frozen=True)
class Explained:
    """One explained sample, and where it came from.

    Args:
        run: The run.
        predictor: Its ensemble.
        dataset: Where the subject is.
        samples: All samples that were read.
        number: Which of them is explained.
        sample: The same as a batch.
        score: The ensemble's logit.
        logits: Of every member for every sample, [member, sample].
    """

    run: Run
    predictor: Predictor
    dataset: Dataset
    samples: Samples
    number: int
    sample: EventBatch
    score: Score
    logits: np.ndarray


def surroundings_of(
    explained: Explained, explanation: Explanation, descriptions: pl.DataFrame, progress: Progress
) -> Surroundings:
    """Everything that is shown around one explanation.

    Args:
        explained: What is explained.
        explanation: The explanation.
        descriptions: Code and description of the dataset.
        progress: Told about each piece of work.
    """
    sample = explained.sample
    since = float(explained.samples.hours_since_admission[explained.number])
    hours = -sample.time_hours[0].double().numpy()
    reach = since if since > 0 else float(hours.max(initial=0.0))
    width = next((each for each in _LENGTHS if reach <= each * _MOST_WINDOWS), _LENGTHS[-1])
    count = min(_MOST_WINDOWS, max(1, math.ceil(reach / width)))
    window = np.minimum(np.floor(hours / width), count).astype(int)
    kind = sample.event_type[0].numpy()
    progress("explaining: what goes together", 0, 5)
    removed = _Removed(explained, explanation.logit)
    own = band(explained.predictor, explained.logits[:, [explained.number]])
    types = removed.rows(alike(sample, kind), {schema.EVENT_TYPE: kind})
    windows = removed.rows(alike(sample, window), {"window": window})
    progress("explaining: types over time", 1, 5)
    both = removed.rows(alike(sample, kind, window), {schema.EVENT_TYPE: kind, "window": window})
    progress("explaining: over the stay", 2, 5)
    grown = _evolution(explained, _landmarks(reach, width), descriptions)
    progress("explaining: pairs", 3, 5)
    pairs = _interactions(explained, explanation)
    progress("explaining: the risk along the stay", 4, 5)
    return Surroundings(
        hours_since_admission=since if math.isfinite(since) else None,
        low=_number(own[LOW][0]),
        high=_number(own[HIGH][0]),
        members=len(explained.predictor.members),
        compared=_compared(explained.run, explanation),
        window_hours=width,
        n_windows=count,
        types=types,
        windows=windows,
        types_over_time=both,
        evolution=grown,
        interactions=pairs,
        looks=_looks(explained),
        trajectory=_trajectory(explained, explanation, since),
    )


@dataclasses.dataclass(frozen=True)
class _Removed:
    """Groups of measurements, each removed at once."""

    explained: Explained
    logit: float

    def rows(self, groups: Groups, keys: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """One row per group: its keys, size, credit and the risk without it."""
        inside = members(groups)
        credit = per_group(groups, removal(self.explained.score, self.explained.sample, groups).credit)
        risk = self.explained.predictor.calibration.apply(self.logit - credit)
        found = []
        for own, value, without in zip(inside, credit, risk, strict=True):
            first = int(np.flatnonzero(own)[0])
            row: dict[str, Any] = {name: int(key[first]) for name, key in keys.items()}
            if schema.EVENT_TYPE in row:
                row[schema.EVENT_TYPE] = _TYPES[row[schema.EVENT_TYPE]]
            found.append(
                {
                    **row,
                    "measurements": int(own.sum()),
                    "credit": float(value),
                    "risk_without": float(without),
                }
            )
        return found


def _landmarks(reach: float, width: float) -> np.ndarray:
    """Hours before the prediction, the prediction itself among them; windows' edges where there are few."""
    edges = np.arange(0.0, max(reach, width), width)
    return edges if len(edges) <= _LANDMARKS else np.linspace(0.0, edges[-1], _LANDMARKS)


def _evolution(explained: Explained, landmarks: np.ndarray, descriptions: pl.DataFrame) -> dict[str, Any]:
    """Credit of the weightiest codes over landmarks; a model of long sequences is asked of no more than needed."""
    sample, vocabulary = explained.sample, explained.predictor.preprocessor.vocabulary
    groups = codes(sample)
    own = sample.code[0].numpy()
    credit = per_group(groups, removal(explained.score, sample, groups).credit)
    numbers = np.array([own[groups == group][0] for group in range(len(credit))], dtype=np.int64)
    chosen = numbers[np.argsort(-np.abs(credit), kind="stable")[:_CODES]].tolist()
    found = evolution(explained.score, sample, landmarks.tolist(), chosen)
    names = dict(descriptions.select(schema.CODE, schema.DESCRIPTION).iter_rows())
    rows = []
    for column, number in enumerate(found.codes):
        known = 0 <= number - 2 < len(vocabulary.codes)
        code = vocabulary.codes[number - 2] if known else "codes unknown to the model"
        values = [float(value) for value in found.credit[:, column]]
        rows.append({schema.CODE: code, schema.DESCRIPTION: names.get(code), "credit": values})
    return {"hours_earlier": [float(value) for value in found.hours_earlier], "codes": rows}


def _interactions(explained: Explained, explanation: Explanation) -> list[dict[str, Any]]:
    """All pairs of the measurements with the largest credits, those that need or replace each other most first."""
    rows = explanation.measurements.with_row_index("row").sort(
        pl.col(CREDIT).abs(), descending=True, maintain_order=True
    )
    chosen = sorted(rows["row"].head(_PAIRED).to_list())
    pairs = list(itertools.combinations(chosen, 2))
    if not pairs:
        return []
    together = interactions(explained.score, explained.sample, pairs)
    alone = removal(explained.score, explained.sample).credit
    found = [
        {
            "first": first,
            "second": second,
            "alone": float(alone[first]),
            "other_alone": float(alone[second]),
            "together": float(value),
        }
        for (first, second), value in zip(pairs, together, strict=True)
    ]
    return sorted(found, key=lambda row: -abs(float(row["together"])))


def _looks(explained: Explained) -> list[dict[str, Any]]:
    score: object = explained.score
    if not isinstance(score, ShowsHeads) or bool(explained.sample.padding_mask.all()):
        return []
    return [
        {"pooling": np.round(each.pooling, 6).tolist(), "hours": [float(hour) for hour in each.hours]}
        for each in score.looks(explained.sample)
    ]


def _trajectory(explained: Explained, explanation: Explanation, since: float) -> pl.DataFrame:
    """Risks along the stay, at least one: that of the prediction itself."""
    every = None
    if since > 0:
        every = next((each for each in _LENGTHS if since <= each * _MOST_POINTS), since / _MOST_POINTS)
    course = Course(subject_id=explanation.subject_id, every_hours=every)
    try:
        found = risks_along(explained.predictor, explained.run, explained.dataset, course)
    except CohortError:  # no admission to count from
        found = risks_along(
            explained.predictor,
            explained.run,
            explained.dataset,
            dataclasses.replace(course, every_hours=None),
        )
    return this_stay(found, explanation.prediction_time, since)


def this_stay(risks: pl.DataFrame, prediction_time: str, since: float) -> pl.DataFrame:
    """Risks of the stay that is explained, up to the prediction, in order.

    Args:
        risks: Of all stays of the subject.
        prediction_time: ISO time of the prediction.
        since: Hours from the stay's admission to it; NaN where unknown.
    """
    end = dt.datetime.fromisoformat(prediction_time)
    kept = pl.col(schema.PREDICTION_TIME) <= end
    if since > 0:
        kept &= pl.col(schema.PREDICTION_TIME) > end - dt.timedelta(hours=since)
    return risks.filter(kept).sort(schema.PREDICTION_TIME)


def _compared(run: Run, explanation: Explanation) -> dict[str, Any] | None:
    """What others got when the run was judged."""
    path = run.evaluation / "predictions.parquet"
    if not path.is_file():
        return None
    frame = pl.read_parquet(path)
    risk = frame[schema.PREDICTED_PROBABILITY].to_numpy()
    return {
        "split": str(read_json(run.evaluation / "evaluation.json").get("split", "")),
        "predictions": len(frame),
        "mean_risk": float(risk.mean()),
        "outcome_share": float(frame[schema.BOOLEAN_VALUE].cast(pl.Float64).mean()),  # type: ignore[arg-type]
        "share_below": float((risk < explanation.risk - 1e-9).mean()),
    }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
