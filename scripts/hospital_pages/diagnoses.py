"""Diagnoses of simulated diabetic subjects beside those of the diabetes-130 encounters."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caretrace.hospital import open_data
from caretrace.hospital.histories import likeness
from caretrace.hospital.histories.likeness import Visits
from caretrace.report.svg import Axis, Plot
from hospital_pages.drawing import BOTH, REAL, SIMULATED, Section, figure, panel, picture, steps, table

SUBJECTS, SEED = 36_000, 5
NAMES = {
    "250": "diabetes", "428": "heart failure", "414": "ischaemic heart disease", "276": "fluids and electrolytes",
    "401": "essential hypertension", "427": "heart rhythm", "599": "urinary tract", "496": "airway obstruction",
    "403": "hypertensive kidney disease", "486": "pneumonia", "786": "respiratory symptoms", "780": "general symptoms",
    "491": "chronic bronchitis", "410": "infarction", "682": "skin infection", "584": "acute kidney failure",
    "707": "skin ulcer", "411": "acute coronary disease", "518": "lung", "585": "chronic kidney disease",
}  # fmt: skip


def make(data: Path) -> Section:
    """Frequencies, lengths and overlap, real and simulated."""
    real, here = open_data.diabetic_visits(data), likeness.simulated_visits(SUBJECTS, SEED)
    return Section(
        figures={"diagnoses": _picture(real, here)},
        tables={"diagnoses": _figures(real, here), "diagnoses-common": _common(real, here)},
    )


def _picture(real: Visits, here: Visits) -> str:
    return picture("diagnoses", [_ranks(real, here), _lengths(real, here), _visits(real, here), _overlap(real, here)],
                   2, BOTH, "real: diabetes-130, diabetic subjects on both sides")  # fmt: skip


def _ranks(real: Visits, here: Visits) -> Plot:
    marks = tuple(float(p) for p in range(4))
    plot = Plot("", "", Axis("rank of the category", 0, 3, ticks=marks, names=("1", "10", "100", "1,000")),
                Axis("", -6, 0, ticks=(-6, -4, -2, 0), names=("1 in 10⁶", "1 in 10⁴", "1 in 100", "all")), 446, 240,
                left=66, right=24)  # fmt: skip
    panel("frequency by rank", "Share of all codes by the rank of their category, both on a log scale.", plot)
    for kind, visits in ((REAL, real), (SIMULATED, here)):
        count = likeness.frequencies(visits)
        rank = np.unique(np.round(np.geomspace(1, len(count), 60)).astype(int))
        plot.line(np.log10(rank).tolist(), np.log10(count[rank - 1] / count.sum()).tolist(), kind)
    return plot


def _lengths(real: Visits, here: Visits) -> Plot:
    plot = Plot("", "", Axis("codes of a visit, before the cut to three", 0, 21, ticks=(1, 5, 9, 13, 17, 20)),
                Axis("", 0, 0.52, percent=True), 446, 240, left=66)  # fmt: skip
    panel(
        "codes recorded per visit",
        "Visits by the number of codes; the real system stopped at 9 for most.",
        plot,
    )
    for kind, visits in ((REAL, real), (SIMULATED, here)):
        share = np.bincount(np.minimum(visits.recorded, 20), minlength=21)[1:] / len(visits.recorded)
        plot.line(*steps(np.arange(0.5, 21, 1).tolist(), share.tolist()), kind)
    return plot


def _visits(real: Visits, here: Visits) -> Plot:
    plot = Plot(
        "",
        "",
        Axis("visits", 1, 20, ticks=(1, 5, 10, 15, 20)),
        Axis("", 0, 1, percent=True),
        446,
        240,
        left=66,
    )
    panel("subjects with so many visits or more", "Share of subjects with at least so many visits.", plot)
    for kind, visits in ((REAL, real), (SIMULATED, here)):
        count = likeness.visit_counts(visits)
        plot.line(list(range(1, 21)), [float(np.mean(count >= n)) for n in range(1, 21)], kind)
    return plot


def _overlap(real: Visits, here: Visits) -> Plot:
    plot = Plot(
        "", "", Axis("visits apart", 1, 5, ticks=(1, 2, 3, 4, 5)), Axis("", 0, 0.3), 446, 240, left=66
    )
    panel(
        "overlap of a subject's visits (Jaccard)",
        "Mean Jaccard index of visits of one subject; thin: of two.",
        plot,
    )
    for kind, visits in ((REAL, real), (SIMULATED, here)):
        plot.line([1, 2, 3, 4, 5], [likeness.jaccard_ahead(visits, n) for n in range(1, 6)], kind)
        plot.line([1, 5], [likeness.jaccard_of_strangers(visits)] * 2, kind + " thin")
    plot.write(plot.inner_right - 4, plot.py(0.075), "visits of two subjects", "halo", "end")
    return plot


def _figures(real: Visits, here: Visits) -> str:
    compared = likeness.compare_visits(real, here)
    rows = [[name, figure(there), figure(ours)] for name, there, ours in compared.iter_rows()]
    return table(("diabetic subjects", "diabetes-130", "simulated"), rows)


def _common(real: Visits, here: Visits) -> str:
    names = likeness.commonest(real, 15)
    shares = [likeness.prevalence(visits, names) for visits in (real, here)]
    rows = [
        [f"{name} {NAMES.get(name, '')}".strip(), *(f"{100 * share[i]:.1f} %" for share in shares)]
        for i, name in enumerate(names)
    ]
    return table(("among the first three codes of a visit", "real", "simulated"), rows)
