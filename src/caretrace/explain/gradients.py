"""Credit by gradients, computed by Captum, along a path from a reference to the record.

The path runs over a *presence* per measurement (0 absent, 1 there), so a measurement's credit is one number and
padding has none to receive. Gradients are those of the logit; a `Path` says what a presence between 0 and 1 is.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from caretrace.data.batch import EventBatch
from caretrace.errors import ConfigError
from caretrace.explain.attribution import Attribution
from caretrace.explain.scores import GradedScore, Path, Score, score_once

STEPS = 64
_POINTS_AT_ONCE = 64


def graded(score: Score) -> GradedScore:
    """The same score, if gradients can be asked of it.

    Raises:
        ConfigError: They cannot.
    """
    if not isinstance(score, GradedScore):
        raise ConfigError(
            "this score has no gradients with respect to its measurements; choose the method removal or ablation"
        )
    return score


def integrated_gradients(score: Score, sample: EventBatch, steps: int = STEPS) -> Attribution:
    """Integrated gradients of the logit (Sundararajan et al. 2017), by Gauss-Legendre quadrature.

    For a model whose embedding sums measurements this is layer integrated gradients on the embedding, its credit
    handed on to the measurements that it is the sum of.

    Args:
        score: A `GradedScore`.
        sample: A batch of one sample.
        steps: Points of the quadrature. Captum's default of 50 was too few on the sigmoid; on the logit the
            completeness error says whether these are enough.

    Raises:
        ConfigError: The score has no gradients, or Captum is not installed.
    """
    score = graded(score)
    path, ends = score.path(sample), _Ends(sample)
    method = _captum().IntegratedGradients(_connected(path))
    credit, static = method.attribute(
        ends.record,
        ends.reference,
        n_steps=steps,
        method="gausslegendre",
        internal_batch_size=_POINTS_AT_ONCE,
    )
    return _attribution(score, sample, path, ends, (credit, static))


def gradient_shap(score: Score, sample: EventBatch, samples: int = 128, seed: int = 0) -> Attribution:
    """Expected gradients (Lundberg and Lee 2017; Erion et al. 2021): references are random parts of the record.

    Each reference keeps every measurement with one chance, drawn evenly from 0 to 1 for that reference; so the
    credit is spread over many contexts. Its reference score is that of the references' mean.

    Args:
        score: A `GradedScore`.
        sample: A batch of one sample.
        samples: Gradients to average.
        seed: Seed of the references and of the points between.

    Raises:
        ConfigError: The score has no gradients, or Captum is not installed.
    """
    score = graded(score)
    path, ends = score.path(sample), _Ends(sample)
    draw = torch.Generator().manual_seed(seed)
    width = sample.code.shape[1]
    share = torch.rand(samples, 1, generator=draw)
    kept = (torch.rand(samples, width, generator=draw) < share).to(ends.record[0])
    static = ends.reference[1].expand(samples, -1)
    with _seeded(seed):
        credit = (
            _captum()
            .GradientShap(_connected(path))
            .attribute(ends.record, baselines=(kept, static), n_samples=samples, stdevs=0.0)
        )
    with torch.no_grad():
        reference = float(path(kept, static).double().mean())
    parts = [part[0].detach().double().cpu().numpy() for part in credit]
    return Attribution(parts[0], parts[1], score_once(score, sample), reference, "random parts of the record")


class _Ends:
    """Both ends of the path: presence and static features of the record and of the reference."""

    def __init__(self, sample: EventBatch) -> None:
        ones = torch.ones(1, sample.code.shape[1], device=sample.static.device, dtype=sample.static.dtype)
        self.record = (ones, sample.static)
        self.reference = (torch.zeros_like(ones), torch.zeros_like(sample.static))


def _attribution(
    score: GradedScore, sample: EventBatch, path: Path, ends: _Ends, credit: tuple[torch.Tensor, torch.Tensor]
) -> Attribution:
    with torch.no_grad():
        reference = float(path(*ends.reference)[0])
    parts = [part[0].detach().double().cpu().numpy() for part in credit]
    # The score itself, not the path's end: a path that does not lead to the score must show.
    return Attribution(parts[0], parts[1], score_once(score, sample), reference, score.reference)


def _connected(path: Path) -> Path:
    """The same path, with both arguments in its graph: Captum cannot differentiate by one that is not used."""
    return lambda presence, static: path(presence, static) + 0.0 * (presence.sum() + static.sum())


def _captum() -> types.ModuleType:
    try:
        import captum.attr as captum
    except ImportError:
        raise ConfigError(
            "gradient methods need Captum: pip install 'caretrace[explain]', or choose the method removal"
        ) from None
    return captum


@contextmanager
def _seeded(seed: int) -> Iterator[Any]:
    """Captum draws from the global generators; they are as they were afterwards."""
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
