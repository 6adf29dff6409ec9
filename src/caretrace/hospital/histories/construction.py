"""Build the default `HistoryModel` from the profiles: every rate by a rule and a seed, none typed.

Rules (all assumed). Of a phenotype's expected chronic codes `LEADING_SHARE` go to its leading categories by
rank, the rest to all categories by how popular they are (Zipf), so that every code has a chance everywhere and
the tail is long. A category's part goes to its codes by rank (Zipf), with chance variation per phenotype, then
changes with age band and sex, then codes an age or sex cannot have get rate 0. Episodes likewise.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.histories import profiles
from caretrace.hospital.histories.catalogue import AGE_MAX, SEXES, Catalogue, catalogue
from caretrace.hospital.histories.model import Floats, HistoryModel

# First age of each band. Edges at 1, 12, 15, 18 and 56 are those of the Medicare Code Editor.
BANDS = (0, 1, 5, 12, 15, 18, 30, 40, 48, 56, 65, 75, 85)
MAX_VISITS = 20
LEADING_SHARE = 0.82  # of expected codes, in leading categories; assumed
LEADING_DECAY = 0.75  # weight of the category of rank i is (i + 1) ** -this; assumed
POPULAR_DECAY = 1.0  # likewise among people at large; assumed
CATEGORY_SPREAD = 0.35  # sd of the log rate of a category between phenotypes (or episodes); assumed
CODE_SPREAD = 0.6  # sd of the log rate of a code between phenotypes (or episodes); assumed
SEX_SPREAD = 0.14  # sd of the log rate ratio of women against men; by hand, see diabetes130
AGE_SPREAD = 0.22  # sd of the log rate per ten years, of categories without a curve; by hand, see diabetes130
LATER_ONSET = 0.35  # of a chronic code at a later visit, relative to a first visit; assumed
RATE_CAP = 0.45  # no code is likelier than this by itself; assumed
RECURRENCE = (0.45, 0.85)  # range, by category, if the last visit had the code; assumed
FORGOTTEN = 0.55  # relative to that, if only an earlier visit had it; assumed
AGE_REFERENCE_MIN = 0.25  # a rate grows at most fourfold from a phenotype's own age to the best age; assumed
OWN_EPISODES = 0.85  # of visits, for a reason the phenotype is known for; assumed


@dataclasses.dataclass(frozen=True)
class _Profile:
    """Expected number of codes, leading categories, and the age (years) at which that number holds."""

    size: float
    leading: tuple[int, ...]
    age: float | None


@functools.cache
def default_model(seed: int = 0) -> HistoryModel:
    """The population of the virtual hospital.

    Args:
        seed: Of the construction, not of any sample; 0 is the documented population.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    known = catalogue()
    first, last = np.array(BANDS), np.array([*(b - 1 for b in BANDS[1:]), AGE_MAX])
    allowed = known.allowed(first, last)
    sex_effect = _sex_effect(known, rng)
    curve = _age_curve(known, (first + last) / 2, rng)
    tilt = np.stack([sex_effect, -sex_effect])[None] / 2  # [1, sex, code]
    shape = np.where(allowed, curve[:, None] * np.exp(tilt), 0.0)  # [band, sex, code]
    chronic = known.chronic
    people = [_Profile(p.chronic, p.leading, p.age[0]) for p in profiles.PHENOTYPES]
    onset = _rates(people, profiles.POPULAR_CHRONIC, known, chronic, shape, rng)
    reasons = [_Profile(e.acute, e.leading, None) for e in profiles.EPISODES]
    acute = _rates(reasons, profiles.POPULAR_ACUTE, known, ~chronic, shape, rng)
    demographics = _demographics()
    return HistoryModel(
        codes=known.codes,
        chronic=chronic,
        age_first=known.age_first,
        age_last=known.age_last,
        bands=first,
        demographics=demographics,
        phenotypes=tuple(p.name for p in profiles.PHENOTYPES),
        phenotype=_phenotypes(),
        visits=_visits(),
        episodes=tuple(e.name for e in profiles.EPISODES),
        episode=_episodes(first, last, _episode_shape(known, curve[:, None] * np.exp(tilt))),
        onset=np.stack([onset, -np.expm1(LATER_ONSET * np.log1p(-onset))]),
        recurrence=_recurrence(known, rng),
        acute=acute,
        gap_days=np.array([p.gap_days for p in profiles.PHENOTYPES], float),
    )


