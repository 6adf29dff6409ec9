"""The Lightning trainer for what was asked and what was started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from caretrace.errors import ConfigError
from caretrace.training.checkpoints import WholeCheckpoints
from caretrace.training.config import TrainingConfig
from caretrace.training.processes import Processes

_PRECISION: dict[int | str, Any] = {32: "32-true", "bf16": "bf16-mixed", 16: "16-mixed"}


def trainer(
    config: TrainingConfig, processes: Processes, callbacks: list[Callback], epochs: int, folder: Path
) -> lightning.Trainer:
    """A trainer that is silent, deterministic and leaves the order of samples to us.

    Raises:
        ConfigError: A precision that this machine or strategy cannot do.
    """
    cuda = torch.cuda.is_available()
    if config.precision == 16 and not cuda:
        raise ConfigError("training.precision: 16 needs a CUDA GPU; take bf16, which runs everywhere, or 32")
    if config.precision == 16 and config.strategy == "fsdp":
        raise ConfigError("training.precision: fsdp takes 32 or bf16, not 16")
    return lightning.Trainer(
        accelerator="cuda" if cuda else "cpu",
        devices=processes.per_node,
        num_nodes=processes.nodes,
        strategy=_strategy(config, processes),
        precision=_PRECISION[config.precision],
        accumulate_grad_batches=config.accumulate,
        max_epochs=epochs,
        gradient_clip_val=config.gradient_clip,
        callbacks=callbacks,
        plugins=[WholeCheckpoints(), processes.environment()],
        inference_mode=config.strategy != "fsdp",  # shards are gathered into tensors that must stay usable
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


def _strategy(config: TrainingConfig, processes: Processes) -> Strategy | str:
    if processes.world == 1:
        return "auto"
    if config.strategy == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=processes.world, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    return DDPStrategy()
