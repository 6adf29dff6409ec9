"""How applications that train in their own way are tried: add a row to `CASES` with an application of yours."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """A dataset that suits an application, and settings with which it trains in seconds."""

    write: Callable[[Path], Path]
    settings: tuple[str, ...]


def write_histories(path: Path) -> Path:
    """Invented subjects with one to three visits, as a MEDS dataset."""
    from caretrace.apps.synth.codes.sequences import Records
    from caretrace.apps.synth.codes.vocabulary import Vocabulary
    from caretrace.apps.synth.export import write_subjects
    from caretrace.apps.synth.models.counting import CountGenerator
    from caretrace.apps.synth.models.generator import Request
    from caretrace.evaluation.histories import Histories

    vocabulary = Vocabulary.of([f"{number}" for number in range(401, 436)])
    rng = np.random.default_rng(0)
    visits = rng.integers(1, 4, 400)
    sizes = rng.integers(3, 6, int(visits.sum()))
    codes = np.concatenate([rng.choice(vocabulary.n_codes - 1, size, replace=False) for size in sizes])
    ages, sexes = rng.integers(30, 95, 400), rng.integers(0, 2, 400)
    people = Records(Histories(ages, sexes, visits, sizes, codes, vocabulary.n_codes))
    write_subjects(CountGenerator.fit(people, vocabulary, "n-gram"), Request(1600, seed=1), path, "meds")
    return path


def write_small_ward(path: Path) -> Path:
    """Sixteen simulated subjects under a monitor."""
    from ..apps.vitals.small_ward import write_ward

    return write_ward(path)


def write_small_city(path: Path) -> Path:
    """Two simulated hospitals over three weeks."""
    from ..apps.safety.small_city import write_city

    return write_city(path.with_name(f"{path.name}-raw"), path)


CASES: dict[str, Case] = {
    "safety": Case(
        write_small_city,
        (
            "block_days=3",
            "batches=2",
            "batch=4",
            "most_pathways=1500",
            "model.d_model=8",
            "model.d_head=8",
            "descent.epochs=2",
        ),
    ),
    "vitals": Case(
        write_small_ward,
        (
            "detector.batches=40",
            "detector.d_model=8",
            "document.max_windows=24",
            "document.pretrain_epochs=1",
            "grid.step_seconds=30",
            "grid.length=64",
        ),
    ),
    "synth": Case(
        write_histories,
        (
            "latent.people=3",
            "latent.visits=3",
            "latent.starts=1",
            "latent.starting=2",
            "latent.iterations=4",
            "latent.sized=1",
            "judging.times=2",
            "judging.comparators=[marginals]",
        ),
    ),
}
