"""What would help: interventions switched in the simulator, and whether the model sees their effect.

The simulated effect is the difference between two cities that are equal but for the intervention. The model is
asked twice. *Seen*: it reads the changed city's hours, as it would once the change is made, and its mean forecast
is compared between the cities. *Edited*: it reads the unchanged city with nothing but the number of crews or nurses
raised, which is how a forecast is easily misused: queues that a change would have shortened still stand there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.apps.safety.finishing import CRISIS_LEVEL, reach
from caretrace.apps.safety.model import QUANTILES
from caretrace.apps.safety.pathway_steps import PER_NURSE
from caretrace.apps.safety.reading import Kinds
from caretrace.apps.safety.sequences import HOSPITAL, HOUR, PATHWAY, Sequences
from caretrace.apps.safety.training import Fitted, finished, readings_of
from caretrace.hospital.operations.config import Interventions

Floats = NDArray[np.float64]

WEEK_HOURS = 168
CREWS, NURSES, BEDS_PER_NURSE = 10, 1, 30
CRISIS_AHEAD = "crisis_8_h"
WITHIN = 0.10  # of the simulated effect: recovered


@dataclasses.dataclass(frozen=True)
class Lever:
    """What an organisation can change.

    Args:
        words: What it is.
        interventions: As the simulator takes it.
        edit: Sequences → the same with nothing but this input changed; None where no input says it.
    """

    words: str
    interventions: Interventions
    edit: Callable[[Sequences], Sequences] | None


def _more_crews(sequences: Sequences) -> Sequences:
    """Crews that are there and free; pathways know how many there are, and the share that is free."""
    crews = pl.col("STATE//crews")
    share = (pl.col("share_of_crews_free") * crews + CREWS) / (crews + CREWS)
    more = [(crews + CREWS).alias("STATE//crews"), share.alias("share_of_crews_free")]
    if "STATE//crews_free" in sequences.steps.columns:
        more.append((pl.col("STATE//crews_free") + CREWS).alias("STATE//crews_free"))
    kept = [each.cast(sequences.steps.schema[each.meta.output_name()]) for each in more]
    return dataclasses.replace(sequences, steps=sequences.steps.with_columns(kept))


def _more_nurses(sequences: Sequences) -> Sequences:
    here = "" if sequences.kind == HOSPITAL else "here//"
    nurses, wards = f"{here}STATE//nurses", f"{here}STATE//ward_nurses"
    more = [(pl.col(nurses) + NURSES).alias(nurses)]
    if "STATE//ward_beds" in sequences.steps.columns:
        more.append((pl.col(wards) + NURSES * pl.col("STATE//ward_beds") / BEDS_PER_NURSE).alias(wards))
    if PER_NURSE in sequences.steps.columns:
        fewer = pl.max_horizontal(nurses, 1) / pl.max_horizontal(pl.col(nurses) + NURSES, 1)
        more.append((pl.col(PER_NURSE) * fewer).alias(PER_NURSE))
    return dataclasses.replace(sequences, steps=sequences.steps.with_columns(more))


LEVERS = {
    "crews": Lever(f"{CREWS} more ambulances", Interventions(extra_ambulances=CREWS), _more_crews),
    "nurses": Lever(
        "one more nurse on every shift of each department and ward",
        Interventions(extra_nurses=NURSES),
        _more_nurses,
    ),
    "lounge": Lever("a discharge lounge", Interventions(discharge_lounge=True), None),
}
# Outcome → what it is, and how it is told.
OUTCOMES = {
    "crisis": "hours in crisis, eight hours ahead (share)",
    "delay": "minutes until an ambulance is there (logarithm)",
    "handoff": "rating of the handoff (0 to 1)",
    "documentation": "completeness of the record (share)",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Weeks:
    """Means of one city, by week.

    Args:
        happened: Outcome → `[week]`.
        foreseen: Outcome → `[week]`, over the same hours and patients.
    """

    happened: dict[str, Floats]
    foreseen: dict[str, Floats]

    def to_dict(self) -> dict[str, dict[str, list[float]]]:
        """As JSON takes it."""
        return {
            part: {name: each.tolist() for name, each in getattr(self, part).items()}
            for part in ("happened", "foreseen")
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Mapping[str, list[float]]]) -> Weeks:
        """What `to_dict` made."""
        return cls(
            *(
                {name: np.asarray(each) for name, each in value[part].items()}
                for part in ("happened", "foreseen")
            )
        )


def weeks(fitted: Fitted, kinds: Kinds, skip: int = 1) -> Weeks:
    """What happened and what is foreseen, week by week; the first are left for a change to settle."""
    happened: dict[str, Floats] = {}
    foreseen: dict[str, Floats] = {}
    for kind, targets in ((HOSPITAL, ("crisis",)), (PATHWAY, ("delay", "handoff", "documentation"))):
        if kind not in kinds:
            continue
        wanted = tuple(CRISIS_AHEAD if target == "crisis" else target for target in targets)
        steps = kinds[kind].steps
        asked = np.flatnonzero(np.any([~np.isnan(_number(steps, name)) for name in wanted], axis=0))
        said = finished(fitted, kind, readings_of(fitted, kinds[kind], asked, wanted))
        steps = steps[asked]
        week = (steps[HOUR].to_numpy() // WEEK_HOURS).astype(np.int64)
        for target in targets:
            value, forecast = _both(steps, said, target)
            rows = ~np.isnan(value) & (week >= skip)
            happened[target] = _by_week(week[rows], value[rows])
            foreseen[target] = _by_week(week[rows], forecast[rows])
    return Weeks(happened, foreseen)


def effects(
    base: list[Weeks], changed: list[Weeks], edited: list[Weeks] | None, replicates: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Simulated, seen and edited effect of one lever.

    Args:
        base: The unchanged city, one per replication.
        changed: The same replications with the lever.
        edited: Forecasts for the unchanged city with edited inputs; None where no input says it.
        replicates: Of the bootstrap over weeks of all replications.
        seed: Of the bootstrap.

    Returns:
        Outcome → `simulated`, `seen`, `edited` and the ratios `seen_share` and `edited_share`, each {value, low,
        high} or None; `recovered`, whether `seen` is within 10 % of `simulated`; `base`, the mean without the lever.
        Shares are None, and so is `recovered`, where the interval of the simulated effect holds 0.
    """
    found = {}
    for outcome in base[0].happened:
        simulated = _difference(changed, base, "happened", outcome)
        seen = _difference(changed, base, "foreseen", outcome)
        other = None if edited is None else _difference(edited, base, "foreseen", outcome)
        draws = np.random.default_rng(seed).integers(0, len(simulated), (replicates, len(simulated)))
        effect = _interval(simulated.mean(), simulated[draws].mean(1))
        clear = effect["low"] * effect["high"] > 0
        # A part of nothing is no number.
        share = _share(simulated, seen, draws) if clear else None
        found[outcome] = {
            "simulated": effect,
            "seen": _interval(seen.mean(), seen[draws].mean(1)),
            "seen_share": share,
            "edited": None if other is None else _interval(other.mean(), other[draws].mean(1)),
            "edited_share": _share(simulated, other, draws) if clear and other is not None else None,
            "recovered": None if share is None else abs(share["value"] - 1) <= WITHIN,
            "base": float(np.mean(np.concatenate([one.happened[outcome] for one in base]))),
        }
    return found


