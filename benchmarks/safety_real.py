"""The safety models' heads and figures on open data: delays, breaches of four hours, admissions, exhaustion.

    caretrace bench safety_real -- --data DATA
    caretrace bench safety_real -- --data DATA --judged OTHER

DATA holds the folders `emergency-ops` and `burnout-survey`. Delays and the survey are divided into five folds by
incident and by person; attendances and arrivals by time. With `--judged`, files of the same names there are judged,
and all of DATA is learned from. Figures are small, because the tables are: intervals are printed with them.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from cases import Case, run, say
from safety_table import markdown

from caretrace.apps.safety import comparators
from caretrace.apps.safety.config import ModelConfig, SafetyConfig
from caretrace.apps.safety.evaluate import judge
from caretrace.apps.safety.learning import fit_ensemble
from caretrace.apps.safety.model import QUANTILES
from caretrace.apps.safety.real import (
    Part,
    RealTable,
    constant_quantiles,
    hour_of_week,
    last_month,
    mean_of_training,
    read_arrivals,
    read_attendances,
    read_fire_calls,
    read_survey,
)
from caretrace.apps.safety.sequences import Scaling, Sequences
from caretrace.apps.safety.training import Fitted, finish, predict_one
from caretrace.evaluation.discrimination import auroc
from caretrace.training.descent import DescentConfig

CONFIG = SafetyConfig(
    batches=20,
    members=3,
    model=ModelConfig(d_model=32, d_category=4, d_head=16, dropout=0.2),
    descent=DescentConfig(epochs=25, patience=5, learning_rate=3e-3, schedule="plateau"),
)
TABLES = (
    (
        "emergency-ops/sf_fire_calls_2002_sample.csv",
        RealTable("sf_fire_calls", "delay", read_fire_calls, ("constant", constant_quantiles(QUANTILES)),
                  "minutes until a unit is there, San Francisco 2002"),
    ),
    (
        "emergency-ops/nhs_ae_attendances.csv",
        RealTable("nhs_ae_attendances", "breach", read_attendances, ("last_month", last_month),
                  "share beyond four hours next month, major departments of England"),
    ),
    (
        "emergency-ops/uclh_synthetic_admission_arrivals.csv",
        RealTable("uclh_arrivals", "admissions", read_arrivals, ("hour_of_week", hour_of_week(QUANTILES)),
                  "admissions in the next eight hours, shaped like a London hospital's"),
    ),
    (
        "burnout-survey/medical_student_burnout.csv",
        RealTable("burnout_survey", "burnout", read_survey, ("mean", mean_of_training),
                  "exhaustion of medical students"),
    ),
)  # fmt: skip
LONG_MINUTES = 5.0


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="folder with the open tables")
    made.add_argument("--judged", type=Path, help="folder with other rows of them, to be judged on")
    made.add_argument("--replicates", type=int, default=1000, help="of the bootstrap")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, default=1)
    return made


def bench(options: argparse.Namespace) -> list[Case]:
    """Every table's figures."""
    torch.set_num_threads(options.threads)
    cases, rows = [], []
    for place, table in TABLES:
        other = options.judged / place if options.judged else None
        parts = table.read(options.data / place, other)
        found = _judged(table, [(part, _said(table, part, options.seed)) for part in parts], options)
        for figure, value in found["metrics"].items():
            others = {
                name: each[figure]["value"] for name, each in found["comparators"].items() if figure in each
            }
            words = f"{table.name}, {figure} [{value['low']:.3f}, {value['high']:.3f}]"
            cases.append(Case(words, "", value["value"], others))
            rows.append(_row(table, figure, found))
        say(f"{table.name}: {found['n']} values, use {found['recommended']}")
    names = ("network", comparators.TREES, comparators.LINEAR, "without a model")
    head = ["table", "figure", "caretrace", *names, "difference to what stands without a model"]
    say(markdown(head, rows))
    return cases


def _said(table: RealTable, part: Part, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """Model → what it says of each held-out step."""
    kind = part.train.kind
    scalings = {kind: Scaling.fit(part.train)}
    arrays = [{kind: scalings[kind].apply(each)} for each in (part.train, part.tuning)]
    config = dataclasses.replace(CONFIG, descent=dataclasses.replace(CONFIG.descent, seed=seed))
    members, _ = fit_ensemble(scalings, arrays[0], arrays[1], config)
    known = scalings[kind].categorical
    tables = [comparators.features(each, known) for each in (part.train, part.tuning)]
    others = {
        comparators.TREES: comparators.fit_trees((part.train, tables[0]), (part.tuning, tables[1]), seed),
        comparators.LINEAR: comparators.fit_linear((part.train, tables[0]), seed),
    }
    fitted = finish(Fitted(config, scalings, members, {kind: others}), {kind: part.tuning})
    found = {
        model: each[table.target]
        for model, each in predict_one(fitted, part.held_out).items()
        if table.target in each
    }
    return {**found, table.baseline[0]: table.baseline[1](part)}


def _judged(
    table: RealTable, said: list[tuple[Part, dict[str, np.ndarray[Any, Any]]]], options: argparse.Namespace
) -> dict[str, Any]:
    """All divisions judged as one."""
    first = said[0][0].held_out
    steps = pl.concat([part.held_out.steps for part, _ in said])
    together: Sequences = dataclasses.replace(first, steps=steps)
    models = {name: {table.target: np.concatenate([each[name] for _, each in said])} for name in said[0][1]}
    found = judge(
        {first.kind: together}, {first.kind: models}, replicates=options.replicates, seed=options.seed
    )
    value = steps[table.target].cast(pl.Float64).to_numpy()
    rows = ~np.isnan(value)
    found["n"] = int(rows.sum())
    if table.target == "delay":
        for name, each in models.items():
            middle = each["delay"][rows, QUANTILES.index(0.5)]
            ranked = auroc(value[rows] > LONG_MINUTES, middle)
            say(f"  {name}: AUROC of more than {LONG_MINUTES:.0f} minutes {ranked:.3f}")
    return found


def _row(table: RealTable, figure: str, found: dict[str, Any]) -> list[str]:
    def cell(value: dict[str, float] | None) -> str:
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" if value else ""

    others = [
        found["comparators"].get(name, {}).get(figure) for name in ("network", "boosted_trees", "linear")
    ]
    plain = table.baseline[0]
    paired = found["paired"][plain].get(figure)
    return [
        table.name,
        figure,
        cell(found["metrics"][figure]),
        *(cell(each) for each in others),
        f"{cell(found['comparators'][plain].get(figure))} ({plain.replace('_', ' ')})",
        f"{paired['difference']:+.3f} [{paired['low']:+.3f}, {paired['high']:+.3f}]" if paired else "",
    ]


if __name__ == "__main__":
    raise SystemExit(run(bench, parser(), lambda options: options.threads))
