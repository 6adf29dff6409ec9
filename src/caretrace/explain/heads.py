"""What attention heads look at, measured against chance: what they follow, what their query asks, how far they look.

All of it describes attention. What is looked at is not what matters: none of it is importance.

Following   rank correlation of a head's weights with a property of the steps, within each record, mean over
            records; chance: the same with the steps of every record shuffled
Pointing    cosine between a pooling query and the direction in which keys differ with a property; chance: random
            queries of the same norm
Reach       how far back the heads of a layer look; chance: equal weight to every step that may be looked at

A p-value counts the largest of all heads (and of all types, or properties) in each draw, so that it may be read for
every head at once (Westfall and Young 1993, "Resampling-Based Multiple Testing", single step).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from caretrace.data.batch import EventBatch

Array = np.ndarray
DRAWS = 2000
# Fewer steps in which a property varies say nothing of a rank correlation.
FEWEST_STEPS = 4
TIME, TYPE, SEVERITY = "time", "event type", "severity"
_AT_ONCE = 4_000_000  # numbers held in a portion of the draws


@dataclasses.dataclass(frozen=True)
class Looks:
    """Where one model looks in one record.

    Args:
        pooling: Weight of each step per pooling head, [head, step]; sums to 1.
        query: What each pooling head asks, [head, d_head].
        keys: What the steps answer, [step, head, d_head].
        hours: Hours from each step to the prediction, [step].
        step_of: Step that each measurement is in, [measurement]; -1 where padded.
        layers: Self-attention of each layer, [layer, head, step, step]; row = the step that looks, at itself and
            earlier ones; None for a backbone that has none.
    """

    pooling: Float[Array, "head step"]
    query: Float[Array, "head d_head"]
    keys: Float[Array, "step head d_head"]
    hours: Float[Array, step]
    step_of: Int[Array, measurement]
    layers: Float[Array, "layer head step step"] | None


@runtime_checkable
class ShowsHeads(Protocol):
    """A score whose heads can be looked into."""

    def looks(self, sample: EventBatch) -> list[Looks]:
        """Of each member of the ensemble, over one sample."""
        ...


@dataclasses.dataclass(frozen=True)
class Traits:
    """What there is to be followed in the steps of one record.

    Args:
        hours: Hours from each step to the prediction, [step].
        types: Measurements of each event type, [type, step].
        severity: How far values lie from the middle of their code's training values, 0 at the median and 1 at the
            extremes, mean over the values of a step, [step]; NaN without a value.
        codes: Whether a code was measured, [code, step].
    """

    hours: Float[Array, step]
    types: Float[Array, "type step"]
    severity: Float[Array, step]
    codes: Float[Array, "code step"]


def traits(sample: EventBatch, looks: Looks, n_types: int, codes: Sequence[int] = ()) -> Traits:
    """The traits of a record's steps.

    Args:
        sample: A batch of one sample.
        looks: Where its measurements stand.
        n_types: Number of event types.
        codes: Numbers of the codes to tell apart.
    """
    inside = looks.step_of >= 0
    step, n_steps = looks.step_of[inside], len(looks.hours)
    kinds = sample.event_type[0].cpu().numpy()[inside]
    types = np.zeros((n_types, n_steps))
    np.add.at(types, (kinds, step), 1.0)
    code = sample.code[0].cpu().numpy()[inside]
    measured = np.zeros((len(codes), n_steps))
    for number, each in enumerate(codes):
        measured[number, step[code == each]] = 1.0
    valued = sample.numeric_mask[0].cpu().numpy()[inside]
    extreme = np.abs(2 * sample.numeric_value[0].cpu().numpy()[inside] - 1)[valued]
    total = np.bincount(step[valued], extreme, n_steps)
    count = np.bincount(step[valued], minlength=n_steps)
    severity = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return Traits(looks.hours.astype(np.float64), types, severity, measured)


@dataclasses.dataclass(frozen=True)
class Following:
    """How closely one head follows one property.

    Args:
        head: Number of the head.
        what: "time", "event type" or "severity".
        which: Number of the event type it follows most closely; 0 for the others.
        correlation: Mean rank correlation with the weights over records. Of time: positive = it looks at what is
            recent. Of type and severity: what is left once what time explains is taken out.
        agreeing: Share of records whose correlation has the sign of the mean.
        records: Records in which the property varies.
        p: Chance of as strong a correlation of any head (and type) if the steps of every record were shuffled.
    """

    head: int
    what: str
    which: int
    correlation: float
    agreeing: float
    records: int
    p: float


def following(records: Sequence[tuple[Array, Traits]], draws: int = DRAWS, seed: int = 0) -> list[Following]:
    """What each head follows.

    A head that follows time would seem to follow whatever changes with time; so type and severity are judged by what
    remains of ranks once the rank of time is taken out (partial rank correlation). Steps are shuffled as if they
    could stand anywhere: in a record whose neighbouring steps resemble each other chance is wider than that, so
    a small p with a small correlation says little.

    Args:
        records: Weights of every head [head, step], and the traits of the steps, of each record.
        draws: Shuffles behind the p-values.
        seed: Seed of the shuffles.
    """
    found = []
    for what, take in _FAMILIES.items():
        chosen = [(weights, *take(each)) for weights, each in records]
        found += _family(what, chosen, draws, np.random.default_rng(seed))
    return found


def _recency(of: Traits) -> tuple[Array, Array | None]:
    return -of.hours[None], None


def _types(of: Traits) -> tuple[Array, Array | None]:
    return of.types, of.hours


def _severity(of: Traits) -> tuple[Array, Array | None]:
    return of.severity[None], of.hours


_FAMILIES: dict[str, Callable[[Traits], tuple[Array, Array | None]]] = {
    TIME: _recency,
    TYPE: _types,
    SEVERITY: _severity,
}


def _family(
    what: str, records: Sequence[tuple[Array, Array, Array | None]], draws: int, rng: np.random.Generator
) -> list[Following]:
    """One property of every head: records are weights, the property [option, step], and the time to take out."""
    if not records:
        return []
    shape = len(records[0][0]), len(records[0][1])
    total, null = np.zeros(shape), np.zeros((draws, *shape))
    counted, positive = np.zeros(shape), np.zeros(shape)
    for weights, feature, hours in records:
        there = np.isfinite(feature).all(0)
        if there.sum() < FEWEST_STEPS:
            continue
        left = None if hours is None else _unit(rankdata(hours[there])[None])
        head, option = _ranked(weights[:, there], left), _ranked(feature[:, there], left)
        found = head @ option.T
        varies = (np.abs(head).sum(1) > 0)[:, None] & (np.abs(option).sum(1) > 0)[None]
        total += found
        counted += varies
        positive += found > 0
        null += _shuffled(head, option, draws, rng)
    mean, chance = total / np.maximum(counted, 1), null / np.maximum(counted, 1)
    p, best = _corrected(mean, chance)
    rows = []
    for number, which in enumerate(best):
        place = number, int(which)
        share, value = positive[place] / max(counted[place], 1), float(mean[place])
        agreeing = float(share if value > 0 else 1 - share)
        rows.append(Following(number, what, place[1], value, agreeing, int(counted[place]), float(p[number])))
    return rows


def _ranked(rows: Array, left: Array | None) -> Array:
    """Ranks along steps, without what is explained by `left`, each row of mean 0 and length 1 (0 if constant)."""
    ranks = _unit(rankdata(rows, axis=1))
    return ranks if left is None else _unit(ranks - (ranks @ left.T) @ left)


def _unit(rows: Array) -> Array:
    centred = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(length > 1e-9, centred / np.maximum(length, 1e-9), 0.0)


def _shuffled(head: Array, option: Array, draws: int, rng: np.random.Generator) -> Array:
    """Correlations with the steps of this record shuffled, alike for all heads, [draw, head, option]."""
    found = np.empty((draws, len(head), len(option)))
    size = max(1, _AT_ONCE // option.size)
    for start in range(0, draws, size):
        part = min(size, draws - start)
        order = rng.permuted(np.tile(np.arange(option.shape[1]), (part, 1)), axis=1)
        found[start : start + part] = np.einsum("hs,obs->bho", head, option[:, order], optimize=True)
    return found


def _corrected(mean: Array, null: Array) -> tuple[Array, Array]:
    """P of each head's strongest option against the strongest of all heads and options; and which option it is."""
    spread = null.std(0)
    spread = np.where(spread > 1e-12, spread, np.inf)
    strength = np.abs(mean) / spread
    most = (np.abs(null) / spread).max((1, 2))
    best = strength.argmax(1)
    own = strength.max(1)
    return (1 + (most[:, None] >= own[None]).sum(0)) / (1 + len(null)), best


