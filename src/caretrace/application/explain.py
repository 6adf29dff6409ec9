"""`caretrace explain`: one prediction of a run, measurement by measurement, in the record's own words."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import polars as pl
from torch import nn

from caretrace import schema
from caretrace.application import Progress, Supervised, silent
from caretrace.application.evaluate import labels_for
from caretrace.application.heads import write_heads
from caretrace.application.predictor import Predictor, member_logits
from caretrace.application.run import Run
from caretrace.application.surroundings import Explained, surroundings_of
from caretrace.cohort import Labels
from caretrace.data.batch import EventBatch
from caretrace.data.inputs import HOURS_BEFORE, Inputs
from caretrace.data.statics import StaticFeatures
from caretrace.dataset import Dataset
from caretrace.errors import BundleError, CohortError, ConfigError
from caretrace.explain import certificate as certificates
from caretrace.explain import explanation as names
from caretrace.explain.attribution import Attribution
from caretrace.explain.bundled import bundled_certificate
from caretrace.explain.certificate import Certificate
from caretrace.explain.explanation import Explanation
from caretrace.explain.groups import types as by_type
from caretrace.explain.methods import DEFAULT, Method, find_method
from caretrace.explain.patterns import critical_windows
from caretrace.explain.removal import per_group, removal, static_removal
from caretrace.explain.scores import Score, row
from caretrace.explain.surroundings import Surroundings
from caretrace.files import read_json, whole_folder, write_json
from caretrace.report.record import EXPLANATIONS
from caretrace.report.subject_page import render_subject_page
from caretrace.training.bundle import MANIFEST

FOLDER = EXPLANATIONS
WINDOW_HOURS = 4.0
LIMITS = [
    "It says what moved this model, not what harmed or helped this person: removing an event from a record is not "
    "undoing it.",
    "Credits are about the logit; a measurement that others repeat gets little by itself, so look at windows and "
    "event types, too.",
    "Research use only, never a bedside device.",
]


@runtime_checkable
class Explainable(Protocol):
    """An application whose models can be explained."""

    def score(self, members: list[nn.Module]) -> Score:
        """The ensemble's logit, with what else it can be asked (`explain.scores`)."""
        ...


def score_of(application: Supervised, members: list[nn.Module]) -> Score:
    """The score to explain.

    Raises:
        ConfigError: The application offers none.
    """
    if not isinstance(application, Explainable):
        raise ConfigError(f"{application.name} has nothing to explain yet; `mortality` has")
    return application.score(members)


def explain(
    application: Supervised,
    run: Run,
    subject_id: int | None = None,
    *,
    method: str = DEFAULT,
    dataset: Dataset | None = None,
    progress: Progress = silent,
) -> tuple[Explanation, Path]:
    """Explain the prediction for one subject, and write it into the run folder.

    Args:
        application: The run's application.
        run: The run.
        subject_id: Whom, at the last of their labels; by default the held-out subject with the highest risk.
        method: A key of `explain.methods.METHODS`.
        dataset: By default the one that the run was trained on.
        progress: Told about each piece of work.

    Returns:
        The explanation, and the folder it was written to. An explanation that is there already is replaced.

    Raises:
        CohortError: No label of that subject.
        ConfigError: No such method, or this model has not what it needs.
    """
    found = find_method(method)
    target = dataset or run.dataset()
    predictor = Predictor.from_pretrained(application, run.bundle)
    inputs = _inputs(application, target, labels_for(run, target), subject_id, progress)
    samples = predictor.preprocessor.transform(inputs)
    logits = member_logits(predictor.members, samples)
    risks = predictor.calibration.apply(logits.mean(0))
    number = int(np.argmax(risks)) if subject_id is None else len(samples) - 1
    score = score_of(application, predictor.members)
    sample = row(samples.batch(np.array([number])), 0)
    explained = Explained(run, predictor, target, samples, number, sample, score, logits)
    words = _Words(explained, inputs, found, progress)
    explanation = words.explanation(float(risks[number]), run_certificate(run, predictor))
    around = surroundings_of(explained, explanation, words.of_codes(), progress)
    write_heads(predictor, run, target, score, progress)
    time = explanation.prediction_time.replace(":", "").replace("-", "")
    folder = run.path / FOLDER / f"{explanation.subject_id}-{time}-{method}"
    _write(explanation, around, folder)
    return explanation, folder


