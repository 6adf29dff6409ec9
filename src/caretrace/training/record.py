"""`metrics.jsonl`: one line per epoch, as if nothing had ever been interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from caretrace.evaluation.discrimination import auroc
from caretrace.files import whole_file
from caretrace.training.module import TrainingModule

METRICS_FILE = "metrics.jsonl"

Progress = Callable[[dict[str, Any]], None]


class EpochRecord(Callback):
    """One line per epoch, written by the first process; on resume, lines of epochs that will be run again go.

    Args:
        path: The file.
        progress: Told what is written.
        member: Which member of the ensemble is trained.
        first_epoch: The first epoch that will be run now.
        main: Whether this process writes.
    """

    def __init__(
        self, path: Path, progress: Progress | None, *, member: int, first_epoch: int, main: bool
    ) -> None:
        self.path, self.progress, self.main = path, progress, main
        if main and path.exists():
            text = path.read_text(encoding="utf-8")
            # A kill may have cut the last line off; it belongs to an epoch without a checkpoint.
            lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
            kept = [line for line in lines if (line["member"], line["epoch"]) < (member, first_epoch)]
            with whole_file(path) as partial:
                partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Before the checkpoint, so that no epoch with a checkpoint lacks its line."""
        assert isinstance(pl_module, TrainingModule)
        train_loss = pl_module.train_loss()
        if not self.main:
            return
        output, outcome = (part.cpu().numpy() for part in pl_module.tuning_outputs)
        record = {
            "member": pl_module.member,
            "epoch": trainer.current_epoch,
            "train_loss": train_loss,
            "tuning_loss": float(trainer.callback_metrics["tuning_loss"]),
            "tuning_auroc": auroc(outcome, output),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.progress:
            self.progress(record)