def effective_steps(pooling: Float[Array, "head step"]) -> Float[Array, head]:
    """Steps that a head spreads its weight over: e to the entropy of its weights; 1 = a single step."""
    weights = np.clip(pooling, 1e-12, None)
    return np.exp(-(weights * np.log(weights)).sum(1))


@dataclasses.dataclass(frozen=True)
class Pointing:
    """How a pooling query lies to the direction of one property.

    Args:
        head: Number of the head.
        direction: Number of the property.
        cosine: 1: the more a step has of the property, the more it is looked at; -1: the less.
        p: Chance that random queries of the same norm, one per head, point as closely at any property.
    """

    head: int
    direction: int
    cosine: float
    p: float


def directions(
    keys: Sequence[Float[Array, "step head d_head"]], properties: Sequence[Float[Array, "property step"]]
) -> Float[Array, "head property d_head"]:
    """The way in which keys change as a property does: their covariance, from record to record, as unit vectors.

    Only differences within a record count: what all its keys share does not change where a head looks.

    Args:
        keys: Of each record.
        properties: Of the steps of each record; NaN where a step has none.
    """
    _, n_heads, width = keys[0].shape
    found = np.zeros((n_heads, len(properties[0]), width))
    for key, values in zip(keys, properties, strict=True):
        for number, value in enumerate(values):
            there = np.isfinite(value)
            if there.sum() > 1:
                centred = value[there] - value[there].mean()
                found[:, number] += np.einsum("s,shd->hd", centred, key[there].astype(np.float64))
    length = np.linalg.norm(found, axis=2, keepdims=True)
    return np.where(length > 1e-12, found / np.maximum(length, 1e-12), 0.0)


