"""Backbones by length of history: does a long memory help to foresee a crisis, and whose?

    caretrace bench safety_lengths -- --work build/safety
    caretrace bench safety_lengths -- --work build/safety --lengths 64 256 --backbones gru mamba --batches 400

Every model sees as many hours in training, in windows of the length asked for, and is judged on the same hours of
another city, each with at least half that length before it. Boosted trees on lagged features stand beside (LightGBM,
and CatBoost where it is installed). The budget is small on purpose; raise `--batches` and `--d-model` on a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from cases import Case, run, say
from numpy.typing import NDArray
from safety import HOURS, sequences
from safety_table import markdown

from caretrace.apps.safety import comparators
from caretrace.apps.safety.config import ModelConfig, SafetyConfig
from caretrace.apps.safety.drivers import windows_before
from caretrace.apps.safety.evaluate import resampled_together
from caretrace.apps.safety.finishing import CRISIS_LEVEL, reach
from caretrace.apps.safety.hospital_steps import CRISIS
from caretrace.apps.safety.learning import fit_ensemble, predict
from caretrace.apps.safety.sequences import HOSPITAL, HOUR, Scaling, Sequences
from caretrace.evaluation.intervals import Resamples, bootstrap
from caretrace.training.descent import DescentConfig

TARGETS = ("crisis_8_h", "crisis_24_h")
TUNING_SHARE = 0.25  # of the time, the last
Floats = NDArray[np.float64]


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--work", type=Path, required=True, help="the folder of `caretrace bench safety`")
    made.add_argument("--lengths", type=int, nargs="*", default=[64, 256, 1024, 4096], help="hours")
    made.add_argument("--backbones", nargs="*", default=["gru", "transformer", "mamba"])
    made.add_argument("--tokens", type=int, default=8192, help="hours in a batch, whatever the length")
    made.add_argument("--batches", type=int, default=120, help="in all")
    made.add_argument("--d-model", type=int, default=48)
    made.add_argument("--layers", type=int, default=1)
    made.add_argument("--days", type=int, default=364)
    made.add_argument("--learned", type=int, default=11)
    made.add_argument("--judged", type=int, default=12)
    made.add_argument("--replicates", type=int, default=300)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, default=1)
    return made


def bench(options: argparse.Namespace) -> list[Case]:
    """A cell per backbone and length, each beside the trees."""
    torch.set_num_threads(options.threads)
    plain = SafetyConfig(kinds=(HOSPITAL,))
    whole = sequences(options.work, options.learned, options.days, plain, HOURS)[HOURS][HOSPITAL]
    judged = sequences(options.work, options.judged, options.days, plain, HOURS)[HOURS][HOSPITAL]
    border = (1 - TUNING_SHARE) * 24 * options.days
    train = _hidden(whole.where(pl.col(HOUR) < border), border)
    tuning = whole.where(pl.col(HOUR) >= border)
    scaling = Scaling.fit(train)
    rows = np.flatnonzero(judged.steps[HOUR].to_numpy() >= max(options.lengths) // 2)
    said = _trees(options, train, tuning, judged, rows, scaling)
    seconds: dict[str, float] = {}
    for length in options.lengths:
        for backbone in options.backbones:
            name = f"{backbone} {length}"
            file = options.work / f"length-{backbone}-{length}-{options.batches}-{options.d_model}.json"
            if file.exists():
                kept = json.loads(file.read_text(encoding="utf-8"))
                said[name], seconds[name] = (
                    {target: np.asarray(each) for target, each in kept["said"].items()},
                    kept["seconds"],
                )
                continue
            said[name], seconds[name] = _cell(
                options, backbone, length, (scaling, train, tuning), judged, rows
            )
            kept = {
                "said": {key: each.tolist() for key, each in said[name].items()},
                "seconds": seconds[name],
            }
            file.write_text(json.dumps(kept), encoding="utf-8")
            say(f"{name}: {seconds[name]:.0f} s")
    return _cases(options, judged, rows, said, seconds)


def _hidden(train: Sequences, border: float) -> Sequences:
    """Targets that lie beyond the border are for the tuning hours."""
    steps = train.steps.with_columns(
        pl.when(pl.col(HOUR) + int(name.split("_")[1]) < border).then(pl.col(name)).alias(name)
        for name in CRISIS
    )
    return dataclasses.replace(train, steps=steps)


def _cell(
    options: argparse.Namespace,
    backbone: str,
    length: int,
    learned: tuple[Scaling, Sequences, Sequences],
    judged: Sequences,
    rows: NDArray[np.int64],
) -> tuple[dict[str, Floats], float]:
    """One backbone at one length: chances of a crisis at the rows, and seconds of training."""
    scaling, train, tuning = learned
    epochs = 4
    config = SafetyConfig(
        kinds=(HOSPITAL,),
        window_hours=length,
        batch=max(1, options.tokens // length),
        batches=max(1, options.batches // epochs),
        model=ModelConfig(backbone=backbone, d_model=options.d_model, n_layers=options.layers, d_head=32),
        descent=DescentConfig(seed=options.seed, epochs=epochs, patience=epochs, learning_rate=3e-3),
    )
    began = time.perf_counter()
    members, _ = fit_ensemble(
        {HOSPITAL: scaling},
        {HOSPITAL: scaling.apply(train)},
        {HOSPITAL: scaling.apply(_cut(tuning, length))},
        config,
    )
    seconds = time.perf_counter() - began
    found: dict[str, Floats] = {target: np.full(len(judged.steps), np.nan) for target in TARGETS}
    for ends, first in _stretches(judged, length):
        window = windows_before(judged, ends, length)
        chance = predict(members, scaling.apply(window))["crisis"]
        places = np.concatenate(
            [
                np.arange(a, end + 1)
                for a, end in zip(np.maximum(ends - length + 1, _own(judged, ends)), ends, strict=True)
            ]
        )
        keep = places >= np.repeat(first, np.diff(window.begins))
        for target in TARGETS:
            found[target][places[keep]] = reach(chance[keep, CRISIS.index(target)])
    return {target: each[rows] for target, each in found.items()}, seconds


def _own(sequences: Sequences, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the sequence of each row begins."""
    begins = sequences.begins
    return begins[np.searchsorted(begins, rows, side="right") - 1]


