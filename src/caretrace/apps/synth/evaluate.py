"""`caretrace evaluate` of a generator: subjects are drawn and judged, and so are those of simpler generators."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from caretrace import schema
from caretrace.application import Progress, silent
from caretrace.application.run import Run
from caretrace.apps.synth.codes import icd9
from caretrace.apps.synth.codes.sequences import Records
from caretrace.apps.synth.config import JudgingConfig
from caretrace.apps.synth.drawings import drawings
from caretrace.apps.synth.judging import PARTS, Evidence, Likelihoods, Limits, judge
from caretrace.apps.synth.models.generator import Generator, Request, iter_chunks
from caretrace.apps.synth.models.storing import load_generator, save_generator
from caretrace.apps.synth.task import collect_histories
from caretrace.apps.synth.training import Model, SynthConfig, fit_generator
from caretrace.config import from_dict
from caretrace.dataset import Dataset
from caretrace.errors import CohortError
from caretrace.evaluation.histories import Floats, Histories, join
from caretrace.files import write_json

DRAWINGS = "drawings.json"
# What a comparator is asked; the attacks and the document's figures are about the generator judged.
COMPARED = tuple(part for part in PARTS if part not in ("privacy", "prototype"))


@dataclasses.dataclass(frozen=True, eq=False)
class Real:
    """Real subjects, by what they are for.

    Args:
        train: What the generator learned from.
        tuning: What stopped it.
        held_out: What it is judged by.
        own: Whether they are of the dataset that the generator learned from.
    """

    train: Histories
    tuning: Histories
    held_out: Histories
    own: bool


def evaluate(
    run: Run,
    dataset: Dataset | None = None,
    *,
    split: str | None = schema.HELD_OUT,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Draw subjects, judge them beside fresh real ones and those of simpler generators.

    Args:
        run: A run of this application.
        dataset: Another dataset; its own training subjects are then the fresh real ones, and nothing is known of
            likelihoods.
        split: Whom to judge by; None for all, which leaves nobody to compare with unless `dataset` is another.
        seed: Of the draws.
        progress: Told about each piece of work.

    Returns:
        The shape of `caretrace evaluate --json`; `goals`, the bare numbers, not widened by chance; and
        `gates_of_comparators`.

    Raises:
        CohortError: Too few subjects to judge by.
    """
    stored = run.read()
    config = from_dict(SynthConfig, stored["config"])
    generator = load_generator(run.bundle)
    target = dataset or run.dataset()
    progress("reading histories", 0, None)
    real = _real(target, generator, config, split, own=target.fingerprint == stored["fingerprint"])
    n = min(config.judging.times * len(real.held_out), config.judging.subjects_most)
    made: dict[str, Histories] = {config.model: sample(generator, n, seed, progress)}
    limits = icd9.limits(generator.vocabulary.normal_codes)
    evidence = Evidence(
        limits=Limits(limits.age_first, limits.age_last, limits.sexes),
        likelihoods=_likelihoods(run, generator, real, config, progress) if real.own else None,
        nnaa_subjects=config.judging.nnaa_subjects,
        seed=seed,
        split=split or "all",
    )
    verdict = _judged(real, made[config.model], evidence, config.model, progress)
    gates: dict[str, Any] = {}
    for name in config.judging.comparators:
        if name == config.model:
            continue
        other = _fitted(name, real, generator, config, progress)
        made[name] = sample(other, n, seed, progress)
        found = _judged(real, made[name], evidence, name, progress, COMPARED)
        nats = _nats(other.log_likelihood(Records(real.held_out)))
        verdict["comparators"][name] = {**found["metrics"], "nats_per_subject": _bare(nats)}
        gates[name] = found["gates"]
    nats = _nats(generator.log_likelihood(Records(real.held_out)))
    verdict["metrics"]["nats_per_subject"] = _bare(nats)
    verdict |= {
        "model": config.model,
        "gates_of_comparators": gates,
        "dataset": {"path": str(target.path), "fingerprint": target.fingerprint},
    }
    write_json(run.evaluation / DRAWINGS, drawings(real.held_out, made, generator.vocabulary))
    return verdict


def sample(generator: Generator, n: int, seed: int, progress: Progress = silent) -> Histories:
    """Synthetic subjects, of ages and sexes as in training."""
    parts, done = [], 0
    for subject, records in iter_chunks(generator, Request(n, seed)):
        parts.append(records.histories)
        done += len(subject)
        progress("drawing subjects", done, n)
    return join(parts)


def _real(
    target: Dataset, generator: Generator, config: SynthConfig, split: str | None, *, own: bool
) -> Real:
    if split in (schema.TRAIN, None) and own:
        raise CohortError(
            f"--split {split or 'all'}: the generator learned from these subjects, so they cannot judge it; "
            f"give {schema.HELD_OUT}, or another dataset"
        )

    def read(name: str | None) -> Histories:
        return collect_histories(target, name, generator.vocabulary, config.history).histories

    return Real(read(schema.TRAIN), read(schema.TUNING), read(split), own)


def _judged(
    real: Real,
    synthetic: Histories,
    evidence: Evidence,
    name: str,
    progress: Progress,
    parts: tuple[str, ...] = tuple(PARTS),
) -> dict[str, Any]:
    def tell(part: str) -> None:
        progress(f"judging {name}: {part}", parts.index(part), len(parts))

    return judge(real.train, real.held_out, synthetic, evidence, tell, parts)


def _fitted(
    name: Model, real: Real, generator: Generator, config: SynthConfig, progress: Progress
) -> Generator:
    chosen = dataclasses.replace(config, model=name)
    return fit_generator(Records(real.train), Records(real.tuning), generator.vocabulary, chosen, progress)[0]


def _likelihoods(
    run: Run, generator: Generator, real: Real, config: SynthConfig, progress: Progress
) -> Likelihoods:
    """Of training and held-out subjects, under the generator and under a reference that saw neither.

    A subject that one of them calls impossible gets the least likelihood of those that are possible.
    """
    reference = _reference(run.evaluation / "reference", generator, real, config, progress)
    progress("likelihoods", 0, None)
    found = [_of_two(each, real) for each in (generator, reference)]
    return Likelihoods(found[0][0], found[1][0], found[0][1], found[1][1])


def _of_two(generator: Generator, real: Real) -> list[Floats]:
    values = [generator.log_likelihood(Records(part)) for part in (real.train, real.held_out)]
    least = min(float(np.min(part[np.isfinite(part)], initial=0.0)) for part in values)
    return [np.where(np.isfinite(part), part, least) for part in values]


def _reference(
    folder: Path, generator: Generator, real: Real, config: SynthConfig, progress: Progress
) -> Generator:
    """A generator of tuning subjects, the last tenth of whom stop it; kept beside the figures."""
    if folder.is_dir():
        return load_generator(folder)
    tuning, name = real.tuning, config.judging.reference
    kept = np.arange(len(tuning)) < 0.9 * len(tuning)
    halves = dataclasses.replace(real, train=tuning.take(kept), tuning=tuning.take(~kept))
    found = _fitted(config.model if name == "same" else name, halves, generator, config, progress)
    save_generator(found, folder)
    return found


def _nats(likelihood: Floats) -> float:
    """Mean of the possible ones, nats per subject."""
    possible = np.isfinite(likelihood)
    return -float(likelihood[possible].mean()) if possible.any() else 0.0


def _bare(value: float) -> dict[str, float]:
    return dict.fromkeys(("value", "low", "high"), value)


__all__ = ["DRAWINGS", "JudgingConfig", "evaluate", "sample"]
