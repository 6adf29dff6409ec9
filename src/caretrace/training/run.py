"""Fit an ensemble into a run folder, so that a killed run goes on where it stopped, bit for bit.

A run folder holds `run.json` (what was asked, of which data, with which versions), `metrics.jsonl` (one
line per epoch) and `checkpoints/member-<k>/{best,last}.ckpt`. Checkpoints are read with torch's
weights-only loader: a pickle that carries code is refused.
"""

from __future__ import annotations

import json
import logging
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from caretrace.data.module import SampleModule
from caretrace.data.samples import Samples
from caretrace.errors import BundleError
from caretrace.evaluation.discrimination import auroc
from caretrace.files import whole_file
from caretrace.training.config import TrainingConfig
from caretrace.training.module import TrainingModule

METRICS_FILE = "metrics.jsonl"

Progress = Callable[[dict[str, Any]], None]


def fit(
    build: Callable[[], nn.Module],
    train: Samples,
    tuning: Samples,
    config: TrainingConfig,
    run: Path,
    progress: Progress | None = None,
) -> list[nn.Module]:
    """Train every member of the ensemble, or go on with those that are not finished.

    Args:
        build: Makes a fresh model; its weights are drawn after the member's seed is set.
        train: Samples of training subjects.
        tuning: Samples of tuning subjects: they stop the training early and pick the best epoch.
        config: Settings.
        run: The run folder; checkpoints in it are resumed.
        progress: Called with one record per epoch, the same as goes to `metrics.jsonl`.

    Returns:
        The members, each with the weights of its best epoch, in evaluation mode.

    Raises:
        BundleError: A checkpoint in the folder cannot be read or does not fit.
        CaretraceError: The loss is no longer a number.
    """
    members = []
    for member in range(config.members):
        torch.manual_seed(config.seed * 1_000 + member)
        module = TrainingModule(build(), config, member, len(train))
        folder = run / "checkpoints" / f"member-{member}"
        if not (folder / "finished").exists():
            _fit_member(module, train, tuning, folder, run / METRICS_FILE, progress)
            (folder / "finished").touch()
        module.load_state_dict(_read_checkpoint(folder / "best.ckpt")["state_dict"])
        members.append(module.model.eval())
    return members


def _fit_member(
    module: TrainingModule,
    train: Samples,
    tuning: Samples,
    folder: Path,
    metrics: Path,
    progress: Progress | None,
) -> None:
    config = module.config
    last = folder / "last.ckpt"
    resumed = _read_checkpoint(last) if last.exists() else None
    if resumed is not None and _stopped(resumed):
        return
    record = _EpochRecord(metrics, progress, 0 if resumed is None else resumed["epoch"] + 1, module.member)
    best = ModelCheckpoint(
        folder, filename="best", monitor="tuning_loss", save_top_k=1, enable_version_counter=False
    )
    latest = ModelCheckpoint(
        folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    stop = EarlyStopping(
        "tuning_loss", patience=config.epochs(config.patience_steps, len(train)), check_finite=True
    )
    with _quiet():
        trainer = lightning.Trainer(
            accelerator="cuda" if torch.cuda.is_available() else "cpu",
            devices=1,
            max_epochs=config.epochs(config.max_steps, len(train)),
            gradient_clip_val=config.gradient_clip,
            callbacks=[stop, record, best, latest],
            plugins=[_WholeCheckpoints()],
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        data = SampleModule(
            train, tuning, batch_size=config.batch_size, seed=config.seed * 1_000 + module.member
        )
        trainer.fit(
            module, datamodule=data, ckpt_path=last if resumed is not None else None, weights_only=True
        )


class _EpochRecord(Callback):
    """One line of `metrics.jsonl` per epoch; on resume, lines of epochs that will be run again go."""

    def __init__(self, path: Path, progress: Progress | None, first_epoch: int, member: int) -> None:
        self.path, self.progress = path, progress
        if path.exists():
            lines = [
                json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
            ]
            kept = [line for line in lines if (line["member"], line["epoch"]) < (member, first_epoch)]
            path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        output, outcome = (part.cpu().numpy() for part in pl_module.tuning_outputs)
        record = {
            "member": pl_module.member,
            "epoch": trainer.current_epoch,
            "train_loss": pl_module.train_loss,
            "tuning_loss": float(trainer.callback_metrics["tuning_loss"]),
            "tuning_auroc": auroc(outcome, output),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.progress:
            self.progress(record)


class _WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all: a kill while writing leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with whole_file(Path(path)) as partial:
            super().save_checkpoint(checkpoint, partial, storage_options)


def _stopped(checkpoint: dict[str, Any]) -> bool:
    """Whether early stopping had ended this training when it was interrupted."""
    return any(
        name.startswith("EarlyStopping") and state["stopped_epoch"] > 0
        for name, state in checkpoint["callbacks"].items()
    )


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint, by torch's weights-only loader.

    Raises:
        BundleError: The file is damaged, is missing, or holds more than tensors and plain values.
    """
    try:
        value: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as error:
        raise BundleError(
            f"{path}: not a checkpoint that can be read ({type(error).__name__}); remove the folder "
            f"{path.parent} and go on with --resume: that member is trained again"
        ) from None
    return value


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice about workers, loggers and folders is not for our users."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*Checkpoint directory.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
