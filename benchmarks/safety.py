"""The safety models on simulated cities: trained on one replication, judged on another, with several seeds.

    caretrace bench safety -- --work build/safety
    caretrace bench safety -- --work build/safety --seeds 0 1 --days 112 --set model.backbone=mamba

Cities, sequences, boosted trees and every seed's verdict stay in the folder, so that a call that was stopped goes on
where it was. Beside every figure: the comparators on the same hours, and how well somebody could do who saw
everything latent (the oracle, which runs the whole city forward many times). `figures.md` in the folder is the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from cases import Case, run, say

from caretrace import schema
from caretrace.application.run import Run
from caretrace.apps.safety import comparators
from caretrace.apps.safety.application import APPLICATION
from caretrace.apps.safety.config import SafetyConfig
from caretrace.apps.safety.evaluate import judge
from caretrace.apps.safety.finishing import CRISIS_LEVEL, RECALL
from caretrace.apps.safety.hospital_steps import CRISIS
from caretrace.apps.safety.learning import fit_ensemble
from caretrace.apps.safety.lending import with_lent
from caretrace.apps.safety.reading import Kinds, read_splits, read_whole
from caretrace.apps.safety.sequences import HOSPITAL, HOUR, Scaling, Sequences
from caretrace.apps.safety.training import NETWORK, Fitted, finish, fit_comparators, predict_all, save_run
from caretrace.apps.safety.verdict import by_part, decision
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.evaluation.discrimination import auroc
from caretrace.files import whole_folder, write_json
from caretrace.hospital.operations import OperationsConfig, simulate_operations
from caretrace.hospital.operations.ceilings import ceilings
from caretrace.hospital.operations.oracle import HORIZONS_HOURS, crisis_oracle
from caretrace.ingest import ingest

CITY = OperationsConfig()
OURS = "caretrace"
READINGS = (NETWORK, comparators.TREES, comparators.LINEAR)
LEARNED, JUDGED, HOURS = "learned", "judged", "hours"
_FIRST_LANDMARK, _LANDMARK_STEP = 48, 61  # 61 hours visit every hour of the day in turn


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--work", type=Path, required=True, help="folder for cities, sequences and verdicts")
    made.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="of the network")
    made.add_argument("--days", type=int, default=364)
    made.add_argument("--learned", type=int, default=11, help="seed of the city that is learned from")
    made.add_argument("--judged", type=int, default=12, help="seed of the city that is judged on")
    made.add_argument(
        "--branches", type=int, default=30, help="futures per hour the oracle is asked; 0: none"
    )
    made.add_argument("--replicates", type=int, default=500, help="of the bootstrap")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--set", nargs="*", default=[], help="settings, as `caretrace train --set` takes them")
    return made


def bench(options: argparse.Namespace) -> list[Case]:
    """Every seed's verdict, and the figures over the seeds."""
    torch.set_num_threads(options.threads)
    config: SafetyConfig = load(SafetyConfig, None, options.set)
    learned = with_lent(sequences(options.work, options.learned, options.days, config, LEARNED))
    judged = sequences(options.work, options.judged, options.days, config, JUDGED)[JUDGED]
    base = _with_comparators(options.work, learned, config)
    verdicts = [_verdict(options, base, learned, judged, seed) for seed in options.seeds]
    oracle = _oracle(options)
    raw = options.work / f"raw-{options.judged}"
    table = Table(verdicts, {name: each.value for name, each in ceilings(raw).items()}, oracle)
    (options.work / "figures.md").write_text(table.markdown(), encoding="utf-8")
    say(table.markdown())
    return table.cases()


def city(work: Path, seed: int, days: int) -> Dataset:
    """A simulated city as a dataset, made if it is not there yet."""
    raw, data = work / f"raw-{seed}", work / f"data-{seed}"
    if not raw.exists():
        say(f"simulating city {seed}")
        simulate_operations(raw, CITY, days, seed)
    if not data.exists():
        ingest("hospital-operations", raw, data)
    return Dataset(data)