def _both(steps: pl.DataFrame, said: Mapping[str, Floats], target: str) -> tuple[Floats, Floats]:
    if target == "crisis":
        level = _number(steps, CRISIS_AHEAD)
        return np.where(np.isnan(level), np.nan, level >= CRISIS_LEVEL), reach(said[CRISIS_AHEAD])
    value = _number(steps, target)
    if target == "delay":  # of the logarithm, mean and median are near each other
        return np.log(value), np.log(said["delay"][:, QUANTILES.index(0.5)])
    return value, said[target]


def _number(steps: pl.DataFrame, name: str) -> Floats:
    return steps[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _by_week(week: NDArray[np.int64], value: Floats) -> Floats:
    _, place = np.unique(week, return_inverse=True)
    return np.asarray(np.bincount(place, value) / np.bincount(place))


def _difference(one: list[Weeks], other: list[Weeks], part: str, outcome: str) -> Floats:
    pairs = zip(one, other, strict=True)
    return np.concatenate([getattr(a, part)[outcome] - getattr(b, part)[outcome] for a, b in pairs])


def _share(simulated: Floats, said: Floats, draws: NDArray[np.int64]) -> dict[str, float]:
    """What part of the simulated effect is said."""
    whole = simulated[draws].mean(1)
    drawn = said[draws].mean(1) / np.where(whole == 0, np.nan, whole)
    return _interval(said.mean() / simulated.mean(), drawn)


def _interval(value: float, drawn: Floats) -> dict[str, float]:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {"value": float(value), "low": float(low), "high": float(high)}
