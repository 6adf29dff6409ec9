"""From a MEDS dataset to a run folder with a monitor in it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.application import Progress
from caretrace.application.run import Run, describe
from caretrace.apps.vitals.config import VitalsConfig
from caretrace.apps.vitals.detector.deviations import deviate
from caretrace.apps.vitals.detector.fitting import (
    COVERED,
    LOSSES,
    deviation_settings,
    fit_detector,
    teaching,
    usual_spread,
)
from caretrace.apps.vitals.detector.material import KnownEvents
from caretrace.apps.vitals.detector.network import AUTO, LASTING, REASONS
from caretrace.apps.vitals.detector.scoring import RECONSTRUCTION, SURPRISE, Scorer
from caretrace.apps.vitals.document.joint import Joint, Labelled
from caretrace.apps.vitals.document.monitor import DocumentMonitor
from caretrace.apps.vitals.drift import Reference
from caretrace.apps.vitals.model import APPLICATION, REASONS_OF, Monitor, as_scores, build_scorer
from caretrace.apps.vitals.policy import Thresholds, choose_thresholds
from caretrace.apps.vitals.task import Recordings, collect
from caretrace.config import to_dict
from caretrace.data.grid import ChannelScaler, Stretch
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, ConfigError, InputError
from caretrace.evaluation.detection import Events
from caretrace.evaluation.vus import volumes
from caretrace.files import refuse_existing

TITLE = "Alarms from vital signs"
KNOWN_EVENTS = "known_events.parquet"
# Designs that `auto` chooses from, by the score that goes on while somebody gets worse; the first of equals.
COMPARED = {"evidence": REASONS[LASTING], "likelihood": SURPRISE, "reconstruction": RECONSTRUCTION}
_THINNED = 20_000  # steps on which designs are compared


def train(
    dataset: Dataset,
    config: VitalsConfig,
    path: Path,
    limits: Sequence[str],
    *,
    resume: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Learn from training subjects, choose thresholds on tuning subjects, write the run.

    Raises:
        ConfigError: Asked to go on with an interrupted run.
        CaretraceError: Anything else the user can mend; the message says how.
    """
    if resume:
        raise ConfigError("vitals trains in minutes and keeps no checkpoints: train anew into another folder")
    refuse_existing(path)
    learned = collect(dataset, config.grid, schema.TRAIN, progress=_files(progress, "reading training"))
    tuned = collect(
        dataset, config.grid, schema.TUNING, like=learned, progress=_files(progress, "reading tuning")
    )
    file = events_file(dataset, config.events)
    events = read_events(file, tuned.subjects)
    known = read_known(file, learned, tuned)
    fitted = fit_monitor(config, learned, tuned, events, known, progress)
    monitor, found, log = fitted.monitor, fitted.found, fitted.log
    metrics = {**{f"loss_{k}": log[-1][k] for k in LOSSES}, **found}
    run = Run(path)
    run.start(describe(APPLICATION, TITLE, dataset, None, to_dict(config), config.seed), dataset)
    lines = "".join(json.dumps(record) + "\n" for record in log)
    (path / "metrics.jsonl").write_text(lines, encoding="utf-8")
    run.bundle.mkdir()
    monitor.save(run.bundle, metrics, card(config, dataset, found, limits))
    run.update(
        tuning=metrics,
        design=monitor.design,
        taught_by=teaching(config.detector, known),
        document_left_out=fitted.left_out,
        channels=list(learned.channels),
        step_seconds=learned.settings.step_seconds,
        n_train=len(learned.subjects),
        n_tuning=len(tuned.subjects),
        backbone=monitor.config.detector.backbone,
    )
    return run.read()


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What training leaves.

    Args:
        monitor: The trained monitor.
        found: Which design was chosen, and what is known of its rate of false alarms.
        log: Losses of each epoch of the detector.
        left_out: Why there is no model of the document; empty where there is one or none was wanted.
    """

    monitor: Monitor
    found: dict[str, Any]
    log: list[dict[str, float]]
    left_out: str


def fit_monitor(
    config: VitalsConfig,
    learned: Recordings,
    tuned: Recordings,
    events: Events,
    known: KnownEvents | None,
    progress: Progress,
) -> Fitted:
    """Learn, and choose thresholds; nothing is read or written.

    Args:
        config: Settings.
        learned: Recordings of training subjects.
        tuned: Recordings of tuning subjects.
        events: Known events of tuning subjects, alarms in which are not false; may be empty.
        known: Known events to learn from; see `detector.taught_by`.
        progress: Told what is done.
    """
    if config.detector.backbone == AUTO:
        resolved = dataclasses.replace(config.detector, backbone=learned.resolution.backbone)
        config = dataclasses.replace(config, detector=resolved)
    scaler = usual_spread(learned.stretches, learned.channels)
    detector, log = fit_detector(
        learned,
        scaler,
        config.detector,
        config.seed,
        lambda record: progress("training the detector", record["epoch"] + 1, record["of"]),
        tuned,
        known,
    )
    document, left_out = _document(config, learned, progress)
    progress("choosing thresholds on tuning subjects", 0, None)
    scorer = build_scorer(_empty(learned), scaler, detector)
    monitor, found = _tuned(config, tuned, scorer, document, events)
    found |= {name: log[-1][name] for name in COVERED}
    if config.document.fused:
        progress("training the document's fusion", 0, None)
        rng = np.random.default_rng(config.seed + 2)
        taught, chosen = (Labelled(*deviated_recordings(each, scaler, rng)) for each in (learned, tuned))
        joint = Joint.fit(learned, taught, chosen, config.document, config.seed)
        monitor = dataclasses.replace(monitor, joint=joint)
    return Fitted(monitor, found, log, left_out)


def _document(
    config: VitalsConfig, learned: Recordings, progress: Progress
) -> tuple[DocumentMonitor | None, str]:
    """The document's model, or why the run stands without it."""
    needed = config.design == "conv-lstm-autoencoder"
    if not (config.document.fitted or needed):
        return None, ""
    progress("training the document's model", 0, None)
    try:
        return DocumentMonitor.fit(learned, config.document, config.seed), ""
    except CohortError as error:
        if needed:
            raise
        return None, str(error)  # the recommended model can do without


