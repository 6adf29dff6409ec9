"""What the report draws of synthetic beside held-out subjects, counted once and kept as JSON.

No history of a real person is in it: of held-out subjects only counts, and only of what `COUNT_LEAST` of them have.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from caretrace.apps.synth.codes import icd9
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.evaluation import views
from caretrace.evaluation.histories import Floats, Histories, Ints, gather

CODES_MOST = 400  # of the scatter
MAP_CODES = 24  # of the co-occurrence maps
PANEL_GROUPS = 6
PEOPLE = 6
COUNT_LEAST = 10  # subjects; figures of fewer are not drawn
CELL_LEAST = 30  # subjects of an age and sex
_CODES_SHOWN = 12


def drawings(held_out: Histories, made: dict[str, Histories], vocabulary: Vocabulary) -> dict[str, Any]:
    """What is drawn.

    Args:
        held_out: Held-out subjects.
        made: Synthetic subjects by generator; the first is the one judged.
        vocabulary: Of all of them.

    Returns:
        JSON values: `prevalence`, `pairs`, `cells`, `people`.
    """
    ours = next(iter(made.values()))
    return {
        "prevalence": _prevalence(held_out, made, vocabulary),
        "pairs": _pairs(held_out, ours, vocabulary),
        "cells": _cells(held_out, ours, vocabulary),
        "people": [_person(ours, subject, vocabulary) for subject in _chosen(ours)],
    }


def _names(vocabulary: Vocabulary, numbers: Ints) -> list[str]:
    known = vocabulary.normal_codes
    return [f"{known[n]} {icd9.ccs_name(known[n])}" if n < len(known) else "other" for n in numbers]


def _prevalence(held_out: Histories, made: dict[str, Histories], vocabulary: Vocabulary) -> dict[str, Any]:
    real = views.prevalence(held_out)
    often = np.flatnonzero(real * len(held_out) >= COUNT_LEAST)
    codes = often[np.argsort(-real[often], kind="stable")][:CODES_MOST]
    return {
        "codes": _names(vocabulary, codes),
        "real": real[codes].tolist(),
        "made": {name: views.prevalence(one)[codes].tolist() for name, one in made.items()},
    }


def _pairs(held_out: Histories, ours: Histories, vocabulary: Vocabulary) -> dict[str, Any]:
    """Correlations (phi) of the commonest categories within a visit; codes near each other stand together."""
    category = np.append(vocabulary.category_of, len(vocabulary.categories))  # the last code is <unk>
    count = np.bincount(category[held_out.code], minlength=len(vocabulary.categories) + 1)[:-1]
    chosen = np.sort(np.argsort(-count, kind="stable")[:MAP_CODES])
    chosen = chosen[count[chosen] >= COUNT_LEAST]
    names = [_category_name(vocabulary, int(n)) for n in chosen]
    maps = [np.round(_phi(one, category, chosen), 4).tolist() for one in (held_out, ours)]
    return {"categories": names, "real": maps[0], "made": maps[1]}


def _category_name(vocabulary: Vocabulary, number: int) -> str:
    codes = np.flatnonzero(vocabulary.category_of == number)
    return f"{vocabulary.categories[number]} {icd9.ccs_name(vocabulary.normal_codes[codes[0]])}"


def _phi(histories: Histories, category: Ints, chosen: Ints) -> Floats:
    place = np.full(category.max() + 1, -1)
    place[chosen] = np.arange(len(chosen))
    column = place[category[histories.code]]
    there = np.zeros((len(histories.code_count), len(chosen)))
    there[histories.token_visit[column >= 0], column[column >= 0]] = 1
    centred = there - there.mean(0)
    spread = np.sqrt((centred**2).sum(0))
    spread[spread == 0] = 1
    found: Floats = (centred.T @ centred) / spread / spread[:, None]
    return found


def _cells(held_out: Histories, ours: Histories, vocabulary: Vocabulary) -> dict[str, Any]:
    """Share of subjects of each age and sex who ever have the commonest groups of codes."""
    labels = [icd9.ccs_name(code) for code in vocabulary.normal_codes] + ["other"]
    groups = sorted(set(labels))
    group_of = np.array([groups.index(label) for label in labels])
    of_all = _ever(held_out, group_of, len(groups)).mean(0)
    chosen = [int(n) for n in np.argsort(-of_all, kind="stable") if groups[n] not in ("other", "unknown")]
    chosen = chosen[:PANEL_GROUPS]
    cells = [views.cells(one) for one in (held_out, ours)]
    bands = [
        band
        for band in range(len(views.AGE_BANDS))
        if all((cell == 2 * band + sex).sum() >= CELL_LEAST for cell in cells for sex in (0, 1))
    ]
    shares = []
    for histories, cell in zip((held_out, ours), cells, strict=True):
        ever = _ever(histories, group_of, len(groups))[:, chosen]
        shares.append(
            [[[float(v) for v in ever[cell == 2 * b + sex].mean(0)] for b in bands] for sex in (0, 1)]
        )
    return {
        "groups": [groups[n] for n in chosen],
        "bands": [views.cell_name(2 * band).rpartition(" ")[0] for band in bands],
        "n": [[int((cells[0] == 2 * b + sex).sum()) for b in bands] for sex in (0, 1)],
        "real": shares[0],  # [sex, band, group]
        "made": shares[1],
    }


def _ever(histories: Histories, group_of: Ints, n_groups: int) -> Floats:
    """`[subject, group]`, 1 where a subject ever has a code of a group."""
    out = np.zeros((len(histories), n_groups))
    out[histories.token_subject, group_of[histories.code]] = 1
    return out


def _chosen(ours: Histories) -> list[int]:
    """Subjects to show: the first with several visits, then whoever comes."""
    several = np.flatnonzero(ours.visit_count >= 2)[: PEOPLE - 1]
    rest = np.setdiff1d(np.arange(min(len(ours), 4 * PEOPLE)), several)
    return [int(n) for n in [*several, *rest][:PEOPLE]]


def _person(ours: Histories, subject: int, vocabulary: Vocabulary) -> dict[str, Any]:
    one = ours.take(np.array([subject]))
    ends = np.cumsum(one.code_count)
    visits = []
    for end, size in zip(ends, one.code_count, strict=True):
        numbers = gather(np.array([size]), np.array([0])) + (end - size)
        visits.append(
            {
                "codes": _names(vocabulary, one.code[numbers[:_CODES_SHOWN]]),
                "more": max(0, int(size) - _CODES_SHOWN),
            }
        )
    return {"age": int(one.age[0]), "sex": "FM"[int(one.sex[0])], "visits": visits}
