"""The generative process as tables of probabilities; sampling and likelihood both read them and nothing else.

One subject, given age (whole years at the first visit) and sex:

1. a latent phenotype `k` from `phenotype[age, sex]`, and a number of visits from `visits[k]`;
2. for each visit a latent episode `a` from `episode[later, band, sex, k]` (the acute reason to come);
3. each chronic code is recorded or not, independently: with `onset[later, band, sex, k]` if no earlier visit
   had it, else with `recurrence[0]` if the last visit had it, and `recurrence[1]` if only an earlier one;
4. each acute code is recorded or not, independently, with `acute[band, sex, a]`;
5. a visit with no code, or with more than `max_codes`, is drawn anew from step 3.

`later` is 0 at the first visit and 1 afterwards; `band` is the age band at the *first* visit. Dates are drawn
after the codes (`dates.py`), so they carry nothing about them. Phenotype and episodes are the only latent
variables and both are few, so the probability of a history is an exact finite sum (`likelihood.py`).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import numpy as np
from numpy.typing import NDArray

from caretrace.errors import ConfigError
from caretrace.hospital.histories.catalogue import SEXES

RATE_MAX = 0.5  # onset and acute rates stay below; keeps the exact normaliser well conditioned
CODES_MAX = 30  # likewise

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class HistoryModel:
    """Every parameter of the population. C codes, of them J chronic and A acute; rates without unit.

    Args:
        codes: The C codes.
        chronic: `[C]`, whether a code is chronic; the axes J and A below keep this order.
        age_first: `[code]`, youngest age allowed, whole years.
        age_last: `[code]`, oldest age allowed, whole years.
        bands: `[band]`, first age of each band, whole years; the first is 0.
        demographics: `[age, sex]`, probability of each age at the first visit and sex.
        phenotypes: Names.
        phenotype: `[age, sex, phenotype]`, probability of each phenotype given age and sex.
        visits: `[phenotype, n - 1]`, probability of n visits.
        episodes: Names.
        episode: `[later, band, sex, phenotype, episode]`, probability of each episode.
        onset: `[later, band, sex, phenotype, J]`, rate of a chronic code not seen before.
        recurrence: `[2, J]`, rate of a chronic code the last visit had, and of one only earlier visits had.
        acute: `[band, sex, episode, A]`, rate of an acute code.
        gap_days: `[phenotype]`, median days from a discharge to the next admission.
        max_codes: Largest number of codes of a visit.

    Raises:
        ConfigError: A table has the wrong shape, does not sum to one, or has a rate outside its range.
    """

    codes: tuple[str, ...]
    chronic: NDArray[np.bool_]
    age_first: NDArray[np.int64]
    age_last: NDArray[np.int64]
    bands: NDArray[np.int64]
    demographics: Floats
    phenotypes: tuple[str, ...]
    phenotype: Floats
    visits: Floats
    episodes: tuple[str, ...]
    episode: Floats
    onset: Floats
    recurrence: Floats
    acute: Floats
    gap_days: Floats
    max_codes: int = 20

    def __post_init__(self) -> None:
        bands, sexes = len(self.bands), len(SEXES)
        kinds, reasons = len(self.phenotypes), len(self.episodes)
        lasting = int(self.chronic.sum())
        ages = len(self.demographics)
        shapes = {
            "chronic": (len(self.codes),),
            "age_first": (len(self.codes),),
            "age_last": (len(self.codes),),
            "demographics": (ages, sexes),
            "phenotype": (ages, sexes, kinds),
            "visits": (kinds, self.max_visits),
            "episode": (2, bands, sexes, kinds, reasons),
            "onset": (2, bands, sexes, kinds, lasting),
            "recurrence": (2, lasting),
            "acute": (bands, sexes, reasons, len(self.codes) - lasting),
            "gap_days": (kinds,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ConfigError(f"{name}: got shape {getattr(self, name).shape}; give {shape}")
        for name in ("phenotype", "visits", "episode"):
            _check_sums(name, getattr(self, name).sum(-1))
        if not 1 <= self.max_codes <= CODES_MAX:
            raise ConfigError(f"max_codes: got {self.max_codes}; give 1 to {CODES_MAX}")
        _check_sums("demographics", self.demographics.sum())
        for name, below in (("onset", RATE_MAX), ("acute", RATE_MAX), ("recurrence", 1.0)):
            rates = getattr(self, name)
            if rates.size and not (rates.min() >= 0 and rates.max() < below):
                raise ConfigError(f"{name}: got {rates.min()} to {rates.max()}; give rates in [0, {below})")

    @property
    def max_visits(self) -> int:
        """Largest number of visits."""
        return int(self.visits.shape[1])

    @property
    def age_max(self) -> int:
        """Oldest age at a first visit, whole years."""
        return len(self.demographics) - 1

    @functools.cached_property
    def code_index(self) -> dict[str, int]:
        """Place of each code in `codes`."""
        return {code: i for i, code in enumerate(self.codes)}

    @functools.cached_property
    def place(self) -> NDArray[np.int64]:
        """`[code]`: place of a code among the chronic ones if it is chronic, else among the acute ones."""
        return np.where(self.chronic, np.cumsum(self.chronic), np.cumsum(~self.chronic)) - 1

    def band(self, age: NDArray[np.int64]) -> NDArray[np.int64]:
        """Age band of each age in whole years."""
        return np.searchsorted(self.bands, age, side="right") - 1

    def fingerprint(self) -> str:
        """SHA-256 over every parameter: equal fingerprints, equal populations."""
        digest = hashlib.sha256()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            digest.update(field.name.encode())
            digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
        return digest.hexdigest()


def _check_sums(name: str, sums: Floats) -> None:
    if not np.allclose(sums, 1, atol=1e-9, rtol=0):
        raise ConfigError(f"{name}: got probabilities that sum to {sums.min()} to {sums.max()}; give 1")
