"""How far synthetic histories are from held-out ones, in units of how far real ones are: excess divergence.

    excess = JSD(synthetic, held_out) / JSD(train, held_out)       all with the same number of subjects n

JSD is the Jensen-Shannon divergence in bits (the square of the distance; Lin 1991,
https://doi.org/10.1109/18.61115). Between two samples of the *same* population it is not 0 but a floor that
depends on n, which is why a bare JSD prefers a collapse (fewer codes, less noise) and says nothing. A perfect
generator has excess 1.

The floor is the mean over draws of n training subjects; their spread says how far chance carries a fresh real
sample, and bounds rest on it. Draws are made from one finite training set: they vary too little, by sqrt(1 - f) with
f = n / n_train, and their mean keeps that set's own chance, f of a draw's variance. The spread is multiplied by
sqrt((1 + f) / (1 - f)). Intervals come from half-samples of every set (Politis and
Romano 1994, https://doi.org/10.1214/aos/1176325770: without replacement, because a subject drawn twice looks like
a copy), centred on the value.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.stats import gamma, norm

from caretrace.evaluation.histories import Bools, Floats, Histories, Ints, gather
from caretrace.evaluation.views import Events, prevalence

# One fresh real sample in a thousand crosses a bound, so that about one in thirty crosses any of the gates.
FRESH = 0.999
SPREADS = float(norm.ppf(FRESH))

FLOOR_DRAWS = 32
SYNTHETIC_DRAWS = 8
REPLICATES = 24
INNER_DRAWS = 2  # floor draws within a replicate
Z_95 = 1.959964


def js_divergence(p: Floats, q: Floats) -> float:
    """Jensen-Shannon divergence of two histograms, bits, 0 to 1; 1 if exactly one of them is empty.

    Args:
        p: `[feature]`, counts; normalised here.
        q: `[feature]`, likewise.
    """
    total_p, total_q = p.sum(), q.sum()
    if total_p == 0 or total_q == 0:
        return float((total_p == 0) != (total_q == 0))
    # Where one of them is 0 the other adds half its mass, so logarithms are needed on the common support only.
    both = np.flatnonzero((p > 0) & (q > 0))
    a, b = p[both] / total_p, q[both] / total_q
    middle = np.log2((a + b) / 2)
    shared = a @ (np.log2(a) - middle) + b @ (np.log2(b) - middle)
    return float(max(shared + (1 - a.sum()) + (1 - b.sum()), 0.0) / 2)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Who is compared: the same draws for every view.

    Args:
        n: Subjects of every draw.
        test: `[n]`, held-out subjects.
        synthetic: `[draw, n]`.
        train: `[draw, n]`, for the floor.
        widen: What the spread of the floor is multiplied by.
        seed: Of the half-samples.
    """

    n: int
    test: Ints
    synthetic: Ints
    train: Ints
    widen: float
    seed: int


