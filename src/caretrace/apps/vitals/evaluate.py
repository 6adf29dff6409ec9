"""Judge a monitor on subjects it has never seen, beside what a ward has today and what the literature has.

Events are those of the run's `events` file, or of `metadata/known_events.parquet` in the dataset, where the judged
subjects have any, else deviations put into their recordings (`detector/deviations.py`): then the signals are real and
only the events are not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from caretrace import schema
from caretrace.application import Progress
from caretrace.application.run import Run
from caretrace.apps.vitals.config import PolicyConfig
from caretrace.apps.vitals.detector.deviations import deviate
from caretrace.apps.vitals.detector.fitting import deviation_settings
from caretrace.apps.vitals.document.joint import Labelled
from caretrace.apps.vitals.document.table import document_table
from caretrace.apps.vitals.drift import Reference
from caretrace.apps.vitals.gates import RATE_WITHIN, gates
from caretrace.apps.vitals.judging import (
    CROSSING,
    LASTING_SECONDS,
    VUS_DRAWS,
    Figure,
    Steps,
    Truth,
    blocks,
    burden,
    crossings,
    episodes,
    labels_of,
    load_at_recall,
    vus_pr,
    warning,
    watched_days,
)
from caretrace.apps.vitals.model import APPLICATION, Monitor, as_scores, load_monitor, margins
from caretrace.apps.vitals.outcomes import outcomes
from caretrace.apps.vitals.policy import Alarms, Scores, false_rate
from caretrace.apps.vitals.task import Recordings, collect
from caretrace.apps.vitals.training import event_table, events_file, read_events
from caretrace.comparators.early_warning import limit_violations, news2
from caretrace.comparators.monitoring import NAMES, build_monitoring
from caretrace.data.grid import Stretch
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, OutputExistsError
from caretrace.evaluation.detection import Events

OURS, DOCUMENT = "vitals", "conv-lstm-autoencoder"
NEWS2_URGENT = 5.0
_BLOCK_SECONDS = 60.0
_STRETCH_STEPS = 6  # widest soft edge of VUS, blocks
_SPO2_BIAS = 2.0
Rivals = Mapping[str, Sequence[npt.NDArray[np.float64]]]


def evaluate(
    run: Run, dataset: Dataset | None, *, split: str | None, replicates: int, seed: int, progress: Progress
) -> dict[str, Any]:
    """The figures of `caretrace evaluate --json`; see `application.Own.evaluate`."""
    stored = run.read()
    data = dataset or run.dataset()
    monitor = load_monitor(run.bundle)
    progress("reading recordings", 0, None)
    held = collect(data, monitor.config.grid, split, like=monitor.like)
    plain = held
    # Another dataset has other subjects, perhaps with the same numbers: the run's own events are not theirs.
    known = events_file(data, monitor.config.events if dataset is None else None)
    truth, held = find_truth(monitor, held, known, seed)
    trained = collect(run.dataset(), monitor.config.grid, schema.TRAIN, like=monitor.like)
    progress("comparators", 0, None)
    theirs = rival_scores(held, trained, seed)
    figures = judge(monitor, held, truth, theirs, replicates, seed, progress)
    return {
        "application": APPLICATION,
        "split": split or "all",
        "source": stored["source"],
        "outcomes": _outcomes(monitor, data, split, plain, replicates, seed),
        **figures,
    }


def judge(
    monitor: Monitor,
    held: Recordings,
    truth: Truth,
    theirs: Rivals,
    replicates: int,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Every figure of a monitor on recordings of known truth; nothing is read or written.

    Args:
        monitor: A trained monitor.
        held: Recordings of subjects it has never seen.
        truth: What happened to them.
        theirs: Scores of the comparators, from `rival_scores`.
        replicates: Resamples of subjects.
        seed: Of the resamples.
        progress: Told what is done.
    """
    progress("scoring", 0, None)
    judged = _Judged(monitor, held, truth, replicates, seed)
    found = judged.ours()
    vus, apart = vus_pr(judged.steps(theirs), OURS, _STRETCH_STEPS, seed, min(VUS_DRAWS, replicates))
    comparators = judged.comparators(vus)
    progress("a shifted sensor", 0, None)
    shifted = judged.shifted()
    metrics = {**found, **({"vus_pr": vus[OURS]} if vus else {})}
    return {
        "n_subjects": len(held.subjects),
        "n": int(truth.events.onset.size),
        "patient_days": watched_days(held.watched()),
        "design": monitor.design,
        "events": truth.source,
        "metrics": metrics,
        "comparators": comparators,
        "paired": {name: {"vus_pr": value} for name, value in apart.items()},
        "shifted": shifted,
        "document_table": judged.document_table(),
        "gates": gates(
            metrics, comparators, apart, shifted, monitor.config.policy, held.settings.step_seconds
        ),
    }


