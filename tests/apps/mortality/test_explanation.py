"""The mortality model's short ways beside the long ones."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.mortality.explanation import MortalityScore
from caretrace.apps.mortality.model import MortalityModel
from caretrace.data.batch import EventBatch, gaps
from caretrace.explain.gradients import integrated_gradients
from caretrace.explain.methods import METHODS
from caretrace.explain.removal import removal
from caretrace.explain.scores import LeavesOut, padded, score_once, score_without

N_CODES = 6
CONFIG = MortalityConfig(d_model=8, n_bins=4, pooling_heads=2, step_hours=4.0, lookback_hours=24.0)
STATIC = 3

measurements = st.lists(
    st.tuples(
        st.integers(0, 120).map(lambda quarters: quarters / 4),
        st.integers(1, N_CODES - 1),
        st.one_of(st.none(), st.floats(0, 1, width=32)),
    ),
    min_size=1,
    max_size=14,
)


def record(rows: list[tuple[float, int, float | None]]) -> EventBatch:
    rows = sorted(rows, key=lambda each: -each[0])
    time = torch.tensor([[-each[0] for each in rows]])
    code = torch.tensor([[each[1] for each in rows]])
    padding = torch.zeros(code.shape, dtype=torch.bool)
    return EventBatch(
        code=code,
        numeric_value=torch.tensor([[each[2] or 0.0 for each in rows]]),
        numeric_mask=torch.tensor([[each[2] is not None for each in rows]]),
        text_id=torch.full_like(code, -1),
        event_type=code % 3,
        time_hours=time,
        time_delta_hours=gaps(time, padding),
        static=torch.tensor([[0.5, 1.0, -0.3]]),
        padding_mask=padding,
    )


def ensemble(members: int = 2, **change) -> MortalityScore:
    models = []
    for seed in range(members):
        torch.manual_seed(seed)
        model = MortalityModel(
            dataclasses.replace(CONFIG, **change), n_codes=N_CODES, n_types=11, n_static=STATIC
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
        models.append(model.eval())
    return MortalityScore(models)


SCORES = {
    "default": ensemble(),
    "one reading": ensemble(1, level_hours=()),
    "two windows": ensemble(1, level_hours=(6.0, 24.0)),
    "transformer": ensemble(1, backbone="transformer"),
    "a step per measurement": ensemble(1, step_hours=0.0),
}


@pytest.mark.parametrize("name", SCORES)
@settings(max_examples=15)
@given(rows=measurements)
def test_exchanging_one_code_is_removing_one_measurement(name: str, rows) -> None:
    score, sample = SCORES[name], record(rows)
    assert isinstance(score, LeavesOut)
    literal = score_without(score, sample, np.eye(len(rows), dtype=bool))
    with torch.no_grad():
        quick = score.without_each(sample).numpy()
    assert np.allclose(quick, literal, atol=2e-4)


@pytest.mark.parametrize("name", SCORES)
@settings(max_examples=15)
@given(rows=measurements)
def test_the_path_leads_from_the_reference_to_the_record(name: str, rows) -> None:
    score, sample = SCORES[name], record(rows)
    path, width = score.path(sample), len(rows)
    with torch.no_grad():
        end = path(torch.ones(1, width), sample.static)
        start = path(torch.zeros(1, width), torch.zeros(1, STATIC))
        if name != "a step per measurement":
            nothing = sample.without(torch.ones(1, width, dtype=torch.bool))
            empty = dataclasses.replace(nothing, static=torch.zeros(1, STATIC))
            assert float(start) == pytest.approx(score_once(score, empty), abs=2e-4)
    assert float(end) == pytest.approx(score_once(score, sample), abs=2e-4)


@pytest.mark.parametrize("name", SCORES)
def test_integrated_gradients_sum_up_and_leave_padding_alone(name: str) -> None:
    rng = np.random.default_rng(0)
    rows = [
        (float(rng.integers(0, 96)) / 4, int(rng.integers(1, N_CODES)), float(rng.random()))
        for _ in range(20)
    ]
    sample = record(rows)
    found = integrated_gradients(SCORES[name], sample)
    assert found.completeness_error < 0.01
    wide = padded(sample, 5)
    for method in ("removal", "ablation", "integrated_gradients", "gradient_shap", "pooling"):
        credit = METHODS[method].run(SCORES[name], wide).credit
        assert (credit[20:] == 0.0).all(), method
    assert np.allclose(integrated_gradients(SCORES[name], wide).credit[:20], found.credit, atol=1e-3)


def test_the_level_reading_is_part_of_what_is_explained() -> None:
    """A code that only the linear reading weighs gets credit."""
    score = ensemble(1)
    member = score.members[0]
    with torch.no_grad():
        for parameter in member.head.parameters():
            parameter.zero_()
        member.level.weight.zero_()
        member.level.weight.view(-1)[: member.level.summary.n_features].view(N_CODES, -1)[2, 0] = 4.0
    sample = record([(3.0, 2, None), (2.0, 3, 0.5)])
    for method in (removal, integrated_gradients):
        assert method(score, sample).credit == pytest.approx([2.0, 0.0], abs=1e-5)


def test_attention_is_of_the_step_a_measurement_lies_in() -> None:
    sample = record([(23.0, 2, None), (1.0, 3, 0.5), (0.5, 4, None)])
    drawn = SCORES["transformer"].attention(sample)
    assert set(drawn) == {"pooling", "rollout"}
    assert float(drawn["pooling"][1]) == float(drawn["pooling"][2]) != float(drawn["pooling"][0])
    assert set(SCORES["default"].attention(sample)) == {"pooling"}


@pytest.mark.parametrize(
    "change", [{}, {"backbone": "transformer"}, {"step_hours": 0.0, "backbone": "transformer"}]
)
def test_where_heads_look_is_what_attention_averages(change: dict) -> None:
    score = ensemble(**change)
    sample = record([(30.0, 1, 0.2), (9.0, 2, None), (0.5, 3, 0.7), (0.0, 1, 0.9)])
    looks = score.looks(padded(sample, 2))
    assert len(looks) == 2
    for each in looks:
        assert each.pooling.sum(1) == pytest.approx([1.0, 1.0], abs=1e-5)
        assert each.step_of[4:].tolist() == [-1, -1]
        assert each.keys.shape == (each.pooling.shape[1], 2, 4)
        assert (np.diff(each.hours) <= 0).all()
        assert (each.layers is None) == (not change)
    mean = np.mean([each.pooling.mean(0)[each.step_of[:4]] for each in looks], axis=0)
    assert mean == pytest.approx(score.attention(sample)["pooling"].numpy(), abs=1e-6)