def plan(n_train: int, n_test: int, n_synthetic: int, seed: int = 0, draws: int = FLOOR_DRAWS) -> Plan:
    """Draw matched numbers of subjects: n is the smallest of held-out, synthetic and half of training."""
    rng = np.random.default_rng(seed)
    n = min(n_test, n_synthetic, n_train // 2)
    times = min(SYNTHETIC_DRAWS, n_synthetic // n) if n else 0
    return Plan(
        n=n,
        test=rng.permutation(n_test)[:n],
        synthetic=rng.permutation(n_synthetic)[: n * times].reshape(times, n),
        train=np.stack([rng.permutation(n_train)[:n] for _ in range(draws)]),
        widen=float(np.sqrt((1 + n / n_train) / (1 - n / n_train))),
        seed=seed,
    )


@dataclasses.dataclass(frozen=True)
class Excess:
    """Excess divergence of one view.

    Args:
        value: JSD(synthetic, held_out) over the floor; 1 is ideal.
        low: Lower end of the 95 % interval.
        high: Upper end.
        divergence: JSD(synthetic, held_out), bits.
        floor: JSD(train, held_out), bits.
        spread: Standard deviation of the value for a fresh real sample.
    """

    value: float
    low: float
    high: float
    divergence: float
    floor: float
    spread: float

    @property
    def fresh_most(self) -> float:
        """What a fresh real sample stays below 999 times in 1,000.

        A divergence is near a sum of squares, so its quantile is that of a gamma distribution with its moments.
        """
        variance = max(self.spread**2, 1e-12)
        return float(gamma.ppf(FRESH, 1 / variance, scale=variance))

    @property
    def fresh_least(self) -> float:
        """What a fresh real sample stays above 999 times in 1,000."""
        variance = max(self.spread**2, 1e-12)
        return float(gamma.ppf(1 - FRESH, 1 / variance, scale=variance))


class Counts:
    """Histograms of one view for three sets of subjects, for any draw of each.

    Args:
        train: Events of the training subjects.
        test: Events of the held-out subjects.
        synthetic: Events of the synthetic subjects.
        subjects: Number of subjects of each, in this order.
    """

    def __init__(
        self, train: Events, test: Events, synthetic: Events, subjects: tuple[int, int, int]
    ) -> None:
        sets = (train, test, synthetic)
        _, place = np.unique(np.concatenate([events.feature for events in sets]), return_inverse=True)
        self._features = np.split(place, np.cumsum([len(events.feature) for events in sets])[:-1])
        self._counts = [np.bincount(e.subject, minlength=n) for e, n in zip(sets, subjects, strict=True)]
        self._sizes = subjects
        self._bins = int(place.max()) + 1 if len(place) else 0

    def histogram(self, which: int, chosen: Ints) -> Floats:
        """`[feature]` for a draw of training (0), held-out (1) or synthetic (2) subjects."""
        events = self._features[which][gather(self._counts[which], chosen)]
        return np.bincount(events, minlength=self._bins).astype(np.float64)

    def excess(self, draws: Plan, replicates: int = REPLICATES) -> Excess | None:
        """Excess divergence; None where held-out or training subjects have no event at all."""
        test = self.histogram(1, draws.test)
        floors = np.array([js_divergence(self.histogram(0, chosen), test) for chosen in draws.train])
        if not test.sum() or floors.mean() <= 0 or floors.min() >= 1:
            return None
        floor = float(floors.mean())
        found = float(np.mean([js_divergence(self.histogram(2, chosen), test) for chosen in draws.synthetic]))
        value, spread = found / floor, float(floors.std(ddof=1) / floor * draws.widen)
        error = max(
            self._error(draws, replicates), spread
        )  # half-samples share subjects, and vary a little less
        return Excess(
            value=value,
            low=max(value - Z_95 * error, 0.0),
            high=value + Z_95 * error,
            divergence=found,
            floor=floor,
            spread=spread,
        )

    def _error(self, draws: Plan, replicates: int) -> float:
        """Standard error by half-samples of held-out, training and synthetic subjects."""
        rng = np.random.default_rng([draws.seed, 1])
        half, everyone = max(draws.n // 2, 1), draws.synthetic.reshape(-1)
        values = []
        for _ in range(replicates):
            test = self.histogram(1, rng.permutation(draws.test)[:half])
            synthetic = self.histogram(2, rng.permutation(everyone)[:half])
            inner = [
                js_divergence(self.histogram(0, rng.permutation(self._sizes[0])[:half]), test)
                for _ in range(INNER_DRAWS)
            ]
            values.append(js_divergence(synthetic, test) / max(float(np.mean(inner)), 1e-12))
        return float(np.std(values, ddof=1))


def r_squared(prevalences: Floats, real: Floats) -> float:
    """R² of prevalences against real ones on the line y = x (not of a fitted line, which forgives a scale)."""
    spread = float(((real - real.mean()) ** 2).sum())
    return (
        1 - float(((prevalences - real) ** 2).sum()) / spread
        if spread
        else float(np.allclose(prevalences, real))
    )


@dataclasses.dataclass(frozen=True)
class Beside:
    """A figure of the synthetic subjects beside those of fresh real samples of the same size.

    Args:
        value: Mean over draws of synthetic subjects.
        low: Lower end of the 95 % interval.
        high: Upper end.
        real: Mean over draws of training subjects.
        spread: Standard deviation over draws of real subjects, widened.
    """

    value: float
    low: float
    high: float
    real: float
    spread: float

    @property
    def fresh_least(self) -> float:
        """What a fresh real sample stays above 999 times in 1,000."""
        return self.real - SPREADS * self.spread

    @property
    def fresh_most(self) -> float:
        """What a fresh real sample stays below 999 times in 1,000."""
        return self.real + SPREADS * self.spread


def beside(synthetic: Floats, real: Floats, widen: float = 1.0) -> Beside:
    """Mean of a figure over draws, with the spread of one real draw as its uncertainty.

    Args:
        synthetic: `[draw]`.
        real: `[draw]`, two or more.
        widen: `Plan.widen`.
    """
    spread = float(real.std(ddof=1)) * widen
    value, half = float(synthetic.mean()), Z_95 * spread / np.sqrt(max(len(synthetic), 1))
    return Beside(value, value - half, value + half, float(real.mean()), spread)


def prevalence_r2(train: Histories, test: Histories, synthetic: Histories, draws: Plan) -> Beside:
    """R² of prevalences (share of subjects who ever have a code) against held-out subjects."""
    real = prevalence(test.take(draws.test))
    return beside(
        np.array([r_squared(prevalence(synthetic.take(d)), real) for d in draws.synthetic]),
        np.array([r_squared(prevalence(train.take(d)), real) for d in draws.train]),
        draws.widen,
    )


def distinct_codes(train: Histories, synthetic: Histories, draws: Plan) -> Beside:
    """Number of different codes among n subjects: what a collapse loses first."""
    return beside(
        np.array([_distinct(synthetic.take(d)) for d in draws.synthetic], np.float64),
        np.array([_distinct(train.take(d)) for d in draws.train], np.float64),
        draws.widen,
    )


def _distinct(histories: Histories) -> int:
    return len(np.unique(histories.code))


def in_cell(cell: Ints, value: int) -> tuple[Ints, Bools]:
    """Places and mask of the subjects of one cell."""
    mask = cell == value
    return np.flatnonzero(mask), mask
