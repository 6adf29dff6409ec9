"""The window summary against plain loops."""

import math

import numpy as np
import pytest
import torch

from caretrace.backbones.summary import WindowSummary
from caretrace.data.batch import EventBatch, gaps


def batch_of(samples: list[list[tuple[int, float | None, float]]]) -> EventBatch:
    """Samples of (code, value, hours before now), in chronological order."""
    width = max(1, *(len(sample) for sample in samples))
    shape = (len(samples), width)
    code, value, mask = (
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape),
        torch.zeros(shape, dtype=torch.bool),
    )
    time, padding = torch.zeros(shape), torch.ones(shape, dtype=torch.bool)
    for i, sample in enumerate(samples):
        for j, (number, number_value, before) in enumerate(sample):
            code[i, j], time[i, j], padding[i, j] = number, -before, False
            if number_value is not None:
                value[i, j], mask[i, j] = number_value, True
    return EventBatch(
        code=code,
        numeric_value=value,
        numeric_mask=mask,
        text_id=torch.zeros_like(code),
        event_type=torch.zeros_like(code),
        time_hours=time,
        time_delta_hours=gaps(time, padding),
        static=torch.zeros(len(samples), 1),
        padding_mask=padding,
    )


def literal(sample: list[tuple[int, float | None, float]], code: int, hours: float) -> list[float]:
    inside = [(v, 1 - before / hours) for c, v, before in sample if c == code and before <= hours]
    valued = [(v, t) for v, t in inside if v is not None]
    plain = [float(bool(inside)), math.log1p(len(inside)), 0.0]
    pieces = [0.0] * 8
    if valued:
        values, times = np.array([v for v, _ in valued]), np.array([t for _, t in valued])
        off = times - times.mean()
        plain[2] = float(((values - values.mean()) * off).sum() / ((off**2).sum() + 0.05))
        bent = [values[-1], values.min(), values.max(), values.mean()]
        pieces = [min(max(2 * v - piece, 0), 1) - 0.5 for v in bent for piece in (0, 1)]
    return plain + pieces


def random_samples(seed: int) -> list[list[tuple[int, float | None, float]]]:
    rng = np.random.default_rng(seed)
    samples = []
    for length in (0, 1, 7, 23):
        before = np.sort(rng.uniform(0, 60, length))[::-1]
        samples.append(
            [
                (int(rng.integers(1, 4)), float(rng.random()) if rng.random() < 0.7 else None, float(b))
                for b in before
            ]
        )
    return samples


@pytest.mark.parametrize("seed", range(5))
def test_every_number_equals_the_plain_loop(seed: int) -> None:
    samples = random_samples(seed)
    windows = (48.0, 6.0)
    summary = WindowSummary(n_codes=4, windows_hours=windows)
    got = summary(batch_of(samples))
    expected = [
        [x for code in range(4) for hours in windows for x in literal(s, code, hours)] for s in samples
    ]
    assert got.shape == (4, summary.n_features)
    # Padding has code 0, which no measurement has: its column must be empty.
    np.testing.assert_allclose(got.numpy(), np.array(expected), atol=1e-5)


def test_no_windows_no_features() -> None:
    assert WindowSummary(n_codes=4, windows_hours=()).n_features == 0