def rival_scores(held: Recordings, trained: Recordings, seed: int) -> Rivals:
    """Scores of every comparator, minute by minute (or step by step, where that is longer).

    Args:
        held: Recordings to score.
        trained: Recordings of training subjects, for those that learn.
        seed: Of those that draw.

    Returns:
        Name → recording → [block].
    """
    size = max(1, round(_BLOCK_SECONDS / held.settings.step_seconds))
    step = held.settings.step_seconds * size
    shown = [_averaged(stretch, size) for stretch in held.stretches]
    known = [_averaged(stretch, size) for stretch in trained.stretches]
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    for name in NAMES:
        model = build_monitoring(name, held.channels, step, max(1800.0, 6 * step), seed)
        model.fit(known)
        found[name] = [model.score(values) for values in shown]
    return found


def _outcomes(
    monitor: Monitor, data: Dataset, split: str | None, plain: Recordings, replicates: int, seed: int
) -> dict[str, dict[str, float]]:
    """What the scores of recordings as they are say of later outcomes."""
    scores = monitor.scores(plain.stretches)
    above = [margins(each, monitor.thresholds[monitor.design]) for each in scores]
    return outcomes(data, split, scores, above, replicates, seed)


def predict(
    run: Run, dataset: Dataset, out: Path, *, split: str | None, progress: Progress
) -> dict[str, Any]:
    """Write one row per alarm: `subject_id`, `time`, `reason`.

    Raises:
        OutputExistsError: The file is there.
    """
    if out.exists():
        raise OutputExistsError(f"{out} already exists: choose another output path or remove it first")
    monitor = load_monitor(run.bundle)
    progress("reading recordings", 0, None)
    found = collect(dataset, monitor.config.grid, split, like=monitor.like)
    alarms = monitor.alarms(monitor.scores(found.stretches))
    times = pl.Series(np.rint(alarms.time * 1e6).astype(np.int64)).cast(pl.Datetime("us"))
    table = pl.DataFrame(
        {schema.SUBJECT_ID: alarms.subject, schema.TIME: times, "reason": list(alarms.reason)},
        schema_overrides={"reason": pl.String},
    )
    partial = out.with_name(f".{out.name}.partial")
    table.write_parquet(partial)
    partial.rename(out)
    days = watched_days(found.watched())
    return {
        "alarms": len(table),
        "subjects": len(found.subjects),
        "patient_days": days,
        "alarms_per_patient_day": len(table) / days,
        "out": str(out),
    }


def find_truth(monitor: Monitor, held: Recordings, known: Path | None, seed: int) -> tuple[Truth, Recordings]:
    """Known events of the judged subjects; without any, deviations are put into the recordings.

    Raises:
        CohortError: No event, and recordings too short to put one in.
    """
    events = read_events(known, held.subjects)
    if events.onset.size:
        table = event_table(cast("Path", known), held.subjects)
        course = table["course"].to_list() if "course" in table.columns else ["abrupt"] * len(table)
        return Truth(events, np.array([each == "abrupt" for each in course]), "truth"), held
    rng = np.random.default_rng(seed)
    scaler, step = monitor.scorer.scaler, held.settings.step_seconds
    settings = deviation_settings(held, scaler)
    sudden = held.resolution.deviations.sudden / step
    changed, rows = [], []
    for stretch in held.stretches:
        found = deviate(stretch.values, settings, sudden, rng)
        changed.append(dataclasses.replace(stretch, values=found.values))
        begin = stretch.first * step
        rows += [
            (stretch.subject, begin + onset * step, begin + end * step, abrupt)
            for onset, end, abrupt in zip(found.onset, found.end, found.abrupt, strict=True)
        ]
    if not rows:
        raise CohortError(
            f"{len(held.stretches)} recordings of {watched_days(held.watched()):.2f} patient-days are too few to put "
            "events into; name a file of known events in `events` when training, or judge on more subjects"
        )
    subject, onset, end, abrupt = (np.array(column) for column in zip(*rows, strict=True))
    truth = Truth(Events(subject.astype(np.int64), onset, end), abrupt.astype(bool), "deviations put in")
    return truth, dataclasses.replace(held, stretches=changed)