def _rates(
    options: list[_Profile],
    popular: tuple[int, ...],
    known: Catalogue,
    kind: NDArray[np.bool_],
    shape: Floats,
    rng: np.random.Generator,
) -> Floats:
    """`[band, sex, option, code]`: rate of each code of one kind (chronic or acute) for each profile."""
    categories, category = np.unique(known.ccs[kind], return_inverse=True)
    liked = _popularity(categories, popular, rng)
    share, form = known.share[kind], shape[:, :, kind]
    out = np.empty((len(BANDS), len(SEXES), len(options), len(share)))
    for i, option in enumerate(options):
        weight = LEADING_SHARE * _leading(categories, option.leading) + (1 - LEADING_SHARE) * liked
        weight *= np.exp(rng.normal(0, CATEGORY_SPREAD, len(weight)))
        expected = option.size * weight[category] * share * np.exp(rng.normal(0, CODE_SPREAD, len(share)))
        here = form
        if option.age is not None:  # sizes hold at the phenotype's own age, not at the curve's top
            band = np.searchsorted(BANDS, option.age, side="right") - 1
            here = form / np.maximum(_either_sex(form[band]), AGE_REFERENCE_MIN)
        out[:, :, i] = np.minimum(-np.expm1(-expected * here), RATE_CAP)
    return out


def _either_sex(form: Floats) -> Floats:
    """`[code]`: geometric mean over the sexes, or the one sex that can have the code."""
    product = np.sqrt(form[0] * form[1])
    return np.where(product > 0, product, form.max(0))


def _leading(categories: NDArray[np.int64], leading: tuple[int, ...]) -> Floats:
    """`[category]`: share of each leading category by rank; a category named twice counts twice."""
    weight = np.zeros(len(categories))
    decay = np.arange(1, len(leading) + 1) ** -LEADING_DECAY
    np.add.at(weight, np.searchsorted(categories, leading), decay / decay.sum())
    return weight


