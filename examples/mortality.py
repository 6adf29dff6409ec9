"""The mortality application from Python: simulated tables → dataset → labels → model → figures → report.

    python examples/mortality.py OUT [SUBJECTS]

Research use only, never a bedside device.
"""

import sys
from pathlib import Path

from caretrace.application.evaluate import evaluate
from caretrace.application.run import Run
from caretrace.application.train import train
from caretrace.apps import load_application
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.hospital import HospitalConfig, simulate
from caretrace.ingest import ingest
from caretrace.report import render_run_report


def main(out: Path, subjects: int = 1000) -> None:
    """Go the whole way in the folder `out`."""
    simulate(out / "raw", HospitalConfig(subjects=subjects, seed=1))
    ingest("hospital", out / "raw", out / "dataset")

    mortality = load_application("mortality")
    dataset = Dataset(out / "dataset")
    settings = load(
        mortality.config_class, None, ["training.members=1", "training.max_steps=100", "d_model=32"]
    )
    train(mortality, dataset, settings, out / "run", task="in_hospital_death_24h")

    figures = evaluate(mortality, Run(out / "run"), replicates=200)
    for name, values in {"caretrace": figures["metrics"], **figures["comparators"]}.items():
        auroc = values["auroc"]
        print(f"{name:20} AUROC {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]")
    print("report:", render_run_report(out / "run"))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 1000)
