"""The synth application from Python: simulated histories → dataset → generator → verdict → report → files.

    python examples/synth.py OUT [SUBJECTS]

Research use only, never a bedside device. Nobody in what it writes exists.
"""

import sys
from pathlib import Path

from caretrace.application.run import Run
from caretrace.application.verbs import Draw, evaluate, generate, report, train
from caretrace.apps import load_application
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.hospital.histories import simulate_histories
from caretrace.ingest import ingest


def main(out: Path, subjects: int = 3000) -> None:
    """Go the whole way in the folder `out`."""
    simulate_histories(out / "raw", max(subjects, 1000), seed=1)  # fewer cannot be judged
    ingest("hospital-histories", out / "raw", out / "dataset")

    synth = load_application("synth")
    quick = ["latent.people=8", "latent.visits=8", "latent.iterations=8", "judging.comparators=[marginals]"]
    train(synth, Dataset(out / "dataset"), load(synth.config_class, None, quick), out / "run")

    figures = evaluate(synth, Run(out / "run"))
    for name, values in {figures["model"]: figures["metrics"], **figures["comparators"]}.items():
        print(f"{name:20} excess divergence of codes {values['excess_codes']['value']:.3f}")
    missed = [name for name, gate in figures["gates"].items() if not gate["passed"]]
    print(f"{len(missed)} of {len(figures['gates'])} gates missed:", *missed)
    print("report:", report(synth, Run(out / "run")))
    print(generate(synth, Run(out / "run"), out / "synthetic", Draw(100, "mimic-iii", age=70, sex="F")))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 3000)