class _Judged:
    """Everything that is asked of one set of recordings."""

    def __init__(self, monitor: Monitor, held: Recordings, truth: Truth, replicates: int, seed: int) -> None:
        self.monitor, self.held, self.truth = monitor, held, truth
        self.replicates, self.seed = replicates, seed
        self.policy: PolicyConfig = monitor.config.policy
        self.watched = held.watched()
        self.times = [held.times(stretch) for stretch in held.stretches]
        self.scored = monitor.scored(held.stretches)
        self.scores = (
            monitor.scores(held.stretches)
            if monitor.design == DOCUMENT
            else as_scores(held, held.stretches, self.scored)
        )
        self.alarms = monitor.alarms(self.scores)

    def ours(self) -> dict[str, Figure]:
        """Recall, false alarms, delay and warning of the run's own design."""
        figures = self._burden(self.alarms)
        for name, lasting in (("warning_median", LASTING_SECONDS), ("warning_median_15_s", 15.0)):
            crossed = crossings(self.truth, self.held.stretches, self.times, self.held.channels, lasting)
            value = warning(
                self.truth, self.alarms, crossed, self.policy.early_seconds, self.replicates, self.seed
            )
            if value is not None:
                figures[name] = value
        return figures

    def _burden(self, alarms: Alarms) -> dict[str, Figure]:
        return burden(self.truth, alarms, self.watched, self.policy, self.replicates, self.seed)

    def steps(self, theirs: Rivals) -> Steps:
        """Scores of ours, the document's and every comparator, minute by minute."""
        size = max(1, round(_BLOCK_SECONDS / self.held.settings.step_seconds))
        thresholds = self.monitor.thresholds[self.monitor.design]
        scores: dict[str, list[npt.NDArray[np.float64]]] = {
            OURS: [blocks(margins(each, thresholds), size) for each in self.scores]
        }
        if self.monitor.document is not None and self.monitor.design != DOCUMENT:
            own = self.monitor.scores(self.held.stretches, DOCUMENT)
            limits = self.monitor.thresholds[DOCUMENT]
            scores[DOCUMENT] = [blocks(margins(each, limits), size) for each in own]
        scores |= {name: list(each) for name, each in theirs.items()}
        labels = [
            blocks(labels_of(self.truth, stretch.subject, when).astype(np.float64), size) > 0
            for stretch, when in zip(self.held.stretches, self.times, strict=True)
        ]
        subjects = [stretch.subject for stretch in self.held.stretches]
        owner = np.repeat(subjects, [len(label) for label in labels])
        return Steps(
            owner.astype(np.int64),
            np.concatenate(labels),
            {name: np.concatenate(parts) for name, parts in scores.items()},
        )

    def document_table(self) -> dict[str, float]:
        """What the document asked of its models; nothing where they were not fitted."""
        labels = [
            labels_of(self.truth, stretch.subject, when)
            for stretch, when in zip(self.held.stretches, self.times, strict=True)
        ]
        held, monitor = self.held, self.monitor
        found: dict[str, float] = {}
        if monitor.document is not None:
            found |= document_table(monitor.document, held.stretches, held.channels, labels)
        if monitor.joint is not None:
            found |= monitor.joint.table(Labelled(held.stretches, labels), held.channels, self.seed)
        return found

    def comparators(self, vus: dict[str, Figure]) -> dict[str, dict[str, Figure]]:
        """Figures of everything else; rules a ward has today raise alarms, and their load is set beside ours."""
        found: dict[str, dict[str, Figure]] = {
            name: {"vus_pr": value} for name, value in vus.items() if name != OURS
        }
        limits = {name: bounds for name, bounds in CROSSING.items() if name in self.held.channels}
        rules = {
            "limits": self._rule(lambda shown, step: limit_violations(shown, step, 0.0, limits)),
            "limits_15_s": self._rule(lambda shown, step: limit_violations(shown, step, 15.0, limits)),
            "news2": self._rule(lambda shown, _: news2(shown).points >= NEWS2_URGENT),
        }
        if self.monitor.document is not None and self.monitor.design != DOCUMENT:
            own = self.monitor.scores(self.held.stretches, DOCUMENT)
            rules[DOCUMENT] = self.monitor.alarms(own, DOCUMENT)
        days = watched_days(self.watched)
        thresholds = self.monitor.thresholds[self.monitor.design]
        for name, alarms in rules.items():
            figures = self._burden(alarms)
            load, reached = load_at_recall(
                self.scores, thresholds, self.truth, figures["event_recall"]["value"], days, self.policy
            )
            theirs = figures["alarms_per_patient_day"]["value"]
            if reached >= figures["event_recall"]["value"] and theirs > 0:
                figures["our_alarms_at_its_recall"] = _exact(load)
                figures["our_recall_then"] = _exact(reached)
                figures["our_share_of_its_alarms"] = _exact(load / theirs)
            found[name] = {**found.get(name, {}), **figures}
        return found

    def _rule(self, sounding: Any) -> Alarms:
        subject: list[int] = []
        time: list[float] = []
        step = self.held.settings.step_seconds
        for stretch, when in zip(self.held.stretches, self.times, strict=True):
            shown = dict(zip(self.held.channels, stretch.values, strict=True))
            begins = episodes(np.asarray(sounding(shown, step), bool))
            subject += [stretch.subject] * len(begins)
            time += when[begins].tolist()
        return Alarms(np.array(subject, np.int64), np.array(time, np.float64), ("rule",) * len(time))

    def shifted(self) -> dict[str, Any]:
        """The same recordings from a sensor that reads 2 % more saturation, and from one that is twice as noisy."""
        rng = np.random.default_rng(self.seed)
        cases = {
            "unchanged": self.held.stretches,
            "spo2_bias": [_biased(stretch, self.held.channels) for stretch in self.held.stretches],
            "double_noise": [_noisier(stretch, rng) for stretch in self.held.stretches],
        }
        days = watched_days(self.watched)
        found: dict[str, Any] = {}
        for name, stretches in cases.items():
            scored = self.monitor.scored(stretches)
            scores: Sequence[Scores] = (
                self.monitor.scores(stretches)
                if self.monitor.design == DOCUMENT
                else as_scores(self.held, stretches, scored)
            )
            alarms = self.monitor.alarms(scores)
            rate = false_rate(alarms, self.truth.events, days, self.policy.early_seconds)
            now = Reference.of(
                self.held.channels, [each.values for each in stretches], [each.residuals for each in scored]
            )
            drift = self.monitor.reference.compare(now)
            nominal = self.policy.false_alarms_per_day
            found[name] = {
                "false_alarms_per_patient_day": rate,
                "held": bool(abs(rate / nominal - 1) <= RATE_WITHIN),
                "flagged": list(drift.flagged),
            }
        return found


