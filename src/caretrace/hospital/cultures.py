"""Microbiology: samples when infection is suspected, results one to three days later."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.hospital.catalogue import INFECTION, ORGANISM_SHARES, ORGANISMS, PANELS, SPECIMENS, TESTS
from caretrace.hospital.columns import words
from caretrace.hospital.signals import Ints, moments, spans
from caretrace.hospital.timeline import DAY
from caretrace.hospital.treatments import Bedside

_COMMENTS = (
    "No growth after 48 hours.",
    "No growth to date.",
    "Growth. Sensitivities to follow.",
    "Heavy growth of a single organism.",
    "Moderate growth; mixed with normal flora.",
)


def grow_cultures(bedside: Bedside, rng: np.random.Generator) -> pl.DataFrame:
    """The raw table `cultures`: one row per organism and antibiotic tested, one for no growth.

    A result may come after the patient has left or died, as in any hospital: hiding it would tell a
    reader of the sample who is about to die.
    """
    admissions, stays = bedside.admissions, bedside.stays
    stay, time, specimen = _samples(bedside, rng)
    infection = bedside.signals.loads[stay, INFECTION]
    # Assumed: a third of samples grow something where infection is the problem, few elsewhere.
    grows = rng.random(len(stay)) < np.clip(0.05 + 0.22 * infection, 0, 0.5)
    # Assumed: one to three days, whether or not something grows.
    result = time + rng.integers(DAY // 60, 3 * DAY // 60, len(stay)) * 60
    organism = np.where(grows, _pick(np.array(ORGANISM_SHARES)[specimen], rng), -1)
    comment = np.where(grows, rng.integers(2, 5, len(stay)), rng.integers(0, 2, len(stay)))
    tested = np.where(grows, np.array([len(p) for p in PANELS])[organism], 1)
    sample = np.repeat(np.arange(len(stay)), tested)
    nth = np.arange(len(sample)) - np.repeat(np.cumsum(tested) - tested, tested)
    antibiotic, resistant = _panel(organism[sample], nth)
    none = organism[sample] < 0
    u = rng.random(len(sample))
    verdict = np.where(none, 0, np.where(u < resistant, 1, np.where(u < resistant + 0.05, 2, 3)))
    admission = stays.admission[stay[sample]]
    return pl.DataFrame(
        {
            "subject_id": bedside.people.subject_id[admissions.person[admission]],
            "admission_id": admissions.admission_id[admission],
            "collect_time": time[sample],
            "result_time": result[sample],
            "specimen": words(SPECIMENS, specimen[sample]),
            "test": words(TESTS, specimen[sample]),
            "organism": words([*ORGANISMS, None], organism[sample] % (len(ORGANISMS) + 1)),
            "antibiotic": pl.Series(antibiotic, dtype=pl.String),
            "sensitivity": words([None, "R", "I", "S"], verdict),
            "comment": words(_COMMENTS, comment[sample]),
        }
    )


def _samples(bedside: Bedside, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """When which sample is taken: at the start of antibiotics, and now and then while they last."""
    stays, antibiotics = bedside.stays, bedside.treatments.antibiotics
    stay, first, _ = spans(antibiotics)
    again_stay, again = np.nonzero(antibiotics & (rng.random(antibiotics.shape) < 0.012))
    stay = np.concatenate([stay, stay, again_stay])  # blood cultures are taken twice at the start
    hour = np.concatenate([first, first, again])
    specimen = rng.choice(len(SPECIMENS), len(stay), p=[0.55, 0.2, 0.2, 0.05])
    specimen[: 2 * len(first)] = np.where(rng.random(2 * len(first)) < 0.7, 0, specimen[: 2 * len(first)])
    time = moments(stays, stay, hour, rng)
    kept = time < stays.end[stay]
    stay, time, specimen = stay[kept], time[kept], specimen[kept]
    order = np.lexsort((specimen, time, stays.stay_id[stay]))
    return stay[order], time[order], specimen[order]


def _pick(shares: NDArray[np.float64], rng: np.random.Generator) -> Ints:
    """One choice per row of probabilities."""
    edges = np.cumsum(shares, axis=1)
    return np.minimum((rng.random((len(shares), 1)) >= edges).sum(axis=1), shares.shape[1] - 1)


def _panel(organism: Ints, nth: Ints) -> tuple[list[str | None], NDArray[np.float64]]:
    """The nth antibiotic tested on each organism, with its chance of resistance; none for no growth."""
    places = zip(organism.tolist(), nth.tolist(), strict=True)
    pairs = [(None, 0.0) if o < 0 else PANELS[o][n] for o, n in places]
    return [name for name, _ in pairs], np.array([chance for _, chance in pairs])
