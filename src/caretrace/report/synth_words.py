"""What the gates of a generator are called, and what they ask."""

from __future__ import annotations

from dataclasses import dataclass

LIKENESS, CELLS, APART, USE, POSSIBLE, PRIVACY = (
    "Likeness",
    "Each age and sex",
    "Telling apart",
    "Use",
    "Possible",
    "Privacy",
)
GROUPS = (
    (LIKENESS, "Divergence from held-out subjects, in units of how far as many training subjects are from them: 1 is "
     "what a perfect generator scores."),
    (CELLS, "The same divergence of codes, within an age band and sex of 500 held-out subjects or more."),
    (APART, "Classifiers and nearest neighbours that try to tell synthetic subjects from real ones."),
    (USE, "Models learned from synthetic subjects and tested on held-out ones, relative to models learned from real "
     "ones."),
    (POSSIBLE, "Codes that an age or sex cannot have, and codes twice in a visit, each per code."),
    (PRIVACY, "What an attacker learns about training subjects; real subjects who trained nothing give the floor."),
)  # fmt: skip
_CELL = "excess_cell_"


@dataclass(frozen=True)
class Words:
    """How a gate is shown.

    Args:
        group: One of `GROUPS`.
        label: In words.
        metric: Figure that shows it; None is the gate's own name, empty for none.
        at_least: Whether the bound is one from below.
    """

    group: str
    label: str
    metric: str | None = None
    at_least: bool = False


_WORDS = {
    "excess_codes": Words(LIKENESS, "how often each code comes"),
    "excess_pairs": Words(LIKENESS, "pairs of codes in a visit"),
    "excess_next_pairs": Words(LIKENESS, "pairs from a visit to the next"),
    "excess_rare_codes": Words(LIKENESS, "rare codes"),
    "excess_carried_over": Words(LIKENESS, "how much of a visit is in the next"),
    "excess_codes_per_visit": Words(LIKENESS, "codes per visit"),
    "excess_visits_per_subject": Words(LIKENESS, "visits per subject"),
    "excess_age_and_sex": Words(LIKENESS, "ages and sexes"),
    "structure_not_copied": Words(
        LIKENESS, "sizes not copied from the held-out", "excess_structure", at_least=True
    ),
    "prevalence_r2": Words(LIKENESS, "prevalences on the line of equality (R²)", at_least=True),
    "distinct_codes": Words(LIKENESS, "number of different codes", at_least=True),
    "two_sample_auroc": Words(
        APART, "the best classifier's AUROC (0.5: cannot tell)", "two_sample_auroc_trees"
    ),
    "conditioning_sex": Words(APART, "what codes say about sex, difference", ""),
    "conditioning_age": Words(APART, "what codes say about age, difference", ""),
    "coverage": Words(APART, "held-out subjects with a synthetic one near", at_least=True),
    "nnaa": Words(PRIVACY, "nearer to training than to held-out subjects (NNAA)", ""),
    "exact_copies": Words(PRIVACY, "exact copies of a training subject"),
    "exact_copies_long": Words(PRIVACY, "exact copies, 8 codes or more"),
    "utility_within": Words(USE, "a code from the others of its visit", at_least=True),
    "utility_next": Words(USE, "a code of the next visit", at_least=True),
    "sex_violations": Words(POSSIBLE, "codes of the other sex"),
    "age_violations": Words(POSSIBLE, "codes of another age"),
    "duplicates": Words(POSSIBLE, "codes twice in a visit"),
    "membership_auroc": Words(PRIVACY, "who was in training, by likelihood ratio (AUROC)", ""),
    "membership_tpr": Words(PRIVACY, "members found at 1 % false alarms", ""),
    "distance_membership_auroc": Words(PRIVACY, "who was in training, by distance (AUROC)", ""),
    "distance_membership_tpr": Words(PRIVACY, "members found at 1 % false alarms, by distance", ""),
    "attribute_inference_gain": Words(PRIVACY, "gain in guessing a training subject's other codes", ""),
    "canaries": Words(PRIVACY, "planted inventions that came out"),
}


def words_of(gate: str) -> Words:
    """How a gate is shown; one nobody knows keeps its name."""
    if gate.startswith(_CELL):
        return Words(CELLS, gate.removeprefix(_CELL))
    return _WORDS.get(gate, Words(LIKENESS, gate.replace("_", " ")))
