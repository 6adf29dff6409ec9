"""Judge the alarms of `vitals` on simulated wards of several seeds, beside what could be caught at best.

    caretrace bench ward
    caretrace bench ward -- --seeds 3 4 --people 400 --folder build/ward

Every seed is another ward of other people: 70 % train, 15 % choose thresholds, 15 % are judged, one day each, sampled
every 10 s. Three detectors are fitted to it, alike but for who teaches:

    deviations   put into training recordings; no event of a training subject is looked at
    both         those, and the known events of training subjects: what `taught_by: auto` takes where there are any
    ceiling      known events of another ward as large, where everybody deteriorates: what more truth would bring

    caretrace bench ward -- --seeds 21 22 --rate 1300

asks one thing alone: what becomes of the stated rate of false alarms where so many people choose the thresholds and as
many are judged, beside 90 of them that choose. 90 patient-days of either say little of a rate of 0.2 a day.

Known events of tuning subjects only keep true alarms from being counted as false. Recordings go from the simulator to
the grid without files; `caretrace simulate`, `ingest` and `train` give the same, slower. Seeds 0 and 1 were looked at
while the model was chosen. With `--folder` each seed's figures are kept as JSON, and one that is there is not judged
again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Case, run, say

from caretrace.apps.vitals.config import MONITOR, GridConfig, VitalsConfig
from caretrace.apps.vitals.detector.material import KnownEvents
from caretrace.apps.vitals.evaluate import judge, rival_scores
from caretrace.apps.vitals.judging import Truth, watched_days
from caretrace.apps.vitals.model import REASONS_OF
from caretrace.apps.vitals.policy import choose_thresholds, false_rate, raise_alarms
from caretrace.apps.vitals.task import Recordings, grid_settings
from caretrace.apps.vitals.training import fit_monitor
from caretrace.config import load
from caretrace.data.grid import Stretch
from caretrace.evaluation.detection import Events, match
from caretrace.hospital.physiology.config import CHANNELS, PhysiologyConfig
from caretrace.hospital.physiology.deteriorations import Event
from caretrace.hospital.physiology.monitor import vitals_of

TEACHERS = ("deviations", "both", "ceiling")
SPLIT = (0.70, 0.85)  # ends of training and tuning
CEILING_SEED = 1_000  # added to the seed, for the ward that teaches the ceiling
ASKED = ("event_recall", "false_alarms_per_patient_day", "delay_median_abrupt", "warning_median")


@dataclasses.dataclass(frozen=True)
class Ward:
    """Recordings of a ward, and what happened.

    Args:
        recordings: Everybody's.
        events: Recording → events; times in seconds since its beginning.
    """

    recordings: Recordings
    events: Sequence[Sequence[Event]]

    def part(self, low: float, high: float) -> Ward:
        """People from one share to another."""
        count = len(self.recordings.stretches)
        return self.some(slice(round(low * count), round(high * count)))

    def some(self, span: slice) -> Ward:
        """People by their number."""
        some = dataclasses.replace(self.recordings, stretches=self.recordings.stretches[span])
        return Ward(some, self.events[span])

    def table(self) -> tuple[Events, list[Event], np.ndarray]:
        """Events in one table, as they are, and when each recording began."""
        rows = [
            (stretch.subject, float(self.recordings.times(stretch)[0]), event, len(stretch))
            for stretch, own in zip(self.recordings.stretches, self.events, strict=True)
            for event in own
        ]
        step = self.recordings.settings.step_seconds
        begin = np.array([row[1] for row in rows])
        events = [row[2] for row in rows]
        onset = begin + np.array([event.onset for event in events])
        end = begin + np.array([min(row[2].end, row[3] * step) for row in rows])
        return Events(np.array([row[0] for row in rows], np.int64), onset, end), events, begin

    def truth(self) -> Truth:
        """What figures are taken on."""
        table, events, _ = self.table()
        return Truth(table, np.array([event.course == "abrupt" for event in events]), "truth")

    def known(self) -> KnownEvents:
        """What a detector may be taught by."""
        table, events, begin = self.table()
        until = np.minimum(begin + np.array([e.peak for e in events]) + MONITOR.deviations.sudden, table.end)
        gradual = np.array([event.course != "abrupt" for event in events])
        return KnownEvents(table.subject, table.onset, table.end, np.where(gradual, table.onset, until))


def simulate(seed: int, people: int, step: int, share: float) -> Ward:
    """A ward in memory.

    Args:
        seed: Of the simulation.
        people: How many, one day each.
        step: Time between samples, seconds.
        share: Of people who deteriorate.
    """
    config = PhysiologyConfig(subjects=people, step_seconds=step, share_deteriorating=share, seed=seed)
    stretches, events = [], []
    for subject in range(people):
        recording = vitals_of(subject, config)
        # Days of one calendar, one after the other: only differences of time count.
        first = subject * 2 * 86_400 // step
        stretches.append(Stretch(subject, first, recording.block.values, round(60 / step)))
        events.append(recording.plan.events)
    resolution = dataclasses.replace(MONITOR, step_seconds=float(step))
    settings = grid_settings(GridConfig(), resolution, CHANNELS)
    return Ward(Recordings(settings, resolution, stretches, 0.0), events)


def merged(one: KnownEvents, other: KnownEvents) -> KnownEvents:
    """Events of two groups of subjects."""
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True)
    return KnownEvents(*(np.concatenate(pair) for pair in pairs))


def judged(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of every teacher on one ward."""
    ward = simulate(seed, options.people, options.step, 0.3)
    learned, tuned, held = ward.part(0, SPLIT[0]), ward.part(*SPLIT), ward.part(SPLIT[1], 1)
    truth, theirs = held.truth(), rival_scores(held.recordings, learned.recordings, seed)
    figures: dict[str, Any] = {}
    for teacher in options.teachers:
        settings = [f"seed={seed}", "document.fitted=false", *options.set]
        teaching, material = learned, teacher
        if teacher == "ceiling":
            teaching = simulate(seed + CEILING_SEED, options.people, options.step, 1.0).part(0, SPLIT[0])
            material = "events"
        config = load(VitalsConfig, None, [*settings, f"detector.taught_by={material}"])
        known = merged(teaching.known(), tuned.known())
        fitted = fit_monitor(
            config, teaching.recordings, tuned.recordings, tuned.truth().events, known, _silent
        )
        figures[teacher] = judge(
            fitted.monitor, held.recordings, truth, theirs, options.replicates, seed, _silent
        )
        figures[teacher]["tuning"] = fitted.found
        metrics = figures[teacher]["metrics"]
        shown = {name: round(metrics[name]["value"], 3) for name in ASKED if name in metrics}
        say(f"seed {seed}, {teacher}: {shown}")
    return figures


