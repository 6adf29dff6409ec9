"""Fit an ensemble into a run folder, so that a killed run goes on where it stopped, bit for bit.

A run folder holds `run.json` (what was asked, of which data, with which versions), `metrics.jsonl` (one
line per epoch) and `checkpoints/member-<k>/{best,last}.ckpt`.
"""

from __future__ import annotations

import json
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn

from caretrace.data.module import SampleModule
from caretrace.data.samples import Samples
from caretrace.errors import CaretraceError
from caretrace.evaluation.discrimination import auroc
from caretrace.files import whole_file
from caretrace.training.checkpoints import BestAndLast, WholeCheckpoints, load_weights, stopped_early
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
        load_weights(module, folder / "best.ckpt")
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
    checkpoints = BestAndLast(folder)
    resumed = load_weights(module, checkpoints.last) if checkpoints.last.exists() else None
    if resumed is not None and stopped_early(resumed):
        return
    if resumed is None:
        module.model.prepare(train)  # type: ignore[operator]
    record = _EpochRecord(metrics, progress, 0 if resumed is None else resumed["epoch"] + 1, module.member)
    stop = EarlyStopping(
        "tuning_loss", patience=config.epochs(config.patience_steps, len(train)), check_finite=True
    )
    with _quiet(), _interruptible():
        trainer = lightning.Trainer(
            accelerator="cuda" if torch.cuda.is_available() else "cpu",
            devices=1,
            max_epochs=config.epochs(config.max_steps, len(train)),
            gradient_clip_val=config.gradient_clip,
            callbacks=[stop, record, checkpoints],
            plugins=[WholeCheckpoints()],
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
        ckpt_path = checkpoints.last if resumed is not None else None
        try:
            trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        except SIGTERMException:  # Lightning's, a SystemExit with code 0: half a training is no success
            raise CaretraceError("stopped by SIGTERM; the run goes on with --resume") from None


class _EpochRecord(Callback):
    """One line of `metrics.jsonl` per epoch; on resume, lines of epochs that will be run again go."""

    def __init__(self, path: Path, progress: Progress | None, first_epoch: int, member: int) -> None:
        self.path, self.progress = path, progress
        if path.exists():
            text = path.read_text(encoding="utf-8")
            # A kill may have cut the last line off; it belongs to an epoch without a checkpoint.
            lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
            kept = [line for line in lines if (line["member"], line["epoch"]) < (member, first_epoch)]
            with whole_file(path) as partial:
                partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

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


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lightning leaves without a word on Ctrl-C and ignores it from then on; callers want to hear of it."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


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
