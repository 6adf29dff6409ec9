"""The document's model at work: pre-train, fine-tune, forest on calm windows, a risk at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caretrace.apps.vitals.config import DocumentConfig
from caretrace.apps.vitals.document.autoencoder import N_HOURS, ConvLSTMAutoencoder, augmented
from caretrace.apps.vitals.document.forest import Forest
from caretrace.apps.vitals.task import Recordings
from caretrace.comparators.early_warning import news2
from caretrace.data.batch import GridBatch
from caretrace.data.grid import ChannelScaler, GridSettings, Stretch, Window, batches, cut
from caretrace.errors import CohortError

FloatArray = npt.NDArray[np.float32]
CALM_POINTS = 1.0  # mean NEWS2 points of a window, over its channels, up to which it is low-risk
CALM_WEIGHT, OTHER_WEIGHT = 1.0, 0.2  # chance of being drawn in fine-tuning
_FORWARD = 256


@dataclasses.dataclass(frozen=True)
class DocumentMonitor:
    """A fitted autoencoder with its forest.

    Args:
        config: Settings.
        model: In evaluation mode.
        scaler: Of its channels.
        settings: Its windows.
        forest: Grown on latent vectors of low-risk training windows.
    """

    config: DocumentConfig
    model: ConvLSTMAutoencoder
    scaler: ChannelScaler
    grid: GridSettings
    forest: Forest

    @classmethod
    def fit(cls, train: Recordings, config: DocumentConfig, seed: int) -> DocumentMonitor:
        """Learn from windows of training subjects.

        Raises:
            CohortError: A channel is missing, or there are too few windows.
        """
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        grid = dataclasses.replace(train.settings, channels=config.channels)
        stretches = only(train.stretches, train.channels, config.channels)
        windows = cut(stretches, grid)
        if len(windows) < 10:
            raise CohortError(
                f"the document's model: {len(windows)} training windows of {grid.length} steps; it needs 10; use "
                "longer recordings or a smaller grid.length"
            )
        chosen = rng.permutation(len(windows))[: config.max_windows]
        windows = [windows[int(i)] for i in chosen]
        scaler = ChannelScaler.fit(stretches, config.channels)
        shown = [stretches[w.stretch].values[:, w.start : w.start + grid.length] for w in windows]
        calm = np.array([is_calm(values, config.channels) for values in shown])
        model = ConvLSTMAutoencoder(config, len(config.channels))
        data = next(batches(stretches, windows, grid, scaler, len(windows)))
        _descend(
            model, data, np.ones(len(windows)), config, config.learning_rate, config.pretrain_epochs, rng
        )
        model.freeze_convolutions()
        weight = np.where(calm, CALM_WEIGHT, OTHER_WEIGHT)
        rate = config.learning_rate * config.finetune_factor
        _descend(model, data, weight, config, rate, config.finetune_epochs, rng)
        model.eval()
        vectors = _embedded(model, data)
        low = vectors[calm] if calm.sum() >= 10 else vectors
        return cls(config, model, scaler, grid, Forest.fit(low, seed))

    def embed(self, stretches: Sequence[Stretch], windows: Sequence[Window]) -> FloatArray:
        """Latent vector of each window, [window, latent]; stretches have this model's channels."""
        parts = [
            _embedded(self.model, batch)
            for batch in batches(stretches, windows, self.grid, self.scaler, _FORWARD)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.config.latent), np.float32)

    def risks(self, stretches: Sequence[Stretch], channels: tuple[str, ...]) -> list[FloatArray]:
        """Risk at every step, 0 to 100: that of the last window that was complete by then, 0 before the first.

        Args:
            stretches: Recordings, in the channels' units.
            channels: Their signals, in order.
        """
        own = only(stretches, channels, self.config.channels)
        windows = cut(own, dataclasses.replace(self.grid, min_observed=0.0))
        risk = self.forest.risk(self.embed(own, windows)) if windows else np.zeros(0)
        found = [np.zeros(len(stretch), np.float32) for stretch in stretches]
        for window, value in zip(windows, risk, strict=True):
            found[window.stretch][window.start + self.grid.length - 1 :] = value
        return found

    def doubt(self, batch: GridBatch, draws: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Monte Carlo dropout (Gal and Ghahramani 2016): mean and spread of the rebuilt windows.

        Args:
            batch: Windows.
            draws: How often the windows are rebuilt, each time without other units.
            seed: Of the dropout.

        Returns:
            Mean and standard deviation, both [window, channel, step].
        """
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        self.model.train()
        with torch.no_grad():
            rebuilt = torch.stack([self.model(rows_of(batch)) for _ in range(draws)])
        self.model.eval()
        torch.set_rng_state(state)
        return rebuilt.mean(0), rebuilt.std(0)

    def settings(self) -> dict[str, Any]:
        """What is not a tensor, as JSON has it."""
        return {
            "mean": self.scaler.mean.tolist(),
            "sd": self.scaler.sd.tolist(),
            "grid": {f.name: getattr(self.grid, f.name) for f in dataclasses.fields(self.grid)},
            "usual": self.forest.usual,
            "bounds": list(self.forest.bounds),
        }

    def state(self) -> dict[str, Tensor]:
        """All tensors by name."""
        trees = {
            f"forest.{name}": torch.from_numpy(np.ascontiguousarray(getattr(self.forest, name)))
            for name in ("left", "right", "feature", "threshold", "depth")
        }
        return {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()} | trees

    @classmethod
    def restore(
        cls, config: DocumentConfig, settings: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> DocumentMonitor:
        """What `settings` and `state` gave."""
        model = ConvLSTMAutoencoder(config, len(config.channels))
        model.load_state_dict(
            {name[len("model.") :]: tensor for name, tensor in state.items() if name.startswith("model.")}
        )
        trees = {
            name[len("forest.") :]: tensor.numpy()
            for name, tensor in state.items()
            if name.startswith("forest.")
        }
        low, high = settings["bounds"]
        grid = GridSettings(**{**settings["grid"], "channels": tuple(settings["grid"]["channels"])})
        scaler = ChannelScaler(
            config.channels, np.array(settings["mean"], np.float32), np.array(settings["sd"], np.float32)
        )
        return cls(
            config, model.eval(), scaler, grid, Forest(**trees, usual=settings["usual"], bounds=(low, high))
        )


def only(stretches: Sequence[Stretch], have: tuple[str, ...], want: tuple[str, ...]) -> list[Stretch]:
    """The same recordings with some of their channels.

    Raises:
        CohortError: A channel is not there.
    """
    missing = [name for name in want if name not in have]
    if missing:
        raise CohortError(f"no channel {missing[0]!r} among {', '.join(have)}; name those there are")
    rows = [have.index(name) for name in want]
    return [dataclasses.replace(stretch, values=stretch.values[rows]) for stretch in stretches]


def rows_of(batch: GridBatch) -> Tensor:
    """Signals, sine and cosine of the hour of day, [window, row, step]."""
    return torch.cat([batch.values, batch.time_features[:, :N_HOURS].to(batch.values.dtype)], 1)


def is_calm(values: FloatArray, channels: Sequence[str]) -> bool:
    """Whether a window, [channel, step], is low-risk by what NEWS2 says of its channels."""
    points = news2(dict(zip(channels, values, strict=True))).points
    known = points[~np.isnan(points)]
    return bool(known.size and known.mean() <= CALM_POINTS)


def _descend(
    model: ConvLSTMAutoencoder,
    data: GridBatch,
    weight: npt.NDArray[np.float64],
    config: DocumentConfig,
    rate: float,
    epochs: int,
    rng: np.random.Generator,
) -> None:
    """Draw windows by weight, as many as there are, epoch after epoch."""
    rows = rows_of(data)
    kept = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(kept, lr=rate)
    model.train()
    for _ in range(epochs):
        order = rng.choice(len(weight), len(weight), p=weight / weight.sum())
        for low in range(0, len(order), config.batch_size):
            chosen = torch.from_numpy(order[low : low + config.batch_size])
            target = data.values[chosen]
            seen = augmented(target, rng) if config.augmented else target
            entered = torch.cat([seen, rows[chosen, target.shape[1] :]], 1)
            loss = model.loss(entered, target, data.observed[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(kept, 1.0)
            optimizer.step()


@torch.no_grad()
def _embedded(model: ConvLSTMAutoencoder, batch: GridBatch) -> FloatArray:
    rows = rows_of(batch)
    parts = [model.encode(rows[low : low + _FORWARD]).numpy() for low in range(0, len(rows), _FORWARD)]
    return np.concatenate(parts).astype(np.float32)