def events_file(dataset: Dataset, given: str | None) -> Path | None:
    """Where known events of a dataset's subjects stand: what was given, else `metadata/known_events.parquet` in it.

    Ingest never writes that file: the truth of a simulation, or what people found in charts, is put there by hand.
    """
    beside = dataset.path / schema.METADATA_DIR / KNOWN_EVENTS
    return Path(given) if given is not None else beside if beside.is_file() else None


def read_events(path: Path | None, subjects: list[int]) -> Events:
    """Known events of some subjects, from a Parquet file with `subject_id`, `onset` and `end`; none without one.

    Raises:
        InputError: The file cannot be read or lacks a column.
    """
    if path is None:
        nothing = np.zeros(0)
        return Events(nothing.astype(np.int64), nothing, nothing)
    table = event_table(path, subjects)
    return Events(
        table[schema.SUBJECT_ID].to_numpy().astype(np.int64),
        _seconds(table["onset"]),
        _seconds(table["end"]),
    )


def read_known(path: Path | None, learned: Recordings, tuned: Recordings) -> KnownEvents | None:
    """Known events of training and tuning subjects, to learn from and to choose the best epoch by.

    An event is sudden for some minutes (two hours on charts) after its `peak`, or its `onset` where there is no such
    column; never where a column `course` says `gradual`.

    Args:
        path: Parquet file as in `event_table`, or None.
        learned: Recordings of training subjects.
        tuned: Recordings of tuning subjects.

    Returns:
        None without a file or without an event of a training subject.
    """
    if path is None or not len(event_table(path, learned.subjects)):
        return None
    table = event_table(path, [*learned.subjects, *tuned.subjects])
    onset, end = _seconds(table["onset"]), _seconds(table["end"])
    peak = _seconds(table["peak"]) if "peak" in table.columns else onset
    until = np.minimum(peak + learned.resolution.deviations.sudden, end)
    if "course" in table.columns:
        until = np.where((table["course"] == "gradual").to_numpy(), onset, until)
    return KnownEvents(table[schema.SUBJECT_ID].to_numpy().astype(np.int64), onset, end, until)


def event_table(path: Path, subjects: list[int]) -> pl.DataFrame:
    """The rows of a file of events that belong to some subjects, in order of subject and onset.

    Raises:
        InputError: The file cannot be read or lacks a column.
    """
    needed = (schema.SUBJECT_ID, "onset", "end")
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"events {path}: not readable as Parquet ({error}); check the path") from None
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise InputError(
            f"events {path}: column {missing[0]} is missing, found {', '.join(table.columns)}; one row per event with "
            f"{', '.join(needed)} (times)"
        )
    return table.filter(pl.col(schema.SUBJECT_ID).is_in(subjects)).sort(schema.SUBJECT_ID, "onset")