def sequences(work: Path, seed: int, days: int, config: SafetyConfig, use: str) -> dict[str, Kinds]:
    """Sequences of training and tuning blocks (`LEARNED`), or of all the time; read once, then kept by use."""
    folder = work / f"sequences-{seed}-{use}"
    if not (folder / "about.json").exists():
        dataset = city(work, seed, days)
        say(f"reading city {seed}")
        if use != LEARNED:
            parts = {use: read_whole(dataset, config)}
        else:
            parts = read_splits(dataset, config, (schema.TRAIN, schema.TUNING))
        _keep(folder, parts)
    return _kept(folder)


def _keep(folder: Path, parts: dict[str, Kinds]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {}
    for part, kinds in parts.items():
        for kind, each in kinds.items():
            each.steps.write_parquet(folder / f"{part}-{kind}.parquet")
            fields = {name: getattr(each, name) for name in ("numeric", "categorical", "targets")}
            about.setdefault(part, {})[kind] = fields
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _kept(folder: Path) -> dict[str, Kinds]:
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return {
        part: {
            kind: Sequences(
                kind,
                pl.read_parquet(folder / f"{part}-{kind}.parquet"),
                **{name: tuple(value) for name, value in fields.items()},
            )
            for kind, fields in kinds.items()
        }
        for part, kinds in about.items()
    }


def _with_comparators(work: Path, learned: dict[str, Kinds], config: SafetyConfig) -> Fitted:
    """Scalings and comparators, which do not depend on the seed of the network; fitted once, then kept."""
    train, tuning = learned[schema.TRAIN], learned[schema.TUNING]
    scalings = {kind: Scaling.fit(each) for kind, each in train.items()}
    for kind in train:
        folder = work / "comparators" / kind
        if folder.exists():
            continue
        say(f"fitting comparators of {kind}")
        only = {kind: train[kind]}, {kind: tuning[kind]}
        each = fit_comparators(*only, scalings, config)[kind]
        with whole_folder(folder) as made:
            comparators.save(made, each[comparators.TREES], each[comparators.LINEAR], each["tables"])
    others = {kind: comparators.read(work / "comparators" / kind) for kind in train}
    return Fitted(config, scalings, [], others)


def _verdict(
    options: argparse.Namespace, base: Fitted, learned: dict[str, Kinds], judged: Kinds, seed: int
) -> dict[str, Any]:
    """Fit one seed and judge it; read back if that was done before."""
    file = options.work / f"seed-{seed}.json"
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    say(f"seed {seed}")
    descent = dataclasses.replace(base.config.descent, seed=seed)
    config = dataclasses.replace(base.config, descent=descent)
    arrays = {
        split: {kind: base.scalings[kind].apply(each) for kind, each in kinds.items()}
        for split, kinds in learned.items()
    }
    members, log = fit_ensemble(
        base.scalings,
        arrays[schema.TRAIN],
        arrays[schema.TUNING],
        config,
        lambda _member, record: say(
            f"  epoch {record['epoch']:.0f}, tuning loss {record['tuning_loss']:.4f}"
        ),
    )
    fitted = finish(dataclasses.replace(base, config=config, members=members), learned[schema.TUNING])
    folder = options.work / f"run-{seed}"
    dataset = city(options.work, options.learned, options.days)
    save_run(folder, fitted, dataset, APPLICATION.title, log, {})
    predictions = predict_all(fitted, judged)
    say("  judging")
    found = judge(judged, predictions, replicates=options.replicates, seed=0)
    found |= {
        "application": APPLICATION.name,
        "split": None,
        "n": sum(len(each.steps) for each in judged.values()),
    }
    found["n_subjects"] = sum(each.steps["sequence"].n_unique() for each in judged.values())
    found["by"] = by_part(judged, predictions, options.replicates, 0)
    found["decision"] = decision(judged, predictions)
    write_json(Run(folder).evaluation / "evaluation.json", found)
    found["shares"] = {kind: each.share for kind, each in fitted.finishes.items()}
    found["log"] = log
    _keep_chances(options.work / f"chances-{seed}.parquet", judged[HOSPITAL], predictions[HOSPITAL])
    file.write_text(json.dumps(found), encoding="utf-8")
    return found


def _keep_chances(file: Path, hospital: Sequences, models: dict[str, dict[str, Any]]) -> None:
    """Chance of a crisis, by hour and hospital, of ours and the trees: what the oracle is compared with."""
    columns = {
        f"{model} {target}": models[model][target][:, CRISIS_LEVEL:].sum(1)
        for model in (OURS, comparators.TREES)
        for target in CRISIS
    }
    hospital.steps.select(HOUR, "site", *CRISIS).with_columns(
        pl.Series(name, value) for name, value in columns.items()
    ).write_parquet(file)


def _oracle(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Target → AUROC of the oracle, of ours (mean over seeds) and of the trees, at the hours the oracle was asked."""
    if not options.branches:
        return {}
    file = options.work / f"oracle-{options.judged}.parquet"
    if not file.exists():
        say("asking the oracle")
        last = 24 * options.days - max(HORIZONS_HOURS)
        hours = list(range(_FIRST_LANDMARK, last, _LANDMARK_STEP))
        crisis_oracle(CITY, options.judged, hours, options.branches).write_parquet(file)
    table = pl.read_parquet(file)
    table = table.with_columns(
        hour=(pl.col("hour_time") - pl.col("hour_time").min()) / 3600 + _FIRST_LANDMARK
    )
    reach = pl.sum_horizontal(f"p{level}" for level in range(CRISIS_LEVEL, 5))
    chances = [pl.read_parquet(options.work / f"chances-{seed}.parquet") for seed in options.seeds]
    found = {}
    for ahead in HORIZONS_HOURS:
        target = f"crisis_{ahead}_h"
        asked = table.filter(pl.col("horizon_hours") == ahead).with_columns(said=reach)
        each = [_beside(asked, one, target) for one in chances]
        found[target] = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    return found


def _beside(asked: pl.DataFrame, chances: pl.DataFrame, target: str) -> dict[str, float]:
    both = asked.join(chances.drop_nulls(target).filter(pl.col(target).is_not_nan()), on=["hour", "site"])
    crisis = (both["level"] >= CRISIS_LEVEL).to_numpy()
    names = {"oracle": "said", OURS: f"{OURS} {target}", comparators.TREES: f"{comparators.TREES} {target}"}
    found: dict[str, float] = {}
    if not crisis.any():  # too few hours were asked for
        found = dict.fromkeys((*names, *(f"{name} precision" for name in names)), float("nan"))
        names = {}
    for name, column in names.items():
        said = both[column].to_numpy()
        found[name] = auroc(crisis, said)
        found[f"{name} precision"] = _precision(crisis, said)
    return {**found, "hours": float(len(both)), "crises": float(crisis.sum())}


def _precision(crisis: np.ndarray[Any, Any], said: np.ndarray[Any, Any]) -> float:
    """Share of the warned hours that are right, where warnings reach `RECALL` of the crises."""
    reached = np.sort(said[crisis])[::-1][int(np.ceil(RECALL * crisis.sum())) - 1]
    return float(crisis[said >= reached].mean())


@dataclasses.dataclass(frozen=True)
class Table:
    """Figures over the seeds.

    Args:
        verdicts: Of each seed, as `judge` gives them.
        ceilings: Target → figure of somebody who knows the latent state.
        oracle: Target → AUROC of oracle, ours and trees at the same hours.
    """

    verdicts: list[dict[str, Any]]
    ceilings: dict[str, float]
    oracle: dict[str, dict[str, float]]

    def cases(self) -> list[Case]:
        """As benchmarks report them."""
        return [
            Case(self.words(name), "", self.value(OURS, name), self.others(name)) for name in self.figures
        ]

    @property
    def figures(self) -> list[str]:
        """Names, in the order of the verdicts."""
        return list(self.verdicts[0]["metrics"])

    def models(self) -> list[str]:
        """Names of the comparators."""
        return list(self.verdicts[0]["comparators"])

    def each(self, model: str, figure: str, part: str = "value") -> list[float]:
        """One number per seed; empty where the model has no such figure."""
        found = [one["metrics"] if model == OURS else one["comparators"][model] for one in self.verdicts]
        return [one[figure][part] for one in found if figure in one]

    def value(self, model: str, figure: str) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.each(model, figure)))

    def others(self, figure: str) -> dict[str, float]:
        """Mean over the seeds of every comparator that has the figure."""
        return {name: self.value(name, figure) for name in self.models() if self.each(name, figure)}

    def words(self, figure: str) -> str:
        """The figure, and what is said about how sure it is."""
        low, high = (float(np.mean(self.each(OURS, figure, part))) for part in ("low", "high"))
        each = self.each(OURS, figure)
        return f"{figure} [{low:.3f}, {high:.3f}], seeds {min(each):.3f} to {max(each):.3f}"

    def markdown(self) -> str:
        """Two tables: every figure beside the comparators, and crises beside the oracle."""
        return "\n\n".join([self._beside(), self._warnings(), self._against_oracle(), self._shares()]) + "\n"

    def _beside(self) -> str:
        head = [
            "figure",
            "caretrace",
            "seeds",
            *self.models(),
            "difference to trees",
            "knows the latent state",
        ]
        rows = [self._row(name) for name in self.figures]
        return markdown(head, rows)

    def _row(self, name: str) -> list[str]:
        low, high = (float(np.mean(self.each(OURS, name, part))) for part in ("low", "high"))
        each = self.each(OURS, name)
        others = self.others(name)
        paired = [one["paired"][comparators.TREES].get(name) for one in self.verdicts]
        found = [one for one in paired if one]
        difference = (
            "{:+.4f} [{:+.4f}, {:+.4f}]".format(
                *(float(np.mean([one[part] for one in found])) for part in ("difference", "low", "high"))
            )
            if found
            else ""
        )
        target = name.rsplit("_", 1)[0]
        ceiling = self.ceilings.get(target) if name.endswith(("r2", "auroc")) else None
        return [
            name,
            f"{self.value(OURS, name):.4f} [{low:.4f}, {high:.4f}]",
            f"{min(each):.4f}–{max(each):.4f}",
            *(f"{others[model]:.4f}" if model in others else "" for model in self.models()),
            difference,
            "" if ceiling is None else f"{ceiling:.3f}",
        ]

    def _warnings(self) -> str:
        rows = []
        for model in self.verdicts[0]["warnings"]:
            for target in self.verdicts[0]["warnings"][model]:
                found = [one["warnings"][model][target] for one in self.verdicts]
                names = ("recall", "false_per_week", "precision", "lead_hours")
                rows.append(
                    [
                        model,
                        target,
                        *(f"{np.mean([one[name] or 0.0 for one in found]):.2f}" for name in names),
                    ]
                )
        head = ["model", "target", "recall", "false warnings a week and hospital", "precision", "lead, h"]
        return markdown(head, rows)

    def _against_oracle(self) -> str:
        who = ("oracle", OURS, comparators.TREES)
        rows = [
            [
                target,
                *(f"{found[name]:.3f}" for name in who),
                f"{100 * found[OURS] / found['oracle']:.1f} %",
                *(f"{found[f'{name} precision']:.2f}" for name in who),
                f"{found['hours']:.0f}",
                f"{found['crises']:.0f}",
            ]
            for target, found in self.oracle.items()
        ]
        head = ["target", *(f"AUROC {name}" for name in who), "ours of the oracle's"]
        head += [f"precision at recall {RECALL}, {name}" for name in who]
        return markdown([*head, "hours", "crises"], rows)

    def _shares(self) -> str:
        shares = [one["shares"] for one in self.verdicts]
        kinds = [(kind, target) for kind, each in shares[0].items() for target in each]
        rows = [
            [
                target,
                *(
                    f"{np.mean([one[kind].get(target, {}).get(name, 0.0) for one in shares]):.2f}"
                    for name in READINGS
                ),
            ]
            for kind, target in kinds
        ]
        return markdown(["share of", *READINGS], rows)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    raise SystemExit(run(bench, parser(), lambda options: options.threads))