def run_certificate(run: Run, predictor: Predictor) -> Certificate:
    """The certificate in the bundle, if it is about this configuration; else one that certifies nothing."""
    return bundled_certificate(run.bundle, predictor.application.name, run.read()["config"])


def _inputs(
    application: Supervised, dataset: Dataset, labels: Labels, subject_id: int | None, progress: Progress
) -> Inputs:
    frame = labels.frame
    if subject_id is not None:
        frame = frame.filter(pl.col(schema.SUBJECT_ID) == subject_id)
        if frame.is_empty():
            some = ", ".join(map(str, labels.frame[schema.SUBJECT_ID].unique().sort().head(5)))
            raise CohortError(
                f"subject {subject_id} has no label in this run's cohort, so there is no prediction to explain; "
                f"the cohort has {labels.frame[schema.SUBJECT_ID].n_unique()} subjects, such as {some}"
            )
    split = schema.HELD_OUT if subject_id is None else None
    found = application.collect(
        dataset, frame, split, lambda done, total: progress("reading measurements", done, total)
    )
    if not len(found):
        raise CohortError(f"{dataset.path}: no held-out subject has a label; name one with --subject")
    return found


@dataclasses.dataclass(frozen=True)
class _Words:
    """One sample and what is needed to put it into words."""

    explained: Explained
    inputs: Inputs
    method: Method
    progress: Progress

    @property
    def predictor(self) -> Predictor:
        """The run's ensemble."""
        return self.explained.predictor

    def explanation(self, risk: float, certificate: Certificate) -> Explanation:
        """Everything that is said about it."""
        sample, score = self.explained.sample, self.explained.score
        self.progress("explaining: every measurement", 0, 4)
        found = self.method.run(score, sample)
        self.progress("explaining: event types and windows", 1, 4)
        label = self.inputs.labels.row(self.explained.number, named=True)
        types = by_type(sample)
        kinds = [list(schema.EventType)[int(kind)].value for kind in np.unique(sample.event_type[0].numpy())]
        by_kind = per_group(types, removal(score, sample, types).credit)
        windows = critical_windows(score, sample, WINDOW_HOURS)
        return Explanation(
            subject_id=int(label[schema.SUBJECT_ID]),
            prediction_time=label[schema.PREDICTION_TIME].isoformat(),
            application=self.predictor.application.name,
            method=self.method.name,
            heading=certificate.heading(self.method.name),
            certified=certificate.certified(self.method.name),
            risk=risk,
            outcome=label[schema.BOOLEAN_VALUE],
            logit=found.score,
            reference=found.reference,
            reference_logit=found.reference_score,
            measurements=self._measurements(sample, score, found),
            static=self._static(sample, score, found),
            windows=[dataclasses.asdict(window) for window in windows],
            types={kind: float(credit) for kind, credit in zip(kinds, by_kind, strict=True)},
            limits=LIMITS,
        )

    def _risk(self, logits: np.ndarray) -> np.ndarray:
        return self.predictor.calibration.apply(logits)

    def _measurements(self, sample: EventBatch, score: Score, found: Attribution) -> pl.DataFrame:
        rows = self.predictor.preprocessor.kept(self.inputs)
        rows = rows.filter(pl.col("sample") == self.explained.number)
        if len(rows) != len(found.credit):
            if len(rows) == 0 and sample.padding_mask.all():
                found = dataclasses.replace(found, credit=found.credit[:0])
            else:
                raise BundleError(
                    f"the model read {len(found.credit)} measurements, the record has {len(rows)}; train again"
                )
        label = self.inputs.labels.row(self.explained.number, named=True)
        self.progress("explaining: the risk without each", 2, 4)
        without = removal(score, sample).credit[: len(rows)]
        self.progress("explaining: members one by one", 3, 4)
        spread = np.std(
            [self._alone(member, sample)[: len(rows)] for member in self.predictor.members], axis=0
        )
        microseconds = (pl.col(HOURS_BEFORE).cast(pl.Float64) * 3.6e9).round().cast(pl.Int64)
        time = pl.lit(label[schema.PREDICTION_TIME]) - pl.duration(microseconds=microseconds)
        return rows.join(self.of_codes(), on=schema.CODE, how="left", maintain_order="left").select(
            time.alias(schema.TIME),
            pl.col(HOURS_BEFORE).alias(names.HOURS_BEFORE),
            schema.CODE,
            schema.DESCRIPTION,
            schema.EVENT_TYPE,
            schema.NUMERIC_VALUE,
            schema.UNIT,
            schema.TEXT_VALUE,
            pl.Series(names.CREDIT, found.credit),
            pl.Series(names.CREDIT_SPREAD, spread),
            pl.Series(names.RISK_WITHOUT, self._risk(found.score - without)),
        )

    def _alone(self, member: nn.Module, sample: EventBatch) -> np.ndarray:
        return self.method.run(score_of(self.predictor.application, [member]), sample).credit

    def of_codes(self) -> pl.DataFrame:
        """Description and unit of each code."""
        codes = self.explained.dataset.codes
        for name in (schema.DESCRIPTION, schema.UNIT):
            if name not in codes.columns:
                codes = codes.with_columns(pl.lit(None, pl.String).alias(name))
        return codes.select(schema.CODE, schema.DESCRIPTION, schema.UNIT).unique(schema.CODE, keep="first")

    def _static(self, sample: EventBatch, score: Score, found: Attribution) -> pl.DataFrame:
        features = _static_features(self.predictor.preprocessor.static, sample)
        columns = [each.columns for each in features]
        without = static_removal(score, sample, columns)
        # A method that says nothing of static features leaves them to removal, whose credits are differences, too.
        says = bool(found.static.any())
        credit = [float(found.static[c].sum()) for c in columns] if says else without
        return pl.DataFrame(
            {
                names.FEATURE: [each.name for each in features],
                names.VALUE: [each.value for each in features],
                names.CREDIT: np.asarray(credit, dtype=np.float64),
                names.RISK_WITHOUT: self._risk(found.score - without),
            },
            schema_overrides={names.FEATURE: pl.String, names.VALUE: pl.String},
        )


