"""Which diagnoses exist: ICD-9-CM codes with their CCS category and the ages and sexes they are limited to.

`icd9.csv` is made by `scripts/histories_table.py` from works of the US government: code and title from
ICD-9-CM version 32 (CMS and CDC/NCHS), category from the Clinical Classifications Software 2015 (AHRQ/HCUP),
limits and `first` (may be the principal diagnosis) from the Medicare Code Editor, version 32 (CMS). Codes are
written without a dot, as in MIMIC-III: `25000` is 250.00. Within a category the order is an assumed order of
frequency: some leading codes as known from hospital coding, the rest by chance, unspecified ones mostly first.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from importlib.resources import files

import numpy as np
import polars as pl
from numpy.typing import NDArray

SEXES = ("F", "M")
AGE_MAX = 95  # years; the oldest at a first visit, assumed

# Ages in whole years, first and last allowed: Medicare Code Editor v32, chapter 1, "Age conflict".
AGE_EDITS = {"newborn": (0, 0), "pediatric": (0, 17), "maternity": (12, 55), "adult": (15, 124)}
NO_LIMIT = (0, 124)

# CCS categories held to the limits of their neighbours although the editor does not list every code of theirs
# (V22.0 on a man passes it): ours, stricter than the editor, never laxer.
_PREGNANCY = range(177, 197)
_PERINATAL = range(218, 225)

# Categories whose codes stay with a person (diseases and states, not episodes): assumed, in the spirit of the
# HCUP Chronic Condition Indicator. All other categories are acute.
CHRONIC_CCS = frozenset(
    {
        5, 6, *range(11, 45), 46, 48, 49, 50, 51, 53, 54, 56, 57, 58, 59, 61, 64, 79, 80, 81, 82, 83, 84, 86, 87,
        88, 89, 94, 95, 96, 97, 98, 99, 101, 103, 104, 105, 106, 108, 110, 111, 113, 114, 115, 119, 127, 128, 132,
        138, 144, 146, 150, 151, 156, 158, 161, 164, 169, 170, 173, 174, 199, 202, 203, 205, 206, 208, 209, 210,
        211, 213, 214, 215, 216, 217, 651, 652, 653, 654, 655, 656, 657, 658, 659, 660, 661, 663, 257, 258,
    }
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Catalogue:
    """The codes of the population, by category, then by assumed frequency; axis `[code]` unless stated.

    Args:
        codes: ICD-9-CM, without a dot.
        titles: Short titles.
        ccs: CCS single-level category.
        share: Of its category, how much the code takes; sums to 1 per category.
        chronic: Whether the category is chronic.
        age_first: Youngest age allowed, whole years.
        age_last: Oldest age allowed, whole years.
        sexes: `[code, sex]`, whether the sex may have it, in the order of `SEXES`.
        principal: Whether it may be the first diagnosis of a visit.
    """

    codes: tuple[str, ...]
    titles: tuple[str, ...]
    ccs: NDArray[np.int64]
    share: NDArray[np.float64]
    chronic: NDArray[np.bool_]
    age_first: NDArray[np.int64]
    age_last: NDArray[np.int64]
    sexes: NDArray[np.bool_]
    principal: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.codes)

    def allowed(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.bool_]:
        """`[band, sex, code]`: whether everybody aged `first` to `last` (`[band]`, years) may have a code."""
        ages = (self.age_first[None] <= first[:, None]) & (last[:, None] <= self.age_last[None])
        return ages[:, None, :] & self.sexes.T[None]


@functools.cache
def catalogue() -> Catalogue:
    """The catalogue that ships with the package (read once)."""
    table = _read("icd9.csv", {"code": pl.String, "sex": pl.String, "ages": pl.String})
    ccs = table["ccs"].to_numpy().astype(np.int64)
    limits = [_limits(*row) for row in table.select("ccs", "sex", "ages").iter_rows()]
    return Catalogue(
        codes=tuple(table["code"]),
        titles=tuple(table["title"]),
        ccs=ccs,
        share=_zipf_within(ccs),
        chronic=np.isin(ccs, sorted(CHRONIC_CCS)),
        age_first=np.array([first for first, _, _ in limits]),
        age_last=np.array([last for _, last, _ in limits]),
        sexes=np.array([[sex in allowed for sex in SEXES] for _, _, allowed in limits]),
        principal=table["first"].to_numpy() == 1,
    )


@functools.cache
def ccs_labels() -> dict[int, str]:
    """Short name of each CCS category."""
    table = _read("ccs.csv", {"label": pl.String})
    return dict(zip(table["ccs"], table["label"], strict=True))


def _read(name: str, types: dict[str, type[pl.String]]) -> pl.DataFrame:
    with (files(__package__) / name).open("rb") as file:
        return pl.read_csv(file.read(), schema_overrides=types).with_columns(pl.col(pl.String).fill_null(""))


def _limits(ccs: int, sex: str, ages: str) -> tuple[int, int, str]:
    """First age, last age, and the sexes a code is limited to."""
    names = set(ages.split("+")) - {""}
    if ccs in _PREGNANCY:
        sex, names = "F", names | {"maternity"}
    elif ccs in _PERINATAL:
        names |= {"newborn"}
    spans = [NO_LIMIT, *(AGE_EDITS[name] for name in names)]
    return max(first for first, _ in spans), min(last for _, last in spans), sex or "".join(SEXES)


def _zipf_within(ccs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each code in its category, by rank to the power -1.5 (assumed)."""
    share = np.empty(len(ccs))
    for rows in _runs(ccs):
        weight = np.arange(1, len(rows) + 1) ** -1.5
        share[rows] = weight / weight.sum()
    return share


def _runs(values: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for value in np.unique(values):
        yield np.flatnonzero(values == value)
