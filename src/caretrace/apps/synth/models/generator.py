"""What every generator offers, and drawing subjects from one: any number, in the memory of a few thousand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from caretrace.apps.synth.codes.sequences import AGES, Records
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.models.decoder.sampling import SamplingConfig, Wanted
from caretrace.apps.synth.models.noise import uniform
from caretrace.errors import ConfigError
from caretrace.evaluation.histories import Floats, Histories, Ints

CHUNK = 4096  # subjects drawn and written together
_WHO = 1 << 62  # address of the draw of age and sex; tokens have lower ones


class Generator(Protocol):
    """A distribution of histories given age and sex."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Codes of the histories."""
        ...

    @property
    def demographics(self) -> Demographics:
        """Who comes."""
        ...

    def log_likelihood(self, records: Records) -> Floats:
        """`[subject]`: log p(visits and their codes | age, sex), nats, exact; -inf for the impossible."""
        ...

    def draw(self, wanted: Wanted, seed: int, config: SamplingConfig) -> Records:
        """One history for each subject wanted."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Demographics:
    """How often each age and sex came.

    Args:
        count: `[age, sex]`, training subjects.
    """

    count: Ints

    @classmethod
    def of(cls, histories: Histories) -> Demographics:
        """Of these subjects."""
        count = np.bincount(histories.age * 2 + histories.sex, minlength=2 * AGES)
        return cls(count.reshape(AGES, 2))

    def draw(
        self, subject: Ints, seed: int, age: int | None = None, sex: int | None = None
    ) -> tuple[Ints, Ints]:
        """Ages and sexes.

        Args:
            subject: `[subject]`, addresses of the random numbers.
            seed: Of the sample.
            age: Whole years, the same for all; None draws it.
            sex: 0 or 1, the same for all; None draws it.

        Raises:
            ConfigError: An age or sex outside what histories can have.
        """
        if age is not None and not 0 <= age < AGES:
            raise ConfigError(f"age: got {age}; give whole years from 0 to {AGES - 1}")
        if sex is not None and sex not in (0, 1):
            raise ConfigError(f"sex: got {sex}; give 0 (F) or 1 (M)")
        weight = self.count.astype(np.float64)
        if sex is not None:
            weight[:, 1 - sex] = 0
        if age is not None:
            # Nobody was that old: then the sexes as they come, whatever the age.
            row = weight[age] if weight[age].sum() else weight.sum(0)
            weight = np.zeros_like(weight)
            weight[age] = row
        if not weight.sum() and sex is not None:
            weight[age if age is not None else slice(None), sex] = 1
        reach = np.cumsum(weight.ravel())
        place = np.searchsorted(reach, uniform(seed, subject, np.array(_WHO)) * reach[-1], side="right")
        return place // 2, place % 2


@dataclasses.dataclass(frozen=True)
class Request:
    """How many subjects, and who.

    Args:
        subjects: How many.
        seed: Of the sample; more subjects repeat the first ones.
        age: Whole years; None draws it as it was in training.
        sex: 0 (F) or 1 (M); None likewise.
        first: Number of the first subject.
    """

    subjects: int
    seed: int = 0
    age: int | None = None
    sex: int | None = None
    first: int = 0

    def __post_init__(self) -> None:
        if self.subjects < 1:
            raise ConfigError(f"subjects: got {self.subjects}; give at least 1")
        if self.seed < 0 or self.first < 0:
            raise ConfigError(f"seed {self.seed} and first {self.first} must not be negative")


def iter_chunks(
    generator: Generator, request: Request, config: SamplingConfig | None = None
) -> Iterator[tuple[Ints, Records]]:
    """Numbers and records of the subjects, chunk by chunk."""
    for first in range(request.first, request.first + request.subjects, CHUNK):
        last = min(first + CHUNK, request.first + request.subjects)
        subject = np.arange(first, last)
        age, sex = generator.demographics.draw(subject, request.seed, request.age, request.sex)
        wanted = Wanted(subject, age, sex)
        yield subject, generator.draw(wanted, request.seed, config or SamplingConfig())