def rates(seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Realised over nominal rate of false alarms, by how many people chose the thresholds; and how alarms cluster."""
    first, more = round(SPLIT[0] * options.people), options.rate
    ward = simulate(seed, first + 2 * more, options.step, 0.3)
    learned, tuned, held = (
        ward.some(slice(*ends)) for ends in ((0, first), (first, first + more), (first + more, None))
    )
    config = load(VitalsConfig, None, [f"seed={seed}", "document.fitted=false", *options.set])
    known = merged(learned.known(), tuned.known())
    fitted = fit_monitor(config, learned.recordings, tuned.recordings, tuned.truth().events, known, _silent)
    monitor, truth, days = fitted.monitor, held.truth().events, watched_days(held.recordings.watched())
    scores = monitor.scores(held.recordings.stretches)
    few = tuned.some(slice(0, round((SPLIT[1] - SPLIT[0]) * options.people)))
    chosen = choose_thresholds(
        monitor.scores(few.recordings.stretches),
        REASONS_OF[monitor.design],
        few.truth().events,
        few.recordings.watched(),
        config.policy,
    )
    found: dict[str, float] = {}
    for thresholds in (chosen, monitor.thresholds[monitor.design]):
        alarms = raise_alarms(scores, thresholds.raise_at, config.policy)
        realised = false_rate(alarms, truth, days, config.policy.early_seconds)
        name = f"false alarms over nominal, chosen on {thresholds.tuning_days:.0f} patient-days"
        found[name] = realised / config.policy.false_alarms_per_day
    false = alarms.subject[match(truth, alarms.subject, alarms.time).false]
    each = np.bincount(np.searchsorted(held.recordings.subjects, false), minlength=len(scores))
    found["false alarms of a person, variance over mean"] = float(each.var() / each.mean())
    say(f"seed {seed}: {found}")
    return found


def _silent(*_: object) -> None:
    """Progress is told by seed."""


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over seeds, and where it lies with 95 % (Student's t)."""
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, mean, mean
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def collected(found: Mapping[int, Mapping[str, Any]], teacher: str) -> dict[str, list[float]]:
    """Metric → value of each seed."""
    runs = [each[teacher] for each in found.values() if teacher in each]
    table: dict[str, list[float]] = {}
    for one in runs:
        for name, figure in one["metrics"].items():
            table.setdefault(name, []).append(figure["value"])
        table.setdefault("rate_over_nominal", []).append(
            one["metrics"]["false_alarms_per_patient_day"]["value"] / 0.2
        )
        for name, figure in one["comparators"].items():
            for metric in ("our_share_of_its_alarms", "our_recall_then", "vus_pr", "event_recall"):
                if metric in figure:
                    table.setdefault(f"{metric} {name}", []).append(figure[metric]["value"])
        for name, figure in one["paired"].items():
            table.setdefault(f"vus_pr above {name}", []).append(figure["vus_pr"]["difference"])
        for name, case in one["shifted"].items():
            table.setdefault(f"rate {name}", []).append(case["false_alarms_per_patient_day"])
            table.setdefault(f"held or flagged {name}", []).append(
                float(case["held"] or bool(case["flagged"]))
            )
    return table


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seeds", type=int, nargs="*", default=[10, 11, 12, 13, 14])
    made.add_argument("--people", type=int, default=600)
    made.add_argument("--step", type=int, default=10, help="seconds between samples")
    made.add_argument("--teachers", nargs="*", choices=TEACHERS, default=list(TEACHERS))
    made.add_argument("--replicates", type=int, default=200)
    made.add_argument("--rate", type=int, help="judge the rate of false alarms alone, on so many people")
    made.add_argument("--set", nargs="*", default=[], help="settings of vitals, such as detector.batches=500")
    made.add_argument("--folder", type=Path, help="keep each seed's figures here")
    return made


def bench(options: argparse.Namespace) -> list[Case]:
    """One row per teacher and metric: the mean over seeds."""
    torch.set_num_threads(1)
    if options.rate:
        wards = [rates(seed, options) for seed in options.seeds]
        return [Case(name, "ratio", float(np.mean([each[name] for each in wards]))) for name in wards[0]]
    found: dict[int, dict[str, Any]] = {}
    for seed in options.seeds:
        kept = options.folder / f"{seed}.json" if options.folder else None
        if kept is not None and kept.is_file():
            found[seed] = json.loads(kept.read_text(encoding="utf-8"))
            continue
        found[seed] = judged(seed, options)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(found[seed]), encoding="utf-8")
    cases = []
    for teacher in options.teachers:
        for name, values in collected(found, teacher).items():
            mean, low, high = interval(values)
            cases.append(Case(f"{teacher}: {name}, mean of {len(values)} seeds", "as named", mean))
            say(f"{teacher:10s} {name:45s} {mean:10.3f} [{low:.3f}, {high:.3f}]")
    return cases


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda _: 1))
