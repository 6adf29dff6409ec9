"""Simulated visits beside real ones, figure by figure, both brought to the shape of the diabetes-130 file.

That file has diabetic subjects, the first three diagnoses of each visit cut to ICD-9 categories, and ages in bands
of ten years. A few constants of the population were set by hand while looking at these very figures, so agreement
shows that it can look like this, not that it predicts anything.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.errors import InputError
from caretrace.hospital.histories.catalogue import catalogue
from caretrace.hospital.histories.construction import default_model
from caretrace.hospital.histories.dates import sequence
from caretrace.hospital.histories.sampling import draw

LEARNERS = (
    4000  # subjects that age and sex are learnt from; the same for both, because more of them teach more
)
KEPT = 3  # codes of a visit in the real file
Floats = NDArray[np.float64]


@dataclasses.dataclass
class Visits:
    """Visits in order of subject and time; each list has one entry per visit.

    Args:
        codes: Categories, at most three.
        subject: Whose; the visits of one subject stand together.
        age: Years, the middle of a band of ten.
        female: Whether the subject is a woman.
        recorded: Codes the visit had before it was cut to three.
    """

    codes: list[frozenset[str]]
    subject: list[int]
    age: list[int]
    female: list[bool]
    recorded: list[int]


def category(code: str) -> str:
    """The ICD-9 category of a code with or without a dot; lost leading zeros are put back."""
    return code[:4] if code[0] == "E" else code.split(".", maxsplit=1)[0].zfill(3)[:3]


def simulated_visits(subjects: int, seed: int) -> Visits:
    """The diabetic ones among simulated subjects, in the shape of the real file.

    Args:
        subjects: How many to draw; about one in eight is diabetic.
        seed: Not negative.
    """
    model = default_model()
    drawn = draw(subjects, seed, model)
    h = drawn.histories
    place = sequence(drawn, catalogue(), np.random.default_rng(1))
    name = np.array([category(c) for c in model.codes])[h.code]
    listed: list[list[str]] = [[] for _ in h.code_count]
    for visit, code in zip(h.token_visit[place <= KEPT], name[place <= KEPT], strict=True):
        listed[visit].append(code)
    diabetic = np.zeros(len(h), bool)
    diabetic[h.visit_subject[h.token_visit[name == "250"]]] = True
    keep = np.flatnonzero(diabetic[h.visit_subject])
    who = h.visit_subject[keep].tolist()
    return Visits(
        codes=[frozenset(listed[v]) for v in keep.tolist()],
        subject=who,
        age=[int(h.age[s]) // 10 * 10 + 5 for s in who],
        female=[bool(h.sex[s] == 0) for s in who],
        recorded=h.code_count[keep].tolist(),
    )


def compare_visits(real: Visits, simulated: Visits) -> pl.DataFrame:
    """Both described side by side: `figure`, `real`, `simulated`.

    Raises:
        InputError: Either has too few subjects to learn from.
    """
    there, here = describe_visits(real), describe_visits(simulated)
    return pl.DataFrame(
        {"figure": list(there), "real": list(there.values()), "simulated": list(here.values())}
    )


def describe_visits(visits: Visits) -> dict[str, float]:
    """What visits look like: prevalence, overlap, length, and what codes tell of age and sex.

    Raises:
        InputError: There are fewer than 200 subjects.
    """
    first = first_visits(visits)
    if len(first) < 200:
        raise InputError(
            f"visits: got {len(first)} subjects; give at least 200, to learn age and sex from codes"
        )
    some = first[:LEARNERS]
    age, sex = _learnt(visits, some)
    count = frequencies(visits)
    several = np.array(visits.recorded)
    return {
        "subjects": float(len(first)),
        "Jaccard of consecutive visits": jaccard_ahead(visits, 1),
        "Jaccard of visits of two subjects": jaccard_of_strangers(visits),
        "sex from first visit, AUROC": sex,
        "age from first visit, R²": age,
        "share of women": float(np.mean([visits.female[v] for v in some])),
        "mean age, years": float(np.mean([visits.age[v] for v in some])),
        "share of the 10 commonest categories": float(count[:10].sum() / count.sum()),
        "share of the 100 commonest": float(count[:100].sum() / count.sum()),
        "log-log slope of the first 200 ranks": float(
            np.polyfit(np.log(np.arange(1, 201)), np.log(count[:200]), 1)[0]
        ),
        "categories in 10,000 visits": float(len(set().union(*visits.codes[:10_000]))),
        "codes recorded per visit": float(several.mean()),
        "visits with 9 codes or more": float(np.mean(several >= 9)),
        "visits per subject": len(visits.codes) / len(first),
        "subjects with one visit only": float(np.mean(visit_counts(visits) == 1)),
    }


def first_visits(visits: Visits) -> list[int]:
    """Places of the first visit of each subject."""
    who = visits.subject
    return [v for v in range(len(who)) if v == 0 or who[v] != who[v - 1]]


def visit_counts(visits: Visits) -> NDArray[np.int64]:
    """Visits of each subject, `[subject]`."""
    return np.diff([*first_visits(visits), len(visits.subject)])


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Share of the codes of either visit that both have."""
    return len(one & other) / len(one | other)