@dataclasses.dataclass(frozen=True)
class _Feature:
    name: str
    value: str
    columns: list[int]


def _static_features(static: StaticFeatures, sample: EventBatch) -> list[_Feature]:
    """Age and each category as one feature, with the value of this sample."""
    values = sample.static[0].numpy()
    age = "unknown" if values[1] > 0 else f"{values[0] * static.age_std + static.age_mean:.0f} years"
    features, first = [_Feature("age", age, [0, 1])], 2
    for prefix, codes in static.categories.items():
        columns = list(range(first, first + len(codes)))
        first += len(codes)
        shown = [code for code, column in zip(codes, columns, strict=True) if values[column] > 0]
        value = shown[0].removeprefix(prefix).removeprefix(schema.CODE_SEPARATOR) if shown else "not known"
        features.append(_Feature(prefix, value, columns))
    return features


def _write(explanation: Explanation, around: Surroundings, folder: Path) -> None:
    """Explaining again is no mistake: what was there was computed from the same run."""
    if folder.exists():
        shutil.rmtree(folder)
    with whole_folder(folder) as partial:
        explanation.write(partial)
        around.write(partial)
    render_subject_page(folder)


def as_overrides(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A stored configuration as `key=value` texts, as `config.load` takes them."""
    found = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            found += as_overrides(value, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key}={json.dumps(value)}")
    return found


def put_into_bundle(certificate: Certificate, bundle: Path) -> None:
    """Let a certificate travel in a bundle, listed in its manifest like everything else there."""
    path = bundle / certificates.FILE
    manifest = cast("dict[str, Any]", read_json(bundle / MANIFEST))
    manifest["sha256"].pop(certificates.FILE, None)
    write_json(
        bundle / MANIFEST, manifest
    )  # a kill in between leaves a bundle without a certificate, not a damaged one
    certificate.save(path)
    manifest["sha256"][certificates.FILE] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(bundle / MANIFEST, manifest)