def _popularity(categories: NDArray[np.int64], popular: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """`[category]`: share of each category among people at large; those not named follow by chance."""
    named = np.array([popular.index(c) if c in popular else len(popular) for c in categories])
    rank = np.lexsort((rng.random(len(categories)), named)).argsort() + 1
    weight = rank**-POPULAR_DECAY
    return np.asarray(weight / weight.sum())


def _sex_effect(known: Catalogue, rng: np.random.Generator) -> Floats:
    """`[code]`: log rate of women against men, by category."""
    categories, category = np.unique(known.ccs, return_inverse=True)
    chance = rng.normal(0, SEX_SPREAD, len(categories))
    named = [profiles.SEX_EFFECTS.get(int(c), 0.0) for c in categories]
    return np.asarray((chance + named)[category])


def _age_curve(known: Catalogue, middle: Floats, rng: np.random.Generator) -> Floats:
    """`[band, code]`: rate at a band relative to the best age, or to age 60 where there is no such curve."""
    categories, category = np.unique(known.ccs, return_inverse=True)
    slope = rng.normal(0, AGE_SPREAD, len(categories))[category]
    curve = np.exp(np.outer(np.clip((middle - 60) / 10, -3, 3), slope))
    for (centre, spread), members in profiles.AGE_CURVES.items():
        bump = np.exp(-0.5 * ((middle - centre) / spread) ** 2)
        at_best = profiles.AGE_FLOOR + (1 - profiles.AGE_FLOOR) * bump
        curve[:, np.isin(known.ccs, members)] = at_best[:, None]
    return curve


def _recurrence(known: Catalogue, rng: np.random.Generator) -> Floats:
    """`[2, J]`: chance that a chronic code is recorded again."""
    categories, category = np.unique(known.ccs[known.chronic], return_inverse=True)
    last = rng.uniform(*RECURRENCE, len(categories))[category]
    return np.stack([last, FORGOTTEN * last])


def _visits() -> Floats:
    """`[phenotype, n - 1]`: three quarters of people come seldom, a quarter five times as often again."""
    number = np.arange(MAX_VISITS)
    out = np.empty((len(profiles.PHENOTYPES), MAX_VISITS))
    for i, phenotype in enumerate(profiles.PHENOTYPES):
        further = np.array([0.5, 2.5]) * (phenotype.visits - 1)  # 0.75 * 0.5 + 0.25 * 2.5 = 1
        again = further / (1 + further)
        out[i] = np.array([0.75, 0.25]) @ ((1 - again)[:, None] * again[:, None] ** number)
    return np.asarray(out / out.sum(1, keepdims=True))


def _phenotypes() -> Floats:
    """`[age, sex, phenotype]`: a bump over age for each, tilted by sex, cut to the ages and sexes it can have."""
    age = np.arange(AGE_MAX + 1)
    out = np.empty((len(age), len(SEXES), len(profiles.PHENOTYPES)))
    for i, p in enumerate(profiles.PHENOTYPES):
        bump = p.share * np.exp(-0.5 * ((age - p.age[0]) / p.age[1]) ** 2)
        bump = np.where((p.ages[0] <= age) & (age <= p.ages[1]), bump, 0)
        tilt = [1.0, 0.0] if p.sex_logit is None else np.exp([p.sex_logit / 2, -p.sex_logit / 2])
        out[:, :, i] = np.outer(bump, tilt)
    return np.asarray(out / out.sum(2, keepdims=True))


def _episode_shape(known: Catalogue, free: Floats) -> Floats:
    """`[band, sex, episode]`: relative weight, as its leading categories change with age and sex (`free`)."""
    out = np.empty((*free.shape[:2], len(profiles.EPISODES)))
    for a, episode in enumerate(profiles.EPISODES):
        mean = [free[:, :, known.ccs == category].mean(-1) for category in episode.leading]
        out[:, :, a] = np.average(mean, axis=0, weights=np.arange(1, len(mean) + 1) ** -LEADING_DECAY)
    return out


def _episodes(first: NDArray[np.int64], last: NDArray[np.int64], shape: Floats) -> Floats:
    """`[later, band, sex, phenotype, episode]`: own reasons by rank, the rest as among people at large."""
    names = [e.name for e in profiles.EPISODES]
    at_large = np.array([e.share for e in profiles.EPISODES])
    weight = np.tile((1 - OWN_EPISODES) * at_large / at_large.sum(), (len(profiles.PHENOTYPES), 1))
    for i, phenotype in enumerate(profiles.PHENOTYPES):
        decay = np.arange(1, len(phenotype.episodes) + 1) ** -LEADING_DECAY
        for name, share in zip(phenotype.episodes, decay / decay.sum(), strict=True):
            weight[i, names.index(name)] += OWN_EPISODES * share
    can = np.ones((2, len(first), len(SEXES), 1, len(names)))
    for a, episode in enumerate(profiles.EPISODES):
        can[:, (first < episode.ages[0]) | (last > episode.ages[1]), :, :, a] = 0
        can[:, :, [sex not in episode.sex for sex in SEXES], :, a] = 0
        can[1, ..., a] *= not episode.first_only
    out = can * weight * shape[None, :, :, None, :]
    return np.asarray(out / out.sum(-1, keepdims=True))


def _demographics() -> Floats:
    """`[age, sex]`: births, few children, women giving birth, and mostly the old, as hospitals have them."""
    age = np.arange(AGE_MAX + 1)
    parts = [  # share, density over age, share of women; assumed
        (0.07, (age == 0).astype(float), 0.49),
        (0.06, np.where((age >= 1) & (age <= 17), np.exp(-age / 8), 0), 0.46),
        (0.09, np.where((age >= 13) & (age <= 50), np.exp(-0.5 * ((age - 28) / 6.5) ** 2), 0), 0.92),
        (0.20, np.where(age >= 15, np.exp(-0.5 * ((age - 40) / 15) ** 2), 0), 0.49),
        (0.58, np.where(age >= 18, np.exp(-0.5 * ((age - 70) / 13) ** 2), 0), 0.50),
    ]
    out = np.zeros((len(age), len(SEXES)))
    for share, density, women in parts:
        out += share * np.outer(density / density.sum(), [women, 1 - women])
    return np.asarray(out / out.sum())
