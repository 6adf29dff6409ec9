"""When the visits of drawn histories happen, and in which order their codes are listed.

Dates are drawn after the codes and hold to them: nobody is admitted at an age at which one of the visit's
codes is impossible (gaps are shortened where needed). So dates say nothing about codes beyond the phenotype,
and the exact likelihood of the code sets needs no dates.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.histories.catalogue import Catalogue
from caretrace.hospital.histories.model import Floats, HistoryModel
from caretrace.hospital.histories.records import Histories, Ints
from caretrace.hospital.histories.sampling import Drawn

START = np.datetime64("2002-01-01")  # first admissions fall in the `YEARS` from here; ICD-9 ended in 2015
YEARS = 8
AGE_OPEN = 124  # the oldest age of any code: no limit
ACUTE_LATER = 0.4  # likewise, of an acute code; by hand, see diabetes130
ORDER_CHANCE = 0.1  # of the place in the list, against the fixed weight of 0 to 1; by hand, see diabetes130
MARGIN = 3  # days a visit keeps from birthdays, so that ages by 365.25 days and by calendar agree
GAP_SPREAD = 1.0  # sd of the log of a gap; assumed
STAY_DAYS = 3.5  # mean length of a visit with few codes; assumed
STAY_PER_CODE = 0.35  # further days per code; assumed


@dataclasses.dataclass(frozen=True, eq=False)
class Dates:
    """When things happen.

    Args:
        birth: `[subject]`, day.
        admit: `[visit]`, second.
        discharge: `[visit]`, second.
        gap_days: `[visit]`, whole days from the admission before to this one; 0 for a first visit.
    """

    birth: NDArray[np.datetime64]
    admit: NDArray[np.datetime64]
    discharge: NDArray[np.datetime64]
    gap_days: Ints


def draw_dates(drawn: Drawn, model: HistoryModel, rng: np.random.Generator) -> Dates:
    """Draw birth, admissions and discharges that fit ages and codes.

    Args:
        drawn: Whose.
        model: Gaps per phenotype and age limits per code.
        rng: Stream of chance.
    """
    h = drawn.histories
    subject, rank = h.visit_subject, h.visit_rank
    stay = 1 + rng.exponential(STAY_DAYS - 1 + STAY_PER_CODE * h.code_count).astype(np.int64)
    median = model.gap_days[drawn.phenotype][subject]
    between = 1 + rng.lognormal(np.log(median), GAP_SPREAD).astype(np.int64)
    gap = np.where(rank == 0, 0, between + np.concatenate([[0], stay[:-1]]))
    day, past = _ages(h, gap, model, rng)
    squeezed = _since_first(day, rank)
    first = START + rng.integers(0, int(YEARS * 365.25), len(h)).astype("timedelta64[D]")
    born_today = (h.age == 0) & _has_newborn_code(h, model)
    birth = _years_before(first, h.age) - np.where(born_today, 0, past).astype("timedelta64[D]")
    second = rng.integers(0, 86_400, (2, len(subject)))
    admit = (first[subject] + day.astype("timedelta64[D]")).astype("datetime64[s]")
    admit = admit + second[0].astype("timedelta64[s]")
    room = np.append(squeezed[1:], 0) - 1  # a stay ends before the next visit begins
    days = np.where(np.append(rank[1:], 0) > 0, np.minimum(stay, room), stay)
    leave = admit.astype("datetime64[D]") + days.astype("timedelta64[D]")
    discharge = leave.astype("datetime64[s]") + second[1].astype("timedelta64[s]")
    late = np.maximum(discharge, admit + np.timedelta64(3600, "s"))
    return Dates(birth=birth, admit=admit, discharge=late, gap_days=squeezed)


def sequence(drawn: Drawn, known: Catalogue, rng: np.random.Generator) -> Ints:
    """`[token]`: place of each code in its visit's list, from 1.

    Sets have no order, but hospitals list codes. Ours: first a code that may be principal (by the Medicare
    Code Editor), acute before chronic ones; the others by a fixed weight per code plus chance, so that what
    heads the list at one visit tends to head it at the next. Assumed.
    """
    h = drawn.histories
    weight = np.random.default_rng(0).random(len(known))[h.code]  # the codes' own, the same in every run
    score = weight + ACUTE_LATER * ~known.chronic[h.code] + rng.exponential(ORDER_CHANCE, len(h.code))
    first_able = known.principal[h.code]
    principal = (
        np.where(first_able, 0.0, 10.0) + np.where(known.chronic[h.code], 0.3, 0.0) + rng.random(len(h.code))
    )
    visit = h.token_visit
    start = np.cumsum(h.code_count) - h.code_count
    head = np.lexsort((principal, visit))[start]
    score[head] = -1
    order = np.lexsort((score, visit))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(start, h.code_count) + 1
    return place


def _ages(h: Histories, gap: Ints, model: HistoryModel, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Day of each visit since the first, and days from the last birthday to the first visit.

    Where a code sets an age that must not be passed, all gaps up to that visit shrink in proportion.
    """
    subject, rank = h.visit_subject, h.visit_rank
    day = np.cumsum(gap) - np.repeat(np.cumsum(gap)[np.cumsum(h.visit_count) - h.visit_count], h.visit_count)
    last_age = np.minimum.reduceat(model.age_last[h.code], np.cumsum(h.code_count) - h.code_count)
    limited = (last_age < AGE_OPEN) & (rank > 0)
    early = np.zeros(len(h), bool)
    early[subject[limited]] = True
    past = np.where(early, rng.integers(MARGIN, 100, len(h)), rng.integers(MARGIN, 365 - MARGIN, len(h)))
    room = (last_age - h.age[subject]) * 365 + 364 - MARGIN - past[subject]
    ratio: Floats = np.where(limited, (room - 2.0 * rank) / np.maximum(day, 1), 1.0)
    shrink = np.ones(len(h))
    np.minimum.at(shrink, subject, ratio)
    return (day * shrink[subject]).astype(np.int64) + np.where(shrink[subject] < 1, 2 * rank, 0), past


def _since_first(day: Ints, rank: Ints) -> Ints:
    """Days since the visit before."""
    return np.where(rank == 0, 0, np.diff(day, prepend=0))


def _has_newborn_code(h: Histories, model: HistoryModel) -> NDArray[np.bool_]:
    """`[subject]`: whether a first visit has a code of a newborn, and so is the birth itself."""
    token = (model.age_last[h.code] == 0) & (h.visit_rank[h.token_visit] == 0)
    return np.bincount(h.visit_subject[h.token_visit[token]], minlength=len(h)) > 0


def _years_before(day: NDArray[np.datetime64], years: Ints) -> NDArray[np.datetime64]:
    """The same calendar day some years earlier; 29 February becomes 1 March where there is none."""
    month = day.astype("datetime64[M]")
    of_month = (day - month.astype("datetime64[D]")).astype("timedelta64[D]")
    return (month - (12 * years).astype("timedelta64[M]")).astype("datetime64[D]") + of_month
