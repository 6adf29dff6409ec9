"""The simulated population beside real encounters (diabetes130): in the neighbourhood, not identical.

A few constants were set by hand while looking at these very figures, so agreement shows that the population can
look like this, not that it predicts anything.

Both sides are brought to the shape of the real file: diabetic subjects, the first three diagnoses of each
visit cut to ICD-9 categories, ages in bands of ten years. Run with `-s` to see the table.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from caretrace.hospital.histories import catalogue
from caretrace.hospital.histories.likeness import LEARNERS, compare_visits, jaccard_ahead, simulated_visits
from caretrace.hospital.open_data import diabetic_visits

# What is near and how near; visits per subject are not (see below).
NEAR = {
    "Jaccard of consecutive visits": 0.05,
    "Jaccard of visits of two subjects": 0.04,
    "sex from first visit, AUROC": 0.07,
    "age from first visit, R²": 0.08,
    "share of women": 0.06,
    "mean age, years": 4.0,
    "share of the 10 commonest categories": 0.13,
    "share of the 100 commonest": 0.06,
    "log-log slope of the first 200 ranks": 0.15,
    "categories in 10,000 visits": 60,
}


@pytest.mark.data
def test_diabetic_subjects_resemble_real_ones(caretrace_data: Path) -> None:
    real, simulated = diabetic_visits(caretrace_data), simulated_visits(36_000, 5)
    compared = compare_visits(real, simulated)
    there, here = (
        dict(zip(compared["figure"], compared[side], strict=True)) for side in ("real", "simulated")
    )
    for name, value in there.items():
        print(f"{name:40s} real {value:9.3f}  simulated {here[name]:9.3f}")
    assert here["subjects"] >= LEARNERS * 0.95
    for name, tolerance in NEAR.items():
        assert abs(here[name] - there[name]) <= tolerance, (name, there[name], here[name])
    for steps in (2, 3):
        assert abs(jaccard_ahead(real, steps) - jaccard_ahead(simulated, steps)) <= 0.05
    assert here["visits per subject"] > there["visits per subject"]  # ours come back more, on purpose


@pytest.mark.data
def test_the_shipped_table_says_what_the_publishers_say(caretrace_data: Path) -> None:
    """Titles, CCS categories and limits, code by code, against the files they were taken from."""
    folder, known = caretrace_data / "icd9-tables", catalogue()
    with gzip.open(folder / "mce_code_edits_v32.tsv.gz", "rt", encoding="utf-8-sig") as file:
        edits = {(row[4], row[6]) for row in csv.reader(file, delimiter="\t") if row[5] == "D"}
    with gzip.open(folder / "ccs_single_level_dxref_2015.csv.gz", "rt") as file:
        ccs = {row[0].strip("' "): row[1].strip("' ") for row in csv.reader(file) if len(row) > 2}
    with gzip.open(folder / "icd9cm_v32_diagnosis_titles.psv.gz", "rt", encoding="utf-8-sig") as file:
        titles = {row[0]: row[2] for row in csv.reader(file, delimiter="|")}
    ages = {
        "Newborn_Only": (0, 0),
        "Pediatric_Only": (0, 17),
        "Maternity_Only": (12, 55),
        "Adult_Only": (15, 124),
    }
    for i, code in enumerate(known.codes):
        assert titles[code].strip() == known.titles[i]
        assert int(ccs[code]) == known.ccs[i]
        assert not (("Female_Only", code) in edits and known.sexes[i, 1]), code
        assert not (("Male_Only", code) in edits and known.sexes[i, 0]), code
        for name, (first, last) in ages.items():
            if (name, code) in edits:
                assert first <= known.age_first[i] <= known.age_last[i] <= last, (name, code)
        hidden = {("Principal_Unacceptable", code), ("Principal_Manifestation", code)}
        assert known.principal[i] == edits.isdisjoint(hidden), code
    assert len(known) == len(set(known.codes))
