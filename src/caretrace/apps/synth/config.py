"""What makes a history, and how a generator of them is judged."""

from __future__ import annotations

import dataclasses
from typing import Literal

from caretrace.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class HistoryConfig:
    """What becomes a code of a history.

    Args:
        prefix: Codes that begin with this are kept, without it.
        min_subjects: A code that fewer subjects have becomes `<unk>`; 1 keeps all.
        max_visits: Later visits are left out; 0 keeps all.
    """

    prefix: str = "DIAGNOSIS//ICD//9//"
    min_subjects: int = 1
    max_visits: int = 0

    def __post_init__(self) -> None:
        if not self.prefix:
            raise ConfigError(
                "prefix: got nothing; give the start of the codes, for example DIAGNOSIS//ICD//9//"
            )
        if self.min_subjects < 1 or self.max_visits < 0:
            raise ConfigError(
                f"min_subjects {self.min_subjects} must be at least 1 and max_visits {self.max_visits} not negative"
            )


Comparator = Literal["n-gram", "marginals", "gru", "prompt-bart", "decoder"]


@dataclasses.dataclass(frozen=True)
class JudgingConfig:
    """How `caretrace evaluate` judges a generator.

    Args:
        times: Synthetic subjects drawn for each held-out one.
        subjects_most: Synthetic subjects at most.
        comparators: Generators that are fitted to the same subjects and judged beside it.
        reference: What the membership attack compares likelihoods with, fitted to tuning subjects alone: `same` fits
            another generator of the kind judged, which is the attack of an insider and takes its time; `n-gram`
            counts.
        nnaa_subjects: Subjects of each kind for nearest-neighbour figures at most; 0 takes all.
    """

    times: int = 4
    subjects_most: int = 40_000
    comparators: tuple[Comparator, ...] = ("n-gram", "marginals")
    reference: Literal["n-gram", "same"] = "n-gram"
    nnaa_subjects: int = 8000

    def __post_init__(self) -> None:
        if self.times < 1 or self.subjects_most < 100 or self.nnaa_subjects < 0:
            raise ConfigError(
                f"judging: times {self.times} must be at least 1, subjects_most {self.subjects_most} at least 100 and "
                f"nnaa_subjects {self.nnaa_subjects} not negative"
            )
