"""Checkpoints of one member: `last.ckpt` to go on from, `best.ckpt` to keep.

Both appear whole or not at all. They are read with torch's weights-only loader, after the checksum of
every part, which that loader leaves alone: a flipped bit is noticed, a pickle that carries code is refused.
"""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from caretrace.errors import BundleError
from caretrace.files import whole_file
from caretrace.training.requeue import Requeue

# What zipfile and torch raise for files that are damaged or hold more than tensors and plain values.
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


class BestAndLast(Checkpoint):
    """After each epoch: the best checkpoint if this was the best epoch, then the last one.

    Lightning's own callback forgets the score to beat when the run folder has been moved.

    Args:
        folder: Where the checkpoints go.
        every_steps: Write the last one also every so many batches within an epoch.
        requeue: Told us to make room: write the last one and leave.
    """

    def __init__(self, folder: Path, every_steps: int | None = None, requeue: Requeue | None = None) -> None:
        self.best, self.last = folder / "best.ckpt", folder / "last.ckpt"
        self.every_steps, self.requeue = every_steps, requeue
        self.best_loss = math.inf

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Within an epoch, between two steps; its end has a checkpoint of its own."""
        del pl_module, outputs, batch
        steps, portions = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        if portions or batch_idx + 1 >= trainer.num_training_batches:
            return
        leave = self.requeue is not None and self.requeue.asked()
        if leave or (self.every_steps and steps % self.every_steps == 0):
            trainer.save_checkpoint(self.last)
        if leave and self.requeue:
            self.requeue.leave()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Runs after early stopping, whose state goes with the checkpoint."""
        del pl_module
        loss = float(trainer.callback_metrics["tuning_loss"])
        if loss < self.best_loss:
            self.best_loss = loss
            trainer.save_checkpoint(self.best)
        trainer.save_checkpoint(self.last)
        if self.requeue is not None and self.requeue.asked():
            self.requeue.leave()

    def state_dict(self) -> dict[str, Any]:
        """The score to beat, stored in every checkpoint."""
        return {"best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The score to beat, wherever the run folder is now."""
        self.best_loss = state_dict["best_loss"]


class WholeCheckpoints(TorchCheckpointIO):
    """How Lightning writes a checkpoint.

    Lightning's own way swallows a PermissionError and goes on without a checkpoint
    (https://github.com/Lightning-AI/pytorch-lightning/issues/21800), so the file is written here.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """A kill while writing leaves the checkpoint before; what keeps it from being written is raised."""
        del storage_options
        with whole_file(Path(path)) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint that `BestAndLast` wrote.

    Raises:
        BundleError: The file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"checksum of {damaged}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch asks for bug reports about foreign pickles
            value: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not {"state_dict", "epoch", "callbacks"} <= value.keys():
            raise ValueError("parts are missing")
    except _UNREADABLE as error:
        raise _unusable(path, f"not a checkpoint that can be read ({type(error).__name__})") from None
    return value


def load_weights(module: nn.Module, path: Path) -> dict[str, Any]:
    """Read a checkpoint and put its weights into a module.

    Raises:
        BundleError: The checkpoint cannot be read or belongs to another model.
    """
    checkpoint = read_checkpoint(path)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, TypeError):
        raise _unusable(path, "its weights belong to another model") from None
    return checkpoint


def stopped_early(checkpoint: dict[str, Any]) -> bool:
    """Whether early stopping had ended this training when it was interrupted."""
    return any(
        name.startswith("EarlyStopping") and state["stopped_epoch"] > 0
        for name, state in checkpoint["callbacks"].items()
    )


def _unusable(path: Path, why: str) -> BundleError:
    return BundleError(
        f"{path}: {why}; remove the folder {path.parent} and go on with --resume: that member is trained again"
    )