def pointing(
    query: Float[Array, "head d_head"],
    towards: Float[Array, "head property d_head"],
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Pointing]:
    """Where each head's query points, the closest direction first.

    Args:
        query: What each head asks.
        towards: Unit vectors of `directions`; one of length 0 is not pointed at.
        draws: Sets of random queries behind the p-values.
        seed: Seed of those.
    """
    rng = np.random.default_rng(seed)
    norm = np.linalg.norm(query, axis=1)
    random = rng.standard_normal((draws, *query.shape))
    random *= (norm / np.linalg.norm(random, axis=2))[..., None]

    def cosines(queries: Array) -> Array:
        return np.einsum("...hd,hpd->...hp", queries, towards) / np.maximum(norm, 1e-12)[:, None]

    most = np.abs(cosines(random)).max((1, 2), initial=0.0)
    found = cosines(query)
    rows = []
    for head in range(len(query)):
        for direction in np.argsort(-np.abs(found[head]), kind="stable"):
            value = float(found[head, direction])
            p = float((1 + (most >= abs(value)).sum()) / (1 + draws))
            rows.append(Pointing(head, int(direction), value, p))
    return rows


@dataclasses.dataclass(frozen=True)
class Reach:
    """How far one head of one layer looks, in one record, beside looking at every earlier step alike.

    Args:
        layer: Number of the layer.
        head: Number of the head.
        hours: Mean hours between the step that looks and what it looks at.
        even_hours: The same if it looked at itself and every earlier step alike.
        near: Share of the weight on the nearest steps, itself among them.
        even_near: The same if it looked at all alike.
    """

    layer: int
    head: int
    hours: float
    even_hours: float
    near: float
    even_near: float


def reach(
    layers: Float[Array, "layer head step step"],
    hours: Float[Array, step],
    within: int = 4,
    real: Bool[Array, step] | None = None,
) -> list[Reach]:
    """Local or global attention of every head; means over the steps that have an earlier one to look at.

    Args:
        layers: Attention weights; rows sum to 1 and look back only.
        hours: Hours from each step to the prediction.
        within: Steps that count as near, before the one that looks.
        real: Which steps are no padding; all by default.
    """
    kept = np.ones(len(hours), dtype=bool) if real is None else real
    layers, hours = layers[:, :, kept][..., kept], hours[kept]
    steps = len(hours)
    if steps < 2:
        return []
    number = np.arange(steps)
    earlier = number[None] <= number[:, None]
    even = earlier / earlier.sum(1, keepdims=True)
    apart = np.abs(hours[:, None] - hours[None])
    close = earlier & (number[:, None] - number[None] <= within)

    def mean(weights: Array, of: Array) -> float:
        return float((weights * of).sum(1)[1:].mean())

    return [
        Reach(layer, head, mean(weights, apart), mean(even, apart), mean(weights, close), mean(even, close))
        for layer, heads in enumerate(layers)
        for head, weights in enumerate(heads)
    ]
