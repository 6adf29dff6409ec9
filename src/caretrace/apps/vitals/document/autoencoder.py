"""The document's autoencoder: convolutions, LSTM, a latent vector, and the same way back.

    [window, 4, step] → Conv1d 4→16→32 → LSTM 64 × 2 → last step → 32 → LSTM 64 × 2 → Conv1d 64→32→16 → 2 signals

Four rows enter, two signals and the sine and cosine of the hour of day; only the signals come back out, for the hour
is known.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from caretrace.apps.vitals.config import DocumentConfig
from caretrace.backbones.conv_lstm import ConvLSTM

N_HOURS = 2  # sine and cosine of the hour of day


class ConvLSTMAutoencoder(nn.Module):
    """Windows → latent vectors → windows.

    Args:
        config: Widths, layers and dropout.
        n_channels: Signals.
    """

    def __init__(self, config: DocumentConfig, n_channels: int) -> None:
        super().__init__()
        self.encoder = ConvLSTM(
            d_model=config.d_model,
            n_layers=config.n_layers,
            dropout=config.dropout,
            d_in=n_channels + N_HOURS,
            channels=config.convolutions,
        )
        self.to_latent = nn.Linear(config.d_model, config.latent)
        self.from_latent = nn.Linear(config.latent, config.d_model)
        self.decoder = nn.LSTM(
            config.d_model,
            config.d_model,
            config.n_layers,
            batch_first=True,
            dropout=config.dropout if config.n_layers > 1 else 0.0,
        )
        back = (config.d_model, *reversed(config.convolutions))
        layers: list[nn.Module] = []
        for wide, narrow in itertools.pairwise(back):
            layers += [nn.Conv1d(wide, narrow, 3, padding=1), nn.ReLU()]
        self.back = nn.Sequential(*layers, nn.Conv1d(back[-1], n_channels, 3, padding=1))

    def encode(self, rows: Float[Tensor, "window row step"]) -> Float[Tensor, "window latent"]:
        """Latent vector of each window: what the LSTM holds at its last step."""
        padding = torch.zeros(len(rows), rows.shape[2], dtype=torch.bool, device=rows.device)
        return self.to_latent(self.encoder(rows.transpose(1, 2), padding)[:, -1])

    def forward(self, rows: Float[Tensor, "window row step"]) -> Float[Tensor, "window channel step"]:
        """Signals as rebuilt from the latent vector."""
        repeated = self.from_latent(self.encode(rows))[:, None].expand(-1, rows.shape[2], -1)
        return self.back(self.decoder(repeated)[0].transpose(1, 2))

    def loss(
        self,
        rows: Float[Tensor, "window row step"],
        target: Float[Tensor, "window channel step"],
        observed: Bool[Tensor, "window channel step"],
    ) -> Tensor:
        """Mean squared error where something was measured."""
        error = (self(rows) - target).square() * observed
        return error.sum() / observed.sum().clamp(min=1)

    def freeze_convolutions(self) -> None:
        """Fine-tuning leaves the encoder's convolutions as pre-training made them."""
        for parameter in self.encoder.convolutions.parameters():
            parameter.requires_grad_(False)


def augmented(
    values: Float[Tensor, "window channel step"], rng: np.random.Generator
) -> Float[Tensor, "window channel step"]:
    """Windows as they might also have been: time warped, shaken, scaled, and a probe off for a while.

    Um et al. 2017, "Data augmentation of wearable sensor data", https://doi.org/10.1145/3136755.3136817. The loss asks
    for the window as it was, so that the model learns what does not matter.

    Args:
        values: Standardised.
        rng: Source of chance.
    """
    n, _, steps = values.shape
    bend = np.cumsum(np.exp(rng.normal(0, 0.2, (n, 4))), 1)  # four stretches of different speed
    knots = np.concatenate([np.zeros((n, 1)), bend], 1) / bend[:, -1:]
    place = np.stack([np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, 5), row) for row in knots])
    index = torch.from_numpy(np.rint(place * (steps - 1)).astype(np.int64))
    warped = values.gather(2, index[:, None].expand_as(values))
    scale = torch.from_numpy(rng.normal(1, 0.1, (n, values.shape[1], 1)).astype(np.float32))
    noise = torch.from_numpy(rng.normal(0, 0.05, tuple(values.shape)).astype(np.float32))
    shaken = warped * scale + noise
    for window in np.flatnonzero(rng.random(n) < 0.2):
        start, length = int(rng.integers(steps)), int(rng.integers(1, max(2, steps // 8)))
        shaken[int(window), int(rng.integers(values.shape[1])), start : start + length] = 0.0
    return shaken
