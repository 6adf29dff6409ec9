"""The gates prove themselves: fresh real subjects pass all, and each planted fault fails the one meant for it."""

import dataclasses
import functools

import numpy as np
import pytest

from caretrace.apps.synth.codes import icd9
from caretrace.apps.synth.config import HistoryConfig
from caretrace.apps.synth.judging import (
    PARTS,
    Canaries,
    Evidence,
    Likelihoods,
    Limits,
    failed,
    judge,
    passed,
)
from caretrace.apps.synth.task import collect_histories, read_vocabulary
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, ConfigError
from caretrace.evaluation import planted
from caretrace.evaluation.histories import Histories
from caretrace.evaluation.privacy import plant_canaries
from caretrace.hospital.histories import default_model, draw, log_likelihoods
from caretrace.ingest import ingest

N = 1200


@functools.cache
def population():
    model = default_model()
    drawn = draw(5 * N, 7, model).histories
    everyone = Histories.of(drawn, len(model.codes))
    parts = [everyone.take(np.arange(a, b)) for a, b in ((0, 3 * N), (3 * N, 4 * N), (4 * N, 5 * N))]
    return parts, log_likelihoods(drawn, model)


def evidence(**more):
    found = icd9.limits(default_model().codes)
    return Evidence(limits=Limits(found.age_first, found.age_last, found.sexes), nnaa_subjects=N, **more)


def test_a_fresh_hold_out_passes_every_gate():
    """With likelihoods of a generator that is the truth itself, against a reference that differs from it by chance."""
    (train, held_out, fresh), exact = population()
    noise = np.random.default_rng(0).normal(0, 2, len(exact))
    known = Likelihoods(
        exact[: 3 * N], (exact + noise)[: 3 * N], exact[3 * N : 4 * N], (exact + noise)[3 * N : 4 * N]
    )
    _, canaries, controls = plant_canaries(train, 30)
    verdict = judge(
        train, held_out, fresh, evidence(likelihoods=known, canaries=Canaries(canaries, controls))
    )
    assert failed(verdict) == []
    assert passed(verdict)
    assert verdict["application"] == "synth"
    assert verdict["n_subjects"] == N
    for figures in (verdict["metrics"], verdict["comparators"]["fresh_real"]):
        assert all(set(one) == {"value", "low", "high"} for one in figures.values())
    assert all(set(one) == {"passed", "value", "bound"} for one in verdict["gates"].values())
    wanted = {
        "excess_codes", "excess_pairs", "excess_next_pairs", "excess_rare_codes", "excess_codes_per_visit",
        "excess_carried_over", "excess_age_and_sex", "excess_visits_per_subject", "structure_not_copied",
        "prevalence_r2", "distinct_codes", "two_sample_auroc", "conditioning_sex", "conditioning_age", "coverage",
        "nnaa", "exact_copies", "exact_copies_long", "utility_within", "utility_next", "sex_violations",
        "age_violations", "duplicates", "membership_auroc", "membership_tpr", "attribute_inference_gain", "canaries",
    }  # fmt: skip
    assert wanted <= set(verdict["gates"])
    assert verdict["metrics"]["sex_violations"]["value"] == verdict["metrics"]["age_violations"]["value"] == 0
    assert {f"prototype_{name}" for name in ("js", "top_100_overlap", "ks_visits", "tpl", "spl")} <= set(
        verdict["metrics"]
    )


# Each fault, the gates meant for it, and the parts of the verdict they stand in.
FAULTS = {
    "collapse": ({"excess_codes", "excess_pairs", "distinct_codes", "prevalence_r2"}, "fidelity"),
    "copies": ({"nnaa", "exact_copies_long", "distance_membership_auroc"}, "neighbours privacy"),
    "independent": ({"excess_pairs", "excess_next_pairs", "two_sample_auroc"}, "fidelity two-sample"),
    "sexes": ({"conditioning_sex", "sex_violations"}, "two-sample validity"),
    "visits": ({"excess_carried_over"}, "fidelity"),
    "duplicates": ({"duplicates"}, "validity"),
}  # fmt: skip


def spoil(fault, train, fresh):
    made = {
        "collapse": lambda: planted.collapse(train, N),
        "copies": lambda: planted.copies(train, N),
        "independent": lambda: planted.independent_marginals(train, N),
        "sexes": lambda: planted.shuffled_sexes(fresh),
        "visits": lambda: planted.shuffled_visits(fresh),
        "duplicates": lambda: twice(fresh),
    }
    return made[fault]()


def twice(histories):
    """The first code of the first visit stands there twice."""
    return Histories(
        histories.age, histories.sex, histories.visit_count,
        histories.code_count + (np.arange(len(histories.code_count)) == 0),
        np.insert(histories.code, 0, histories.code[0]), histories.n_codes,
    )  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_planted_fault_fails_the_gate_meant_for_it(fault):
    (train, held_out, fresh), _ = population()
    gates, parts = FAULTS[fault]
    verdict = judge(train, held_out, spoil(fault, train, fresh), evidence(), parts=parts.split())
    assert gates <= set(failed(verdict)), verdict["gates"]


