"""Settings of a training."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from caretrace.errors import ConfigError

# A few dozen stays make one batch an epoch; hundreds of looks at the same few teach nothing.
_MOST_EPOCHS = 60
_AT_LEAST_ONE = (
    *("members", "max_steps", "patience_steps", "plateau_steps", "batch_size", "max_tokens", "accumulate"),
    *("checkpoint_steps", "devices", "nodes", "stream_sample", "lanes"),
)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is fitted.

    Args:
        seed: Seed of everything random.
        members: Models in the ensemble; each starts from its own seed, their logits are averaged.
        max_steps: Batches at most, per member, rounded up to whole epochs.
        patience_steps: Batches without a better tuning loss before a member stops. Patience is counted in
            batches because an epoch of a small cohort is over before anything is learned.
        batch_size: Samples per batch.
        learning_rate: Of AdamW (Loshchilov and Hutter 2019).
        weight_decay: Of AdamW.
        cross_fit: Divide training and tuning subjects into as many parts as there are members, and let each member be
            stopped by another part and learn from the rest, so that every subject is learned from. Subjects are judged
            by the member that has not seen them when the risk is recalibrated.
        gradient_clip: Largest norm of a gradient.
        plateau_factor: The learning rate is multiplied by this when the tuning loss stalls.
        plateau_steps: Batches without a better tuning loss before that happens.
        max_tokens: Batches of samples of similar length with at most this many slots, padding included, in place
            of `batch_size` samples; a longer sample is a batch of its own.
        accumulate: Portions in which a process computes its share of a batch, one after the other, for batches
            larger than its memory; the batch stays the same.
        checkpoint_steps: Also write a checkpoint every so many batches within an epoch.
        precision: 32; or bf16 or 16 for mixed precision, where weights stay in 32 bits. 16 needs a GPU.
        strategy: How several processes share the work: ddp (each holds the whole model; auto is this) or fsdp
            (each holds a part of it).
        devices: Processes per host, as `torchrun` or SLURM starts them; a check, for nothing is started here.
        nodes: Hosts, likewise.
        stream: Keep training samples on disk and read them from there; memory stays flat however many they are.
        stream_sample: With `stream`, labels at most on which what needs no gradient steps is fitted: the
            preprocessor, the linear reading, the comparators.
        lanes: With `stream`, parts in which the samples are stored; processes × workers must divide it. Batches
            depend on it, not on the number of processes.
        workers: With `stream`, processes beside each training process that read ahead.
    """

    seed: int = 0
    members: int = 5
    max_steps: int = 2000
    patience_steps: int = 320
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    cross_fit: bool = False
    gradient_clip: float = 1.0
    plateau_factor: float = 0.5
    plateau_steps: int = 160
    max_tokens: int | None = None
    accumulate: int = 1
    checkpoint_steps: int | None = None
    precision: Literal[32, "bf16", 16] = 32
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    devices: int | None = None
    nodes: int | None = None
    stream: bool = False
    stream_sample: int = 20_000
    lanes: int = 8
    workers: int = 0

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"training.{name}: got {value}, it must be at least 1")
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"training.{name}: got {getattr(self, name)}, it must be above 0")
        for name in ("seed", "weight_decay", "workers"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"training.{name}: got {getattr(self, name)}, it must not be negative")
        if not 0 < self.plateau_factor < 1:
            raise ConfigError(
                f"training.plateau_factor: got {self.plateau_factor}, it must lie between 0 and 1"
            )
        if self.cross_fit and (self.members < 2 or self.stream):
            raise ConfigError(
                f"training.cross_fit: it takes at least 2 members (members is {self.members}), and cannot be had with "
                "training.stream; leave one of them out"
            )
        if self.stream and self.max_tokens is not None:
            raise ConfigError(
                "training.stream and training.max_tokens: samples read from disk are not sorted by length; "
                "leave one of them out"
            )

    def epochs(self, steps: int, n_samples: int, n_batches: int | None = None) -> int:
        """How many epochs make at least `steps` batches; `_MOST_EPOCHS` at most.

        Args:
            steps: Batches wanted.
            n_samples: Samples of an epoch.
            n_batches: Batches of an epoch, where that does not follow from `batch_size`.
        """
        return min(_MOST_EPOCHS, math.ceil(steps / (n_batches or math.ceil(n_samples / self.batch_size))))
