"""The one LightningModule: it trains any model with `prepare`, `forward`, `loss` and `tuning_loss`."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from caretrace.data.batching import LabelledBatch
from caretrace.errors import CaretraceError
from caretrace.training.config import TrainingConfig
from caretrace.training.processes import Processes
from caretrace.training.shards import divide


class TrainingModule(lightning.LightningModule):
    """AdamW with gradient clipping (by the trainer) and a learning rate that falls when tuning loss stalls.

    Args:
        model: `prepare(train)` sets, once and deterministically, what needs no gradient steps; `loss(batch,
            outcome)` is minimised on training samples; `forward(batch)` gives outputs, by whose
            `tuning_loss(output, outcome)` the tuning split is judged.
        config: Settings of the training.
        member: Number of this model in the ensemble; gives it a seed of its own.
        n_train: Training samples.
        n_batches: Batches of an epoch, where that does not follow from their number.
        processes: Which share of every batch comes here.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        member: int,
        n_train: int,
        n_batches: int | None = None,
        processes: Processes | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config, self.member = model, config, member
        self.n_train, self.n_batches = n_train, n_batches
        self.processes = processes or Processes()
        # Portions of batches done in the epoch in progress; 0 at its end.
        self.portions_done = 0
        self._tuning: list[tuple[Tensor, Tensor]] = []
        self._train_loss = torch.zeros(())
        self._train_samples = 0
        self._resumed_schedule: dict[str, Any] | None = None

    def epochs(self, steps: int) -> int:
        """How many epochs make at least `steps` batches."""
        return self.config.epochs(steps, self.n_train, self.n_batches)

    def configure_model(self) -> None:
        """Divide the weights among the processes, if that was asked."""
        if self.config.strategy == "fsdp" and self.processes.world > 1:
            divide(self.model, self.device_mesh["data_parallel"])

    def on_train_epoch_start(self) -> None:
        """Count the loss of this epoch alone."""
        self._train_loss, self._train_samples = torch.zeros(()), 0

    def training_step(self, batch: LabelledBatch, index: int) -> Tensor:
        """Loss of one batch; a loss that is not a number stops the training."""
        # Dropout is drawn by (seed, member, epoch, batch), so that a resumed run draws the same numbers. Once an
        # epoch is not enough: Lightning draws numbers of its own in between, and other ones when it resumes.
        draw = (self.config.seed, self.member, self.current_epoch, index)
        rank = self.processes.rank
        torch.manual_seed(hash((*draw, rank) if rank else draw) % 2**63)
        loss: Tensor = self.model.loss(batch.events, batch.outcomes)  # type: ignore[operator]
        self._require_finite("training", loss)
        self._train_loss += loss.detach().cpu() * batch.counted
        self._train_samples += batch.counted
        self.portions_done = index + 1
        return loss if batch.weight == 1 else loss * batch.weight

    def on_validation_epoch_start(self) -> None:
        """Forget the outputs of the epoch before."""
        self._tuning = []

    def validation_step(self, batch: LabelledBatch, index: int) -> None:
        """Keep the outputs; metrics are computed over the whole split, not averaged over batches."""
        del index
        output = self.model(batch.events).detach().float()
        self._tuning.append((output[: batch.counted], batch.outcomes[: batch.counted]))

    def on_validation_epoch_end(self) -> None:
        """Log the tuning loss, which rules early stopping, the learning rate and the best checkpoint."""
        output, outcome = (self._of_all(torch.cat(parts)) for parts in zip(*self._tuning, strict=True))
        self._tuning = [(output, outcome)]
        loss = self.processes.same(self.model.tuning_loss(output, outcome))  # type: ignore[operator]
        self._require_finite("tuning", loss)
        self.log("tuning_loss", loss)
        self._schedule.step(loss)
        self.portions_done = 0

    def _of_all(self, own: Tensor) -> Tensor:
        """What every process has of the tuning split, in its order: process r has every r-th of it."""
        if self.processes.world == 1:
            return own
        n = int(self.processes.total(torch.tensor(len(own))))
        whole = own.new_zeros(n, *own.shape[1:])
        whole[self.processes.rank :: self.processes.world] = own
        return self.processes.total(whole)

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

    def train_loss(self) -> float:
        """Mean loss over the samples of the epoch so far; every process must ask."""
        if self.processes.world == 1:
            return float(self._train_loss) / max(1, self._train_samples)
        loss, samples = self._losses().sum(0).tolist()
        return float(loss / max(1, samples))

    def _losses(self) -> Tensor:
        """Sum of losses, and samples, of the epoch so far; one row per process."""
        losses = torch.zeros(self.processes.world, 2, dtype=torch.float64)
        losses[self.processes.rank] = torch.tensor([float(self._train_loss), self._train_samples])
        return self.processes.total(losses)

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
            patience=self.epochs(self.config.plateau_steps),
        )
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The state of the schedule goes with the weights, and how far the epoch has come."""
        checkpoint["schedule"] = self._schedule.state_dict()
        checkpoint["portions_done"] = self.portions_done
        checkpoint["losses"] = self._losses()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The schedule is kept until the optimizer exists."""
        self._resumed_schedule = checkpoint["schedule"]
        losses = checkpoint["losses"]
        if len(losses) != self.processes.world:  # it goes on with another number of processes
            whole, losses = losses.sum(0), torch.zeros(self.processes.world, 2)
            losses[0] = whole
        own = losses[self.processes.rank]
        self._train_loss, self._train_samples = own[0].float(), int(own[1])

    def on_fit_start(self) -> None:
        """The optimizer exists now: put the schedule back where it was."""
        if self._resumed_schedule is not None:
            self._schedule.load_state_dict(self._resumed_schedule)
