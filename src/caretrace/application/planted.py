"""A model of the virtual hospital with a planted rule of death, and held-out records with their truth."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from torch import nn

from caretrace import schema
from caretrace.application import Progress, Supervised
from caretrace.application.predictor import member_logits
from caretrace.application.rule_score import RuleScore
from caretrace.application.tasks import find_task
from caretrace.cohort import build_labels
from caretrace.data.inputs import HOURS_BEFORE, SAMPLE, Inputs
from caretrace.data.samples import Preprocessor, Samples
from caretrace.dataset import Dataset
from caretrace.evaluation import auroc
from caretrace.explain.faithfulness import Case
from caretrace.explain.scores import row
from caretrace.hospital import HospitalConfig, simulate
from caretrace.hospital.config import Rule
from caretrace.hospital.rules import EVENTS
from caretrace.ingest import ingest
from caretrace.training.run import fit

# The one whose prediction time all planted events precede, and whose gap the rules leave untouched.
TASK = "in_icu_death_24h"
_SAME_MOMENT_HOURS = 0.01
_STAY_HOURS = 24.0


@dataclasses.dataclass(frozen=True)
class World:
    """A trained ensemble and the held-out split of its hospital.

    Args:
        rule: The planted rule.
        members: The ensemble, in evaluation mode.
        samples: Held-out samples.
        cases: Records of held-out subjects who died and for whom the rule held, with their truth.
        rule_score: The rule itself as a score of the same records.
        auroc: Of the ensemble, on the held-out split.
    """

    rule: Rule
    members: list[nn.Module]
    samples: Samples
    cases: list[Case]
    rule_score: RuleScore
    auroc: float


def make_world(
    application: Supervised, config: Any, hospital: HospitalConfig, folder: Path, progress: Progress
) -> World:
    """Simulate, ingest, label, train: all the real code, nothing for show.

    Args:
        application: The application whose model is trained.
        config: Its settings.
        hospital: What to simulate; exactly one rule.
        folder: Where the tables, the dataset and the checkpoints go.
        progress: Told about each piece of work.
    """
    (rule,) = hospital.rules
    dataset = _dataset(hospital, folder, progress)
    labels = build_labels(dataset, find_task(application, dataset, TASK))
    inputs = {
        split: application.collect(
            dataset, labels.frame, split, lambda n, of: progress(f"{rule}: reading", n, of)
        )
        for split in schema.SPLITS
    }
    preprocessor = application.preprocess(inputs[schema.TRAIN], config)
    samples = {split: preprocessor.transform(part) for split, part in inputs.items()}
    epochs = config.training.epochs(config.training.max_steps, len(samples[schema.TRAIN]))
    (folder / "run").mkdir()
    members = fit(
        lambda: application.model(preprocessor, config),
        samples[schema.TRAIN],
        samples[schema.TUNING],
        config.training,
        folder / "run",
        lambda record: progress(f"{rule}: training member {record['member'] + 1}", record["epoch"], epochs),
    )
    held_out = samples[schema.HELD_OUT]
    truth = pl.read_parquet(folder / "raw" / "truth" / "rule_events.parquet")
    codes = preprocessor.vocabulary.encode(pl.Series([event.code for event in EVENTS[rule]]))
    return World(
        rule,
        members,
        held_out,
        cases_of(inputs[schema.HELD_OUT], held_out, preprocessor, truth, rule),
        RuleScore(rule, codes.tolist(), _STAY_HOURS),
        auroc(held_out.outcomes, member_logits(members, held_out).mean(0)),
    )


def _dataset(hospital: HospitalConfig, folder: Path, progress: Progress) -> Dataset:
    """Simulated tables, ingested."""
    rule, done = hospital.rules[0], 0.0

    def simulated(people: float) -> None:
        nonlocal done
        done += people
        progress(f"{rule}: simulating", done, hospital.subjects)

    simulate(folder / "raw", hospital, simulated)
    progress(f"{rule}: ingesting", 0, None)
    ingest("hospital", folder / "raw", folder / "dataset")
    return Dataset(folder / "dataset")


def cases_of(
    inputs: Inputs, samples: Samples, preprocessor: Preprocessor, truth: pl.DataFrame, rule: Rule
) -> list[Case]:
    """Records whose outcome came about by the rule, each measurement marked with its part in it.

    Args:
        inputs: Held-out inputs.
        samples: The same as samples.
        preprocessor: What made them.
        truth: `truth/rule_events.parquet` of the hospital.
        rule: The planted rule.
    """
    codes = [code for event in EVENTS[rule] for code in (event.code, event.end_code) if code]
    found = preprocessor.kept(inputs).partition_by(SAMPLE, as_dict=True)
    cases = []
    for number in np.flatnonzero(samples.outcomes > 0.5):
        label = inputs.labels.row(int(number), named=True)
        own = truth.filter(pl.col(schema.SUBJECT_ID) == label[schema.SUBJECT_ID]).with_columns(
            before=(pl.lit(label[schema.PREDICTION_TIME]) - pl.col("time")).dt.total_seconds() / 3600
        )
        own = own.filter(pl.col("before").is_between(0, _STAY_HOURS))
        rows = found.get((int(number),))
        if rows is None:
            continue
        planted = _marks(rows, own.filter(pl.col("carries")))
        decoy = _marks(rows, own.filter(pl.col("role") == "decoy"))
        ignored = rows[schema.CODE].is_in(codes).to_numpy() & ~planted & ~decoy
        sample = row(samples.batch(np.array([number])), 0)
        if planted.any() and len(planted) == sample.code.shape[1]:
            cases.append(Case(sample, planted, decoy, ignored))
    return cases


def _marks(rows: pl.DataFrame, listed: pl.DataFrame) -> np.ndarray:
    """Which measurements the truth lists, by code and moment."""
    marks = np.zeros(len(rows), dtype=bool)
    hours = rows[HOURS_BEFORE].to_numpy()
    for code, before in listed.select("code", "before").iter_rows():
        marks |= (rows[schema.CODE] == code).to_numpy() & (np.abs(hours - before) < _SAME_MOMENT_HOURS)
    return marks
