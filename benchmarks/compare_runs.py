"""Is one run better than others? Paired differences on the subjects that all of them were evaluated on.

    python benchmarks/compare_runs.py RUN OTHER [OTHER ...] [--by-landmark]

Reads what `caretrace evaluate` wrote into each run (`evaluation/predictions.parquet`). Prints AUROC and AUPRC of each
with 95 % intervals over 1,000 resamples of subjects, and RUN less each other on the same resamples; on request also
for the first, second, … prediction of each subject alone.
"""

import argparse
from pathlib import Path

import polars as pl

from caretrace import schema
from caretrace.evaluation import bootstrap_intervals, paired_differences

METRICS = ("auroc", "auprc")
_KEY = [schema.SUBJECT_ID, schema.PREDICTION_TIME]


def main() -> None:
    """Read the runs and compare them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--by-landmark", action="store_true", help="each subject's nth prediction alone, too")
    asked = parser.parse_args()
    runs = asked.runs
    names = [run.name for run in runs]
    table = read(runs[0]).rename({schema.PREDICTED_PROBABILITY: names[0]})
    for run, name in zip(runs[1:], names[1:], strict=True):
        other = read(run).rename({schema.PREDICTED_PROBABILITY: name}).drop(schema.BOOLEAN_VALUE)
        table = table.join(other, on=_KEY, how="inner", validate="1:1")
    show(table, names)
    if asked.by_landmark:
        nth = pl.col(schema.PREDICTION_TIME).rank("ordinal").over(schema.SUBJECT_ID)
        for number, part in sorted(table.with_columns(nth=nth).partition_by("nth", as_dict=True).items()):
            print(f"\nprediction {number[0]} of each subject")
            show(part, names)


def show(table: pl.DataFrame, names: list[str]) -> None:
    """One line per run, then one per difference."""
    labels = table[schema.BOOLEAN_VALUE].to_numpy()
    scores = {name: table[name].cast(pl.Float64).to_numpy() for name in names}
    subjects = table[schema.SUBJECT_ID].to_numpy()
    print(f"{len(table)} labels, {labels.sum()} positive")
    for name, figures in bootstrap_intervals(labels, scores, subjects, METRICS).items():
        print(f"{name:40} " + "  ".join(told(figures[metric], "value", "") for metric in METRICS))
    if len(names) > 1:
        for name, figures in paired_differences(labels, scores, subjects, names[0], METRICS).items():
            line = "  ".join(told(figures[metric], "difference", "+") for metric in METRICS)
            print(f"{names[0] + ' - ' + name:40} {line}")


def read(run: Path) -> pl.DataFrame:
    """Labels and risks of the evaluated subjects."""
    found = pl.read_parquet(run / "evaluation" / "predictions.parquet")
    return found.select(*_KEY, schema.BOOLEAN_VALUE, schema.PREDICTED_PROBABILITY)


def told(figure: dict[str, float], what: str, sign: str) -> str:
    """A figure with its interval."""
    value, low, high = (f"{figure[key]:{sign}.4f}" for key in (what, "low", "high"))
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    main()
