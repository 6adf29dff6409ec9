"""The processes of one training: which of them this is, and how they agree.

`torchrun` or SLURM starts them; nothing is started here. They meet in one group of torch.distributed, which
Lightning finds and uses.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
from collections.abc import Iterator
from typing import Literal

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from caretrace.errors import ConfigError
from caretrace.training.config import TrainingConfig

# While the first process reads a large dataset the others wait. One that dies is noticed by its connection and
# by the launcher, not by this.
_PATIENCE = dt.timedelta(hours=12)


@dataclasses.dataclass(frozen=True)
class Processes:
    """This process among those of the training.

    Args:
        rank: Number of this process.
        world: Processes.
        per_node: Processes on this host.
        launcher: Who started them.
    """

    rank: int = 0
    world: int = 1
    per_node: int = 1
    launcher: Literal["nobody", "torchrun", "slurm"] = "nobody"

    @property
    def main(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """Hosts."""
        return self.world // self.per_node

    def require(self, config: TrainingConfig) -> None:
        """Refuse settings that speak of other processes than there are.

        Raises:
            ConfigError: `devices`, `nodes` or `strategy` do not fit what was started.
        """
        for name, asked, there in (
            ("devices", config.devices, self.per_node),
            ("nodes", config.nodes, self.nodes),
        ):
            if asked is not None and asked != there:
                per_node, nodes = config.devices or self.per_node, config.nodes or self.nodes
                raise ConfigError(
                    f"training.{name}: got {asked}, but {there} were started; start them by SLURM, or with `torchrun "
                    f"--nnodes={nodes} --nproc-per-node={per_node} -m caretrace.cli train …` (docs/cluster.md)"
                )
        if config.strategy == "fsdp" and self.world == 1:
            raise ConfigError(
                "training.strategy: fsdp divides the model among processes, and only one was started; start more "
                "with `torchrun --nproc-per-node=2 -m caretrace.cli train …`, or leave the strategy out"
            )

    def environment(self) -> ClusterEnvironment:
        """How Lightning is to find the processes. Requeueing is ours: see `requeue`."""
        if self.launcher == "torchrun":
            return TorchElasticEnvironment()
        return SLURMEnvironment(auto_requeue=False) if self.launcher == "slurm" else LightningEnvironment()

    def same(self, value: torch.Tensor) -> torch.Tensor:
        """What the first process has, on every process."""
        if self.world > 1:
            dist.broadcast(value, 0)
        return value

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def decide(self, mine: bool) -> bool:
        """The first process's answer: files may show up later on other hosts."""
        return bool(self.same(torch.tensor(int(mine))))

    def any(self, mine: bool) -> bool:
        """Whether any process says so; every one must ask."""
        return bool(self.total(torch.tensor(int(mine))))

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """The first process runs the block alone, then the others do.

        Where the first one fails, the others leave without a word: one message is enough.
        """
        if self.main:
            well = False
            try:
                yield
                well = True
            finally:
                self.decide(well)
        else:
            if not self.decide(False):
                raise SystemExit(1)
            yield


def started() -> Processes:
    """What the launcher's environment variables say; one process where there was none."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        return Processes(int(env["RANK"]), int(env["WORLD_SIZE"]), int(env["LOCAL_WORLD_SIZE"]), "torchrun")
    # A batch script and an interactive shell have SLURM_NTASKS too, but are one process: `srun` makes steps.
    if "SLURM_STEP_ID" in env and SLURMEnvironment.detect():
        world, nodes = int(env["SLURM_NTASKS"]), int(env.get("SLURM_NNODES", "1"))
        return Processes(int(env["SLURM_PROCID"]), world, world // nodes, "slurm")
    return Processes()


def restarted() -> bool:
    """Whether the launcher has started this again, after a failure or a requeue."""
    counts = (os.environ.get(name, "0") for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"))
    return any(count.isdigit() and int(count) > 0 for count in counts)


@contextlib.contextmanager
def joined(config: TrainingConfig) -> Iterator[Processes]:
    """The processes, able to speak to each other while the block runs.

    Raises:
        ConfigError: The settings do not fit what was started.
    """
    processes = started()
    processes.require(config)
    if processes.world == 1 or dist.is_initialized():
        yield processes
        return
    environment = processes.environment()
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, rank=processes.rank, world_size=processes.world, timeout=_PATIENCE)
    try:
        yield processes
    finally:
        dist.destroy_process_group()
