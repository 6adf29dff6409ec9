"""The one LightningModule: it trains any model with `prepare`, `forward`, `loss` and `tuning_loss`."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from caretrace.data.module import LabelledBatch
from caretrace.errors import CaretraceError
from caretrace.training.config import TrainingConfig


class TrainingModule(lightning.LightningModule):
    """AdamW with gradient clipping (by the trainer) and a learning rate that falls when tuning loss stalls.

    Args:
        model: `prepare(train)` sets, once and deterministically, what needs no gradient steps; `loss(batch,
            outcome)` is minimised on training samples; `forward(batch)` gives outputs, by whose
            `tuning_loss(output, outcome)` the tuning split is judged.
        config: Settings of the training.
        member: Number of this model in the ensemble; gives it a seed of its own.
        n_train: Training samples.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, member: int, n_train: int) -> None:
        super().__init__()
        self.model, self.config, self.member, self.n_train = model, config, member, n_train
        self._tuning: list[tuple[Tensor, Tensor]] = []
        self._train_loss = torch.zeros(())
        self._train_samples = 0
        self._resumed_schedule: dict[str, Any] | None = None

    def on_train_epoch_start(self) -> None:
        """Count the loss of this epoch alone."""
        self._train_loss, self._train_samples = torch.zeros(()), 0

    def training_step(self, batch: LabelledBatch, index: int) -> Tensor:
        """Loss of one batch; a loss that is not a number stops the training."""
        # Dropout is drawn by (seed, member, epoch, batch), so that a resumed run draws the same numbers. Once an
        # epoch is not enough: Lightning draws numbers of its own in between, and other ones when it resumes.
        torch.manual_seed(hash((self.config.seed, self.member, self.current_epoch, index)) % 2**63)
        events, outcome = batch
        loss: Tensor = self.model.loss(events, outcome)  # type: ignore[operator]
        self._require_finite("training", loss)
        self._train_loss += loss.detach().cpu() * len(outcome)
        self._train_samples += len(outcome)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the outputs of the epoch before."""
        self._tuning = []

    def validation_step(self, batch: LabelledBatch, index: int) -> None:
        """Keep the outputs; metrics are computed over the whole split, not averaged over batches."""
        del index
        events, outcome = batch
        self._tuning.append((self.model(events).detach(), outcome))

    def on_validation_epoch_end(self) -> None:
        """Log the tuning loss, which rules early stopping, the learning rate and the best checkpoint."""
        output, outcome = self.tuning_outputs
        loss = self.model.tuning_loss(output, outcome)  # type: ignore[operator]
        self._require_finite("tuning", loss)
        self.log("tuning_loss", loss)
        self._schedule.step(loss)

    def _require_finite(self, split: str, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise CaretraceError(
                f"the {split} loss became {loss.item()} in epoch {self.current_epoch}: the checkpoint of the epoch "
                "before is kept; train into another folder with a lower training.learning_rate"
            )

    @property
    def tuning_outputs(self) -> tuple[Tensor, Tensor]:
        """Outputs and outcomes of the last pass over the tuning split."""
        output, outcome = (torch.cat(parts) for parts in zip(*self._tuning, strict=True))
        return output, outcome

    @property
    def train_loss(self) -> float:
        """Mean loss over the samples of the epoch so far."""
        return float(self._train_loss) / max(1, self._train_samples)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; the learning rate falls when the tuning loss stalls.

        The schedule is stepped here and not by Lightning, which steps it after the checkpoint of the
        epoch is written: a resumed run would miss one step.
        """
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            factor=self.config.plateau_factor,
            patience=self.config.epochs(self.config.plateau_steps, self.n_train),
        )
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The state of the schedule goes with the weights."""
        checkpoint["schedule"] = self._schedule.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Kept until the optimizer exists."""
        self._resumed_schedule = checkpoint["schedule"]

    def on_fit_start(self) -> None:
        """The optimizer exists now: put the schedule back where it was."""
        if self._resumed_schedule is not None:
            self._schedule.load_state_dict(self._resumed_schedule)