def _stretches(judged: Sequences, length: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(last rows of windows, rows from which on each is judged): every hour once, with half a window before it."""
    ends, first = [], []
    half = max(1, length // 2)
    for begin, end in zip(judged.begins[:-1], judged.begins[1:], strict=True):
        at = begin
        while at < end:
            stop = min(at + half, end) if at > begin else min(begin + length, end)
            ends.append(stop - 1)
            first.append(at)
            at = stop
    size = max(1, 65_536 // length)
    return [
        (np.array(ends[start : start + size]), np.array(first[start : start + size]))
        for start in range(0, len(ends), size)
    ]


def _cut(tuning: Sequences, length: int) -> Sequences:
    """Tuning hours in windows of the length, as they are learned from."""
    number = pl.int_range(pl.len()).over("sequence") // length
    steps = tuning.steps.with_columns(
        sequence=pl.struct("sequence", number.alias("part")).rle_id().cast(pl.Int64)
    )
    return dataclasses.replace(tuning, steps=steps)


def _trees(
    options: argparse.Namespace,
    train: Sequences,
    tuning: Sequences,
    judged: Sequences,
    rows: NDArray[np.int64],
    scaling: Scaling,
) -> dict[str, dict[str, Floats]]:
    """Chances of a crisis by boosted trees on lagged features."""
    file = options.work / "length-trees.json"
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        return {name: {key: np.asarray(each) for key, each in one.items()} for name, one in kept.items()}
    only = [dataclasses.replace(each, targets=TARGETS) for each in (train, tuning)]
    tables = [comparators.features(each, scaling.categorical) for each in (train, tuning, judged)]
    models = comparators.fit_trees((only[0], tables[0]), (only[1], tables[1]), options.seed)
    said = comparators.predict_trees(models, tables[2])
    found = {"boosted trees": {name: reach(said[name])[rows] for name in TARGETS}}
    if importlib.util.find_spec("catboost"):
        found["CatBoost"] = _catboost(options, (train, tables[0]), (tuning, tables[1]), tables[2], rows)
    else:
        say("CatBoost is not installed (pip install catboost): no row for it")
    text = json.dumps(
        {name: {key: each.tolist() for key, each in one.items()} for name, one in found.items()}
    )
    file.write_text(text, encoding="utf-8")
    return found


def _catboost(
    options: argparse.Namespace,
    train: tuple[Sequences, comparators.Features],
    tuning: tuple[Sequences, comparators.Features],
    judged: comparators.Features,
    rows: NDArray[np.int64],
) -> dict[str, Floats]:
    catboost = importlib.import_module("catboost")
    found = {}
    for target in TARGETS:
        sets = []
        for each, table in (train, tuning):
            value = each.steps[target].cast(pl.Float64).to_numpy()
            known = ~np.isnan(value)
            sets.append(catboost.Pool(table.values[known], (value[known] >= CRISIS_LEVEL).astype(int)))
        model = catboost.CatBoostClassifier(
            iterations=400,
            learning_rate=0.06,
            random_seed=options.seed,
            thread_count=options.threads,
            verbose=False,
        )
        model.fit(sets[0], eval_set=sets[1], early_stopping_rounds=25)
        found[target] = np.asarray(model.predict_proba(judged.values[rows])[:, 1])
    return found


def _cases(
    options: argparse.Namespace,
    judged: Sequences,
    rows: NDArray[np.int64],
    said: dict[str, dict[str, Floats]],
    seconds: dict[str, float],
) -> list[Case]:
    group = resampled_together(judged)[rows]
    cases, lines = [], []
    figures: dict[str, dict[str, Any]] = {}
    for target in TARGETS:
        level = judged.steps[target].cast(pl.Float64).to_numpy()[rows]
        known = ~np.isnan(level)
        resamples = Resamples(level[known] >= CRISIS_LEVEL, group[known], options.replicates, options.seed)
        scores = {name: np.clip(each[target][known], 0, 1) for name, each in said.items()}
        result = bootstrap(scores, resamples, ("auroc",))
        figures[target] = {"each": result.intervals(), "paired": {
            name: result.paired(name)["boosted trees"]["auroc"] for name in said if name != "boosted trees"
        }}  # fmt: skip
    for name in said:
        line = [name]
        for target in TARGETS:
            one, paired = figures[target]["each"][name]["auroc"], figures[target]["paired"].get(name)
            line.append(f"{one['value']:.4f} [{one['low']:.4f}, {one['high']:.4f}]")
            line.append(
                f"{paired['difference']:+.4f} [{paired['low']:+.4f}, {paired['high']:+.4f}]" if paired else ""
            )
            trees = figures[target]["each"]["boosted trees"]["auroc"]["value"]
            cases.append(Case(f"{name}, {target}", "AUROC", one["value"], {"boosted trees": trees}))
        lines.append([*line, f"{seconds[name]:.0f}" if name in seconds else ""])
    head = [
        "model and hours",
        *(f"{target}{what}" for target in TARGETS for what in (" AUROC", " against trees")),
        "s",
    ]
    table = markdown(head, lines)
    (options.work / "lengths.md").write_text(table + "\n", encoding="utf-8")
    say(table)
    return cases


if __name__ == "__main__":
    raise SystemExit(run(bench, parser(), lambda options: options.threads))