def _exact(value: float) -> Figure:
    return {"value": value, "low": value, "high": value}


def _averaged(stretch: Stretch, size: int) -> npt.NDArray[np.float32]:
    """[channel, block], mean of what was measured; NaN where nothing was."""
    at = np.arange(0, len(stretch), size)
    total = np.add.reduceat(np.nan_to_num(stretch.values), at, axis=1)
    count = np.add.reduceat(stretch.observed.astype(np.float32), at, axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _biased(stretch: Stretch, channels: tuple[str, ...]) -> Stretch:
    values = stretch.values.copy()
    if "spo2" in channels:
        row = channels.index("spo2")
        values[row] = np.minimum(values[row] + _SPO2_BIAS, 100)
    return dataclasses.replace(stretch, values=values)


def _noisier(stretch: Stretch, rng: np.random.Generator) -> Stretch:
    """Twice the noise from step to step: what is added has three times its variance."""
    apart = np.diff(stretch.values, axis=1)
    sd = [
        1.4826 * float(np.median(np.abs(row[~np.isnan(row)]))) / np.sqrt(2) if (~np.isnan(row)).any() else 0.0
        for row in apart
    ]
    added = np.sqrt(3) * np.array(sd)[:, None] * rng.standard_normal(stretch.values.shape)
    return dataclasses.replace(stretch, values=(stretch.values + added).astype(np.float32))