def _seconds(times: pl.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
    return times.dt.epoch("us").to_numpy().astype(np.float64) / 1e6


def _files(progress: Progress, what: str) -> Any:
    return lambda done, total: progress(what, done, total)


def _empty(recordings: Recordings) -> Recordings:
    return dataclasses.replace(recordings, stretches=[])


def _tuned(
    config: VitalsConfig,
    tuned: Recordings,
    scorer: Scorer,
    document: DocumentMonitor | None,
    events: Events,
) -> tuple[Monitor, dict[str, Any]]:
    """Thresholds of every design, and which design raises the alarms."""
    scored = scorer.score([stretch.values for stretch in tuned.stretches])
    reference = Reference.of(
        tuned.channels, [stretch.values for stretch in tuned.stretches], [each.residuals for each in scored]
    )
    monitor = Monitor(config, "evidence", _empty(tuned), scorer, document, {}, reference)
    watched, thresholds = tuned.watched(), {}
    for design, reasons in REASONS_OF.items():
        if design == "conv-lstm-autoencoder":
            if document is None:
                continue
            scores = monitor.scores(tuned.stretches, design)
        else:
            scores = as_scores(tuned, tuned.stretches, scored)
        thresholds[design] = choose_thresholds(scores, reasons, events, watched, config.policy)
    found: dict[str, Any] = {}
    design = config.design
    if design == "auto":
        found = compare_designs(tuned, scorer, config)
        design = max(COMPARED, key=lambda name: found[f"vus_pr_{name}"])
    chosen: Thresholds = thresholds[design]
    found |= {
        "backbone": config.detector.backbone,
        "design": design,
        "false_alarms_per_patient_day": chosen.tuning_rate,
        "patient_days": chosen.tuning_days,
        "guaranteed_rate": chosen.bound,
    }
    return dataclasses.replace(monitor, design=design, thresholds=thresholds), found


def compare_designs(tuned: Recordings, scorer: Scorer, config: VitalsConfig) -> dict[str, float]:
    """VUS-PR of each of `COMPARED` on tuning recordings with deviations in them; no labels are needed."""
    rng = np.random.default_rng(config.seed + 1)
    deviated, labels = deviated_recordings(tuned, scorer.scaler, rng)
    scored = scorer.score([stretch.values for stretch in deviated])
    thin = max(1, sum(map(len, deviated)) // _THINNED)
    truth = np.concatenate([each[::thin] for each in labels])
    owner = np.repeat(np.arange(len(labels)), [len(each[::thin]) for each in labels])
    if not 0 < truth.sum() < truth.size:
        return {f"vus_pr_{name}": 0.0 for name in COMPARED}
    found = {}
    for name, reason in COMPARED.items():
        scores = np.concatenate([each.scores[reason][::thin] for each in scored])
        found[f"vus_pr_{name}"] = volumes(truth, scores, 6, owner).pr
    return found


def deviated_recordings(
    recordings: Recordings, scaler: ChannelScaler, rng: np.random.Generator, per_day: float | None = None
) -> tuple[list[Stretch], list[np.ndarray[Any, np.dtype[np.bool_]]]]:
    """Recordings with deviations of known truth in them.

    Args:
        recordings: As they are.
        scaler: In whose units deviations are drawn.
        rng: Source of chance.
        per_day: Mean number per patient-day; None as in training.

    Returns:
        Recordings in the channels' units, and for each [step] whether a deviation lasts.
    """
    settings = deviation_settings(recordings, scaler, per_day)
    sudden = recordings.resolution.deviations.sudden / recordings.settings.step_seconds
    found, labels = [], []
    for stretch in recordings.stretches:
        changed = deviate(stretch.values, settings, sudden, rng)
        found.append(dataclasses.replace(stretch, values=changed.values))
        labels.append(changed.during)
    return found, labels


def card(config: VitalsConfig, dataset: Dataset, found: dict[str, Any], limits: Sequence[str]) -> str:
    """The model card."""
    source = str(dataset.metadata.get("dataset_name", "unknown"))
    warnings = "\n".join(f"- {limit}" for limit in limits)
    return f"""# {TITLE}

Research use only, never a bedside device. Made by caretrace from {source} (fingerprint {dataset.fingerprint[:16]}).

Design `{found["design"]}` over backbone `{found["backbone"]}`; thresholds chosen on {found["patient_days"]:.1f}
patient-days of tuning subjects for {config.policy.false_alarms_per_day:g} false alarms per patient-day; realised there
{found["false_alarms_per_patient_day"]:.3f}. Conformal risk control would guarantee {found["guaranteed_rate"]:.3f}.

{warnings}
"""
