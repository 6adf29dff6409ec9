"""What may not matter to a risk does not, and what should does."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.mortality.model import MortalityModel, last_steps
from caretrace.backbones import BACKBONES
from caretrace.data.batch import EventBatch
from caretrace.data.samples import Samples
from caretrace.schema import EventType

N_CODES, N_STATIC = 7, 3
VARIANTS = [(backbone, step_hours) for backbone in sorted(BACKBONES) for step_hours in (0.0, 4.0)]

every = pytest.mark.parametrize(("backbone", "step_hours"), VARIANTS)


def model(backbone: str, step_hours: float) -> MortalityModel:
    torch.manual_seed(0)
    config = MortalityConfig(backbone=backbone, step_hours=step_hours, d_model=16, n_bins=2)
    made = MortalityModel(config, n_codes=N_CODES, n_types=len(EventType), n_static=N_STATIC).eval()
    with torch.no_grad():  # the linear reading starts at zero; it must take part in these checks
        made.level.weight.normal_(std=0.1)
    return made


def samples(lengths: list[int], seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    return Samples(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        code=rng.integers(1, N_CODES, n),
        numeric_value=rng.random(n, dtype=np.float32),
        numeric_mask=rng.random(n) < 0.7,
        event_type=rng.integers(0, len(EventType), n),
        time_hours=np.concatenate([[], *(np.sort(rng.uniform(-60, 0, k)) for k in lengths)]).astype(
            np.float32
        ),
        static=rng.normal(size=(len(lengths), N_STATIC)).astype(np.float32),
        outcomes=(rng.random(len(lengths)) < 0.5).astype(np.float32),
    )


LENGTHS = [9, 0, 1, 30, 4]


def logits(made: MortalityModel, batch: EventBatch) -> torch.Tensor:
    with torch.inference_mode():
        return made(batch)


@pytest.fixture(scope="module")
def models():
    return {variant: model(*variant) for variant in VARIANTS}


@given(
    variant=st.sampled_from(VARIANTS),
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=5),
    data=st.data(),
)
def test_a_sample_does_not_mind_its_company(models, variant, lengths, data):
    """Alone, in another order, beside longer ones: the batch is a matter of speed alone."""
    made, its = models[variant], samples(lengths)
    together = logits(made, its.batch(range(len(lengths))))
    order = data.draw(st.permutations(range(len(lengths))))
    torch.testing.assert_close(logits(made, its.batch(order)), together[order], rtol=1e-5, atol=1e-5)
    alone = torch.cat([logits(made, its.batch([row])) for row in range(len(lengths))])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


@every
@pytest.mark.parametrize("more", [1, 17])
def test_more_padding_with_garbage_in_it_changes_nothing(models, backbone, step_hours, more):
    made, batch = models[backbone, step_hours], samples(LENGTHS).batch(range(5))

    def widened(name, value):
        if name in ("static", "hour_of_week", "hours_since_admission"):
            return value
        garbage = {"padding_mask": 1, "time_hours": -3.0, "numeric_mask": 1, "numeric_value": 0.9}.get(
            name, 5
        )
        return torch.cat([value, torch.full((5, more), garbage, dtype=value.dtype)], 1)

    wide = EventBatch(**{f.name: widened(f.name, getattr(batch, f.name)) for f in dataclasses.fields(batch)})
    torch.testing.assert_close(logits(made, wide), logits(made, batch), rtol=1e-5, atol=1e-5)


@every
def test_measurements_and_static_features_matter(models, backbone, step_hours):
    made, batch = models[backbone, step_hours], samples(LENGTHS).batch(range(5))
    before = logits(made, batch)
    older = dataclasses.replace(batch, static=batch.static + 1)
    assert not torch.isclose(logits(made, older), before).any()
    changed = logits(made, dataclasses.replace(batch, numeric_value=1 - batch.numeric_value))
    assert not torch.isclose(changed[3], before[3])
    assert torch.equal(changed[1], before[1])  # it has no measurements
    without = torch.zeros_like(batch.padding_mask)
    without[3, :10] = True
    assert not torch.isclose(logits(made, batch.without(without))[3], before[3])


@every
def test_every_parameter_learns(backbone, step_hours):
    made, its = model(backbone, step_hours).train(), samples([20] * 16)
    made.loss(its.batch(range(16)), torch.from_numpy(its.outcomes)).backward()
    for name, parameter in made.named_parameters():
        if name.startswith("level."):  # solved beforehand, see test_level.py
            assert not parameter.requires_grad
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@every
def test_it_can_learn_by_heart(backbone, step_hours):
    torch.manual_seed(0)
    made, its = model(backbone, step_hours), samples([8] * 12)
    batch, outcome = its.batch(range(12)), torch.from_numpy(its.outcomes)
    made.prepare(its)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        made.loss(batch, outcome).backward()
        optimizer.step()
    assert made.tuning_loss(made(batch), outcome) < 0.1


def test_last_steps_by_hand():
    mask = torch.tensor([[False, False, True], [False, False, False], [True, True, True]])
    assert last_steps(mask).tolist() == [1, 2, 0]
