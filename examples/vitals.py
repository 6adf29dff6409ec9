"""The vitals application from Python: a simulated ward → dataset → alarms → verdict → report.

    python examples/vitals.py OUT [SUBJECTS]

Research use only, never a bedside device. Nobody in the simulated ward exists.
"""

import sys
from pathlib import Path

from caretrace.application.run import Run
from caretrace.application.verbs import evaluate, report, train
from caretrace.apps import load_application
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.hospital.physiology.config import PhysiologyConfig
from caretrace.hospital.physiology.tables import simulate_vitals
from caretrace.ingest import ingest


def main(out: Path, subjects: int = 60) -> None:
    """Go the whole way in the folder `out`."""
    simulate_vitals(out / "raw", PhysiologyConfig(subjects=min(subjects, 60), hours=10, step_seconds=30))
    ingest("hospital-vitals", out / "raw", out / "dataset")

    vitals = load_application("vitals")
    quick = ["grid.step_seconds=30", "grid.length=64", "detector.batches=40", "document.pretrain_epochs=1"]
    known = f"events={out / 'raw' / 'truth' / 'events.parquet'}"
    train(vitals, Dataset(out / "dataset"), load(vitals.config_class, None, [*quick, known]), out / "run")

    figures = evaluate(vitals, Run(out / "run"), replicates=50)
    for name, values in {"ours": figures["metrics"], **figures["comparators"]}.items():
        alarms = values.get("false_alarms_per_patient_day")
        if alarms:
            print(f"{name:20} {alarms['value']:.2f} false alarms a patient-day")
    print("report:", report(vitals, Run(out / "run")))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *(int(each) for each in sys.argv[2:]))
