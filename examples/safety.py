"""The safety application from Python: a simulated city → dataset → forecasts → verdict → report.

    python examples/safety.py OUT

Research use only. Nobody in the simulated city exists, and nobody in it is ranked.
"""

import sys
from pathlib import Path

from caretrace.application.run import Run
from caretrace.application.verbs import evaluate, report, train
from caretrace.apps import load_application
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.hospital.operations import OperationsConfig, simulate_operations
from caretrace.ingest import ingest


def main(out: Path, days: int = 24) -> None:
    """Go the whole way in the folder `out`."""
    simulate_operations(out / "raw", OperationsConfig(size=0.2, start="2023-01-02"), min(days, 24), 1)
    ingest("hospital-operations", out / "raw", out / "dataset")

    safety = load_application("safety")
    quick = ["block_days=3", "model.d_model=32", "batches=20", "descent.epochs=4", "most_pathways=3000"]
    train(safety, Dataset(out / "dataset"), load(safety.config_class, None, quick), out / "run")

    figures = evaluate(safety, Run(out / "run"), replicates=100)
    for name, values in {"ours": figures["metrics"], **figures["comparators"]}.items():
        if "delay_pinball" in values:
            print(f"{name:15} pinball loss of ambulance delays {values['delay_pinball']['value']:.3f} min")
    print("report:", report(safety, Run(out / "run")))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *(int(each) for each in sys.argv[2:]))
