"""How long exact nearest-neighbour adversarial accuracy takes over whole cohorts, and whether fresh subjects get 0.

    caretrace bench nnaa
    caretrace bench nnaa -- --subjects 5000

Training, held-out and synthetic subjects are three samples of the virtual hospital's population, as many of each as
the prototype had subjects. Every subject is compared with every other of each sample, none is sampled.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np
from cases import Case, run, say
from timing import peak_mib

MINUTES_MOST = 10.0


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--subjects", type=int, default=46_520, help="of each sample")
    options.add_argument("--seed", type=int, default=0)
    return options


def bench(options: argparse.Namespace) -> list[Case]:
    from caretrace.evaluation.histories import Histories
    from caretrace.evaluation.neighbours import adversarial_accuracy
    from caretrace.hospital.histories import default_model, draw

    population = default_model()
    h = draw(3 * options.subjects, options.seed + 1, population).histories
    people = Histories(h.age, h.sex, h.visit_count, h.code_count, h.code, len(population.codes))
    say(f"3 times {options.subjects:,} subjects, {len(people.code) / len(people):.1f} codes each")
    parts = [people.take(np.arange(n * options.subjects, (n + 1) * options.subjects)) for n in range(3)]
    began = time.perf_counter()
    found = adversarial_accuracy(*parts)
    minutes = (time.perf_counter() - began) / 60
    say(f"NNAA {found.nnaa:.4f}, standard error {found.error:.4f}, in {minutes:.1f} minutes")
    say(f"bound {MINUTES_MOST:.0f} minutes: {'kept' if minutes <= MINUTES_MOST else 'MISSED'}")
    size = f"{options.subjects:,} against {options.subjects:,} subjects"
    return [
        Case(f"NNAA, {size}", "minutes", minutes, peak_mib=peak_mib()),
        Case(f"NNAA of fresh subjects, {size}; 0 is ideal", "", found.nnaa),
        Case("its standard error", "", found.error),
    ]


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda _: int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))))
