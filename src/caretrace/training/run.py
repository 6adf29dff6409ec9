"""Fit an ensemble into a run folder, so that a killed run goes on where it stopped, bit for bit.

A run folder holds `run.json` (what was asked, of which data, with which versions), `metrics.jsonl` (one
line per epoch) and `checkpoints/member-<k>/{best,last}.ckpt`.
"""

from __future__ import annotations

import dataclasses
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn

from caretrace.data.batching import Shares
from caretrace.data.module import SampleModule
from caretrace.data.samples import Samples
from caretrace.data.store import SampleStore
from caretrace.errors import CaretraceError
from caretrace.training.checkpoints import BestAndLast, load_weights, stopped_early
from caretrace.training.config import TrainingConfig
from caretrace.training.folds import Folds
from caretrace.training.module import TrainingModule
from caretrace.training.processes import Processes, joined
from caretrace.training.record import METRICS_FILE, EpochRecord, Progress
from caretrace.training.requeue import Requeue
from caretrace.training.strategy import trainer

__all__ = ["METRICS_FILE", "Progress", "fit"]


def fit(
    build: Callable[[], nn.Module],
    train: Samples | SampleStore,
    tuning: Samples,
    config: TrainingConfig,
    run: Path,
    progress: Progress | None = None,
    prepare_on: Samples | None = None,
    folds: Folds | None = None,
) -> list[nn.Module]:
    """Train every member of the ensemble, or go on with those that are not finished.

    Every process that a launcher started must call this; the first one writes.

    Args:
        build: Makes a fresh model; its weights are drawn after the member's seed is set.
        train: Samples of training subjects, in memory or on disk.
        tuning: Samples of tuning subjects: they stop the training early and pick the best epoch.
        config: Settings.
        run: The run folder; checkpoints in it are resumed.
        progress: Called with one record per epoch, the same as goes to `metrics.jsonl`.
        prepare_on: Samples for what needs no gradient steps; by default `train`, and needed if that is on disk.
        folds: With `cross_fit`, which samples each member learns from, in place of `train`, `tuning` and `prepare_on`.

    Returns:
        The members, each with the weights of its best epoch, in evaluation mode.

    Raises:
        BundleError: A checkpoint in the folder cannot be read or does not fit.
        CaretraceError: The loss is no longer a number, or SLURM takes the host back.
        ConfigError: The settings do not fit the processes that were started.
    """
    if prepare_on is None:
        if isinstance(train, SampleStore):
            raise TypeError("fit: samples on disk need prepare_on")
        prepare_on = train
    members = []
    with joined(config) as processes:
        requeue = Requeue(processes)
        for member in range(config.members):
            folder = run / "checkpoints" / f"member-{member}"
            if folds is not None:
                train, tuning = folds.of(member)
                prepare_on = train
            torch.manual_seed(config.seed * 1_000 + member)
            model = build()
            if not processes.decide((folder / "finished").exists()):
                data = _data(train, tuning, config, member, processes)
                module = TrainingModule(model, config, member, len(train), data.n_batches(), processes)
                with requeue.listening(), requeue.stepping():
                    _Fitting(module, data, folder, run / METRICS_FILE, progress, requeue)(prepare_on)
                if processes.main:
                    (folder / "finished").touch()
                if config.strategy == "fsdp":  # its weights are divided among the processes
                    model = build()
            load_weights(TrainingModule(model, config, member, len(train)), folder / "best.ckpt")
            members.append(model.eval())
    return members


def _data(
    train: Samples | SampleStore, tuning: Samples, config: TrainingConfig, member: int, processes: Processes
) -> SampleModule:
    return SampleModule(
        train,
        tuning,
        batch_size=config.batch_size,
        seed=config.seed * 1_000 + member,
        max_tokens=config.max_tokens,
        shares=Shares(processes.rank, processes.world, config.accumulate),
        workers=config.workers,
    )


@dataclasses.dataclass(frozen=True)
class _Fitting:
    """One member, from the start or from its last checkpoint."""

    module: TrainingModule
    data: SampleModule
    folder: Path
    metrics: Path
    progress: Progress | None
    requeue: Requeue

    def __call__(self, prepare_on: Samples) -> None:
        module, config, processes = self.module, self.module.config, self.module.processes
        checkpoints = BestAndLast(self.folder, config.checkpoint_steps, self.requeue)
        begun = processes.decide(checkpoints.last.exists())
        resumed = load_weights(module, checkpoints.last) if begun else None
        if resumed is not None and stopped_early(resumed):
            return
        first_epoch = 0 if resumed is None else self._go_on(resumed)
        if resumed is None:
            module.model.prepare(prepare_on)  # type: ignore[operator]
            for tensor in module.state_dict().values():
                processes.same(tensor)
        record = EpochRecord(
            self.metrics, self.progress, member=module.member, first_epoch=first_epoch, main=processes.main
        )
        stop = EarlyStopping("tuning_loss", patience=module.epochs(config.patience_steps), check_finite=True)
        epochs = module.epochs(config.max_steps)
        with _quiet(), _interruptible():
            fitting = trainer(config, processes, [stop, record, checkpoints], epochs, self.folder)
            ckpt_path = checkpoints.last if begun else None
            try:
                fitting.fit(module, datamodule=self.data, ckpt_path=ckpt_path, weights_only=True)
            except SIGTERMException:  # Lightning's, a SystemExit with code 0: half a training is no success
                raise CaretraceError("stopped by SIGTERM; the run goes on with --resume") from None

    def _go_on(self, resumed: dict[str, Any]) -> int:
        """The first epoch that is left to do, be it in part."""
        epoch, done = int(resumed["epoch"]), int(resumed["portions_done"])
        self.data.go_on(epoch, done)
        return epoch if done else epoch + 1


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