def jaccard_ahead(visits: Visits, steps: int) -> float:
    """Mean overlap of a subject's visits that lie `steps` visits apart; NaN if there are none."""
    pairs = zip(visits.codes, visits.codes[steps:], visits.subject, visits.subject[steps:], strict=False)
    found = [jaccard(a, b) for a, b, s, t in pairs if s == t]
    return float(np.mean(found)) if found else float("nan")


def jaccard_of_strangers(visits: Visits, pairs: int = 20_000) -> float:
    """Mean overlap of two visits of different subjects, drawn at random with a fixed seed."""
    i, j = np.random.default_rng(0).integers(0, len(visits.codes), (2, pairs)).tolist()
    who, codes = visits.subject, visits.codes
    return float(
        np.mean([jaccard(codes[a], codes[b]) for a, b in zip(i, j, strict=True) if who[a] != who[b]])
    )


def frequencies(visits: Visits) -> NDArray[np.int64]:
    """How often each category occurs, the commonest first, `[rank]`."""
    return np.sort(list(_counted(visits).values()))[::-1]


def prevalence(visits: Visits, names: Sequence[str]) -> Floats:
    """Share of visits with each of some categories, `[name]`."""
    count = _counted(visits)
    return np.array([count[name] for name in names]) / len(visits.codes)


def commonest(visits: Visits, most: int) -> list[str]:
    """The commonest categories, ties by name."""
    return [name for name, _ in sorted(_counted(visits).items(), key=lambda item: (-item[1], item[0]))[:most]]


def _counted(visits: Visits) -> Counter[str]:
    return Counter(code for codes in visits.codes for code in codes)


def _learnt(visits: Visits, some: Sequence[int]) -> tuple[float, float]:
    """R² of age and AUROC of sex, from the codes of some visits by linear models, 3-fold."""
    from scipy.sparse import csr_array
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.metrics import r2_score, roc_auc_score
    from sklearn.model_selection import cross_val_predict

    names = sorted({c for v in some for c in visits.codes[v]})
    index = {c: k for k, c in enumerate(names)}
    cells = [(row, index[c]) for row, v in enumerate(some) for c in sorted(visits.codes[v])]
    rows, columns = np.array(cells).T
    x = csr_array((np.ones(len(cells)), (rows, columns)), shape=(len(some), len(names)))
    female = np.array([visits.female[v] for v in some])
    age = np.array([float(visits.age[v]) for v in some])
    guess = LogisticRegression(C=0.3, max_iter=500)
    chance = cross_val_predict(guess, x, female, cv=3, method="predict_proba")
    r2 = r2_score(age, cross_val_predict(Ridge(3.0), x, age, cv=3))
    return float(r2), float(roc_auc_score(female, chance[:, 1]))
