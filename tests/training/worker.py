"""One of several processes that train the same things together; `torchrun` or a test starts it.

python -m tests.training.worker DATASET OUT NAME…
"""

import dataclasses
import sys
from pathlib import Path

import torch

from caretrace.data.store import SampleStore
from caretrace.training.config import TrainingConfig
from caretrace.training.processes import joined
from caretrace.training.run import fit

from .conftest import CONFIG, Training, prepare_training

# One dropout mask a process is not one mask over all, so the curves are compared without dropout.
PLAIN = dataclasses.replace(CONFIG, members=1)
TRAININGS = {
    "ddp": PLAIN,
    # 120 samples in batches of 17: shares of 9 and 8, and a last batch of one sample for two processes.
    "uneven": dataclasses.replace(PLAIN, batch_size=17, max_steps=40),
    "portions": dataclasses.replace(PLAIN, batch_size=17, max_steps=24, accumulate=3),
    "tokens": dataclasses.replace(PLAIN, max_tokens=150, max_steps=40),
    "store": dataclasses.replace(PLAIN, max_steps=24),
    "fsdp": dataclasses.replace(PLAIN, strategy="fsdp", max_steps=24),
}


def run(name: str, training: Training, out: Path, config: TrainingConfig | None = None) -> None:
    """One training by name; its weights go into a file, beside the run folder."""
    config = config or TRAININGS[name]
    train = SampleStore.open(out / "store") if name == "store" else training.train
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    members = fit(training.build, train, training.tuning, config, folder, prepare_on=training.train)
    with joined(PLAIN) as processes:
        torch.save([member.state_dict() for member in members], out / f"{name}-{processes.rank}.pt")


def main(dataset: Path, out: Path, names: list[str]) -> None:
    training = prepare_training(dataset, dropout=0.0)
    with joined(PLAIN):
        for name in names:
            run(name, training, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