def test_what_a_fault_leaves_alone_passes():
    """A gate that always fails proves nothing: what shuffled visits leave alone is let through."""
    (train, held_out, fresh), _ = population()
    dealt = planted.shuffled_visits(fresh)
    verdict = judge(train, held_out, dealt, evidence(), parts=("fidelity", "validity"))
    kept = {
        "excess_codes",
        "excess_pairs",
        "excess_rare_codes",
        "excess_codes_per_visit",
        "distinct_codes",
        "duplicates",
    }
    assert not kept & set(failed(verdict))


def test_a_memorised_likelihood_fails_the_membership_gate():
    (train, held_out, fresh), exact = population()
    first, second = exact[: 3 * N], exact[3 * N : 4 * N]
    known = Likelihoods(first + 1, first + np.linspace(-1, 1, 3 * N), second, second + np.linspace(-1, 1, N))
    verdict = judge(train, held_out, fresh, evidence(likelihoods=known), parts=("privacy",))
    assert {"membership_auroc", "membership_tpr"} <= set(failed(verdict))


def test_a_canary_that_comes_out_fails_its_gate():
    (train, held_out, fresh), _ = population()
    spiked, canaries, controls = plant_canaries(fresh.take(np.arange(N - 30)), 30)
    verdict = judge(
        train, held_out, spiked, evidence(canaries=Canaries(canaries, controls)), parts=("privacy",)
    )
    assert "canaries" in failed(verdict)


def test_what_cannot_be_judged_is_refused():
    (train, held_out, fresh), _ = population()
    with pytest.raises(CohortError, match="3 synthetic subjects; give at least 100"):
        judge(train, held_out, fresh.take([0, 1, 2]))
    with pytest.raises(CohortError, match="training subjects of 9999 codes, held-out ones of 3714"):
        judge(dataclasses.replace(train, n_codes=9999), held_out, fresh)


def test_a_generator_that_leaves_out_a_sex_fails():
    (train, held_out, fresh), _ = population()
    verdict = judge(train, held_out, fresh.take(fresh.sex == 1), evidence(), parts=("fidelity", "cells"))
    assert "excess_age_and_sex" in failed(verdict)


def test_an_unknown_part_is_refused():
    (train, held_out, fresh), _ = population()
    with pytest.raises(ConfigError, match="unknown part 'fidelty': did you mean 'fidelity'"):
        judge(train, held_out, fresh, parts=("fidelty",))
    assert "fidelity" in PARTS


def real(folder, source, out):
    """Histories of an open dataset by split, with their limits."""
    ingest(source, folder, out)
    dataset, config = Dataset(out), HistoryConfig()
    vocabulary = read_vocabulary(dataset, config)
    found = icd9.limits(vocabulary.normal_codes)
    known = Evidence(limits=Limits(found.age_first, found.age_last, found.sexes), nnaa_subjects=2000)
    sets = [
        collect_histories(dataset, split, vocabulary, config).histories
        for split in ("train", "held_out", "tuning")
    ]
    return sets, known


@pytest.mark.data
@pytest.mark.slow
def test_on_diabetes_130_fresh_subjects_pass_and_faults_fail(caretrace_data, tmp_path):
    (train, held_out, fresh), known = real(caretrace_data / "diabetes130", "diabetes-130", tmp_path / "d")
    assert failed(judge(train, held_out, fresh, known)) == []
    n = len(held_out)
    for made, gates, part in (
        (planted.collapse(train, n), {"excess_codes", "distinct_codes", "prevalence_r2"}, "fidelity"),
        (planted.copies(train, n), {"nnaa", "exact_copies_long"}, "neighbours"),
        (planted.independent_marginals(train, n), {"excess_pairs", "excess_next_pairs"}, "fidelity"),
        (planted.shuffled_sexes(fresh), {"conditioning_sex"}, "two-sample"),
        (planted.shuffled_visits(fresh), {"excess_next_pairs", "excess_carried_over"}, "fidelity"),
    ):
        assert gates <= set(failed(judge(train, held_out, made, known, parts=(part,)))), gates
    cells = failed(judge(train, held_out, planted.shuffled_sexes(fresh), known, parts=("cells",)))
    assert any(name.startswith("excess_cell_") for name in cells)


@pytest.mark.data
@pytest.mark.slow
def test_on_desynpuf_codes_depend_on_neither_age_nor_sex_and_the_gates_say_so(caretrace_data, tmp_path):
    """The negative control: dealing sexes or visits out anew changes nothing there, and no gate pretends it does."""
    (train, held_out, fresh), known = real(caretrace_data / "cms-desynpuf", "desynpuf", tmp_path / "d")
    for one in (fresh, planted.shuffled_sexes(fresh)):
        verdict = judge(train, held_out, one, known, parts=("two-sample", "cells"))
        assert failed(verdict) == []
        for figures in (verdict["metrics"], verdict["comparators"]["fresh_real"]):
            assert abs(figures["sex_from_codes"]["value"] - 0.5) < 0.02
            assert abs(figures["age_from_codes"]["value"]) < 0.06  # R² below 0.4 %
    verdict = judge(train, held_out, fresh, known, parts=("validity",))
    assert (
        verdict["comparators"]["fresh_real"]["sex_violations"]["value"] > 0.4
    )  # 45 % of female-only codes are men's
    dealt = judge(train, held_out, planted.shuffled_visits(fresh), known, parts=("fidelity",))
    assert not {"excess_next_pairs", "excess_carried_over"} & set(failed(dealt))
