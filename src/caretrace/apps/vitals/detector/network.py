"""The network: features of a subject's past → what comes next, and how much speaks for getting worse.

Two readings of one hidden state. The *forecast* is a Student-t distribution of every channel's next value; how badly
it fails says that something is new. A drift over hours is foreseeable a step ahead, so beside it stands a *masked
reconstruction* of each channel that does not know the channel's own newest course. The *evidence* is a log-odds, of
something sudden and of something that goes on, learned from deviations put into recordings (`deviations.py`) or from
known events. The features hold the past at several scales, so that no backbone is needed; one that keeps a state may
stand between.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from caretrace.apps.vitals.config import DetectorConfig
from caretrace.apps.vitals.detector.history import longest
from caretrace.backbones import build_backbone

SUDDEN, LASTING = 0, 1  # places in the evidence
REASONS = ("sudden", "lasting")
AUTO = "auto"  # resolved by the recordings before fitting; by itself as below
NO_BACKBONE = "none"  # each step by itself
FREEDOM = 4.0  # of the Student-t: artefacts are far out, and must not frighten the scale
_SMALLEST_LOG_SCALE = -4.0
_CENTRAL = 2.131847  # 95 % quantile of a Student-t of `FREEDOM`


class Reading(NamedTuple):
    """What the network says at each step; leading axes are those of the features.

    Args:
        evidence: [..., 2], log-odds of something sudden, of something lasting.
        mean: [..., channel], of the next step's value, standardised.
        log_scale: [..., channel], logarithm of its scale.
    """

    evidence: Tensor
    mean: Tensor
    log_scale: Tensor


class Expected(NamedTuple):
    """A Student-t distribution of every channel's value at each step.

    Args:
        mean: [..., channel], standardised.
        log_scale: [..., channel], logarithm of its scale.
    """

    mean: Tensor
    log_scale: Tensor


class Masked(nn.Module):
    """Each channel now, by the other channels now and the past, its own newest course masked.

    Of a channel's own past only the average over the longest scale and the spread about it are shown, as they were a
    step before; of the other channels everything, this step included. Linear, and each value has its own scale.

    Args:
        n_features: Width of a step.
        n_channels: Signals.
    """

    shown: Tensor

    def __init__(self, n_features: int, n_channels: int) -> None:
        super().__init__()
        self.n_channels = n_channels
        features, channels = torch.arange(n_features), torch.arange(n_channels)
        spread = (features >= n_features - 1 - n_channels) & (features < n_features - 1)
        owner = torch.cat([features % n_channels, channels, channels, channels])
        owner[n_features - 1] = -1  # for how long there have been steps
        free = torch.cat([spread, torch.arange(3 * n_channels) < n_channels])
        others = owner != channels[:, None]
        self.register_buffer("shown", (others | free).repeat(2, 1).float(), persistent=False)
        # From 0, so that nothing else is drawn differently for it.
        self.weight = nn.Parameter(torch.zeros(2 * n_channels, len(owner)))
        self.bias = nn.Parameter(torch.zeros(2 * n_channels))

    def forward(self, before: Tensor, values: Tensor) -> Expected:
        """What each value should be.

        Args:
            before: [..., feature], of the step before.
            values: [..., channel], standardised; NaN where nothing was measured.
        """
        measured = ~torch.isnan(values)
        seen = [before, longest(before, self.n_channels), torch.nan_to_num(values), measured.to(before.dtype)]
        found = F.linear(torch.cat(seen, -1), self.weight * self.shown, self.bias)
        mean, log_scale = found.chunk(2, -1)
        return Expected(mean, log_scale.clamp(min=_SMALLEST_LOG_SCALE))


class Detector(nn.Module):
    """Features → backbone → forecast and evidence; causal, and able to go step by step.

    Args:
        config: Backbone and size.
        n_features: Width of a step.
        n_channels: Signals that are forecast.
    """

    def __init__(self, config: DetectorConfig, n_features: int, n_channels: int) -> None:
        super().__init__()
        width = config.d_model
        self.enter = nn.Sequential(nn.Linear(n_features, width), nn.GELU(), nn.Linear(width, width))
        self.backbone: nn.Module | None = None
        if config.backbone not in (AUTO, NO_BACKBONE):
            self.backbone = build_backbone(
                config.backbone,
                d_model=width,
                n_layers=config.n_layers,
                dropout=config.dropout,
                **config.backbone_settings,
            )
        read = width if self.backbone is None else 2 * width
        self.evidence = nn.Sequential(
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(read, width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(width, len(REASONS)),
        )
        # Without a backbone the forecast reads the features themselves, so that it and the evidence do not compete.
        self.forecast = nn.Linear(n_features if self.backbone is None else read, 2 * n_channels)
        self.masked = Masked(n_features, n_channels)

    def forward(
        self, features: Float[Tensor, "batch step feature"], padding_mask: Bool[Tensor, "batch step"]
    ) -> Reading:
        """Readings of whole sequences."""
        entered = self.enter(features)
        if self.backbone is None:
            return self._read(entered, features)
        hidden = torch.cat([entered, self.backbone(entered, padding_mask)], -1)
        return self._read(hidden, hidden)

    def step(self, features: Float[Tensor, "batch feature"], state: Any = None) -> tuple[Reading, Any]:
        """Readings of one more step, and the state to pass with the next one."""
        entered = self.enter(features)
        if self.backbone is None:
            return self._read(entered, features), None
        hidden, state = self.backbone.step(entered, state)  # type: ignore[operator]
        both = torch.cat([entered, hidden], -1)
        return self._read(both, both), state

    def _read(self, hidden: Tensor, foreseen_from: Tensor) -> Reading:
        mean, log_scale = self.forecast(foreseen_from).chunk(2, -1)
        return Reading(self.evidence(hidden), mean, log_scale.clamp(min=_SMALLEST_LOG_SCALE))


def surprise(reading: Reading, values: Tensor) -> Tensor:
    """Negative log-likelihood of each step's values under the forecast of the step before, nats.

    Args:
        reading: [batch, step, ...].
        values: [batch, step, channel], standardised; NaN where nothing was measured.

    Returns:
        [batch, step, channel]; 0 where nothing was measured, and at the first step.
    """
    before = Expected(reading.mean[:, :-1], reading.log_scale[:, :-1])
    return F.pad(nll(before, values[:, 1:]), (0, 0, 1, 0))


def nll(expected: Expected | Reading, values: Tensor) -> Tensor:
    """Negative log-likelihood of values under what was expected of them, nats; 0 where nothing was measured.

    Args:
        expected: [...].
        values: [..., channel], standardised; NaN where nothing was measured.
    """
    residual = (torch.nan_to_num(values) - expected.mean) * torch.exp(-expected.log_scale)
    constant = (
        torch.lgamma(torch.tensor(FREEDOM / 2))
        - torch.lgamma(torch.tensor((FREEDOM + 1) / 2))
        + 0.5 * torch.log(torch.tensor(FREEDOM * torch.pi))
    )
    loss = (FREEDOM + 1) / 2 * torch.log1p(residual.square() / FREEDOM) + expected.log_scale + constant
    return loss.masked_fill(torch.isnan(values), 0.0)


def covered(expected: Expected | Reading, values: Tensor) -> Tensor:
    """Share of the measured values that lie in the central 90 % of what was expected: .90 where it is calibrated."""
    residual = ((values - expected.mean) * torch.exp(-expected.log_scale)).abs()
    return (residual <= _CENTRAL).sum() / (~torch.isnan(values)).sum().clamp(min=1)


def residuals(reading: Reading, values: Tensor) -> Tensor:
    """How many scales each value lies above its forecast; NaN where nothing was measured, and at the first step."""
    apart = (values[:, 1:] - reading.mean[:, :-1]) * torch.exp(-reading.log_scale[:, :-1])
    return F.pad(apart, (0, 0, 1, 0), value=torch.nan)
