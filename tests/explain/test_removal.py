"""Removal and ablation on scores whose answer is known."""

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation

from caretrace.data.vocabulary import UNKNOWN
from caretrace.errors import ConfigError
from caretrace.explain import groups as grouping
from caretrace.explain.removal import (
    ablation,
    interactions,
    per_group,
    removal,
    static_removal,
)
from caretrace.explain.scores import copies, padded, score_without

from .toy import additive, cases, make, present, trained

SAMPLE = make([[4, 5, 6, 5, 7]])
WEIGHTS = {4: 1.0, 5: -2.0, 6: 0.5, UNKNOWN: 0.25}


def test_removal_of_an_additive_score_gives_its_terms() -> None:
    found = removal(additive(WEIGHTS), SAMPLE)
    assert found.credit.tolist() == [1.0, -2.0, 0.5, -2.0, 0.0]
    assert found.score == -2.5


def test_ablation_compares_with_its_reference_not_with_nothing() -> None:
    found = ablation(additive(WEIGHTS), SAMPLE)
    assert np.allclose(found.credit, np.array([1.0, -2.0, 0.5, -2.0, 0.0]) - 0.25)


def test_ablation_of_values_alone_leaves_the_code() -> None:
    sample = make([[4, 5]], [[0.9, 0.1]])
    assert ablation(lambda b: b.numeric_value.sum(1), sample, reference="median").credit == pytest.approx(
        [0.4, -0.4]
    )
    assert ablation(additive({4: 3.0}), sample, reference="median").credit.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (grouping.codes(SAMPLE), [1.0, -4.0, 0.5, 0.0]),
        (grouping.windows(SAMPLE, 2.0), [-2.0, -1.5, 1.0]),
        (grouping.types(SAMPLE), [1.0, -4.0, 0.5, 0.0]),
        (grouping.events(SAMPLE), [1.0, -2.0, 0.5, -2.0, 0.0]),
        (grouping.chosen(SAMPLE, [0, 1]), [-1.0]),
    ],
)
def test_groups_fall_together(groups: np.ndarray, expected: list[float]) -> None:
    assert per_group(groups, removal(additive(WEIGHTS), SAMPLE, groups).credit).tolist() == expected


def test_a_redundant_pair_is_worth_nothing_alone_and_everything_together() -> None:
    either = lambda b: 3.0 * torch.maximum(present(b, 4), present(b, 5))  # noqa: E731
    sample = make([[4, 6, 5]])
    assert removal(either, sample).credit.tolist() == [0.0, 0.0, 0.0]
    together = grouping.chosen(sample, [0, 2], [1])
    assert per_group(together, removal(either, sample, together).credit).tolist() == [3.0, 0.0]


def test_interactions_tell_needing_from_replacing_from_adding() -> None:
    sample = make([[4, 5, 6]])
    both = lambda b: 3.0 * present(b, 4) * present(b, 5)  # noqa: E731
    either = lambda b: 3.0 * torch.maximum(present(b, 4), present(b, 5))  # noqa: E731
    pairs = [(0, 1), (0, 2)]
    assert interactions(both, sample, pairs).tolist() == [3.0, 0.0]
    assert interactions(either, sample, pairs).tolist() == [-3.0, 0.0]
    assert interactions(additive({4: 1.0, 5: 2.0}), sample, pairs).tolist() == [0.0, 0.0]


def test_static_features_fall_to_their_reference() -> None:
    sample = make([[4]], static=3)
    sample.static[:] = torch.tensor([[2.0, 1.0, 0.0]])
    score = lambda b: b.static @ torch.tensor([1.0, 10.0, 100.0])  # noqa: E731
    assert static_removal(score, sample, [[0], [1, 2]]).tolist() == [2.0, 10.0]
    assert static_removal(score, sample, [[0]], np.array([1.0, 0.0, 0.0], np.float32)).tolist() == [1.0]
    assert static_removal(score, sample, []).tolist() == []


def test_padding_gets_nothing() -> None:
    wide = padded(SAMPLE, 3)
    assert removal(additive(WEIGHTS), wide).credit.tolist() == [1.0, -2.0, 0.5, -2.0, 0.0, 0.0, 0.0, 0.0]


def test_a_mask_that_is_too_short_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"groups: got shape \(4,\), expected one number per measurement, \(5,\)"
    ):
        removal(additive(WEIGHTS), SAMPLE, np.arange(4))
    with pytest.raises(ConfigError, match="a padded slot is in a group"):
        removal(additive(WEIGHTS), padded(SAMPLE, 1), np.arange(6))
    with pytest.raises(ConfigError, match="unknown reference 'mean'"):
        ablation(additive(WEIGHTS), SAMPLE, reference="mean")  # type: ignore[arg-type]


def test_removal_is_what_captum_computes_with_one_feature_per_event() -> None:
    model, sample = trained(), cases(1)[0].sample
    groups = grouping.events(sample)

    def kept(presence: torch.Tensor) -> torch.Tensor:
        return model(copies(sample, len(presence)).without(presence < 0.5))

    ones = torch.ones(sample.code.shape, dtype=torch.float32)
    with torch.no_grad():
        theirs = FeatureAblation(kept).attribute(
            ones, baselines=0.0, feature_mask=torch.from_numpy(groups)[None], perturbations_per_eval=4
        )
    assert np.allclose(removal(model, sample, groups).credit, theirs[0].numpy(), atol=1e-5)


def test_portions_do_not_change_a_score(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = cases(1)[0].sample
    drop = np.eye(sample.code.shape[1], dtype=bool)
    whole = score_without(trained(), sample, drop)
    monkeypatch.setattr("caretrace.explain.scores.MOST_SLOTS", 3 * len(drop))
    told: list[tuple[int, int]] = []
    parts = score_without(trained(), sample, drop, lambda n, of: told.append((n, of)))
    assert np.allclose(whole, parts, atol=1e-5)
    assert told[-1] == (len(drop), len(drop))
    assert len(told) == -(-len(drop) // 3)


def test_a_record_without_measurements_has_no_credit_to_give() -> None:
    found = removal(additive(WEIGHTS), make([[]]))
    assert found.credit.tolist() == [0.0]
