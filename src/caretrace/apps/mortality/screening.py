"""Screening: codes that say nothing which others do not say better are withheld from both readings.

A model fitted by likelihood leans on whatever agrees with a cause: as the cause becomes certain, the weight of an
event that merely travels with it tends to half their log odds ratio, not to nothing, however many people there are
(see the lab log). A penalty on the size of weights, as of ridge or of stopping early, shares weight among what is
correlated. One on their number does not: of two events the lasso keeps the one that explains more, and the other
gets exactly nothing as long as it follows the first less than fully (the irrepresentable condition; Zhao and Yu 2006,
"On Model Selection Consistency of Lasso").

    minimise  mean log-loss + penalty · Σ_code √rank |coefficients of the code| + a little ridge

over the statistics of each code (`WindowSummary`), made orthonormal within the code (Simon and Tibshirani 2012,
"Standardization and the Group Lasso Penalty"), the static features unpenalised. The ridge makes two codes that always
occur together share, where the lasso alone may take either. The penalty is a share, `strength`, of the one that
chance stays below in 95 of 100 shuffles of the outcomes (quantile universal threshold; Giacobino et al. 2017).
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse
import torch
from scipy.special import expit
from torch import nn

from caretrace.backbones.summary import WindowSummary
from caretrace.data.batch import EventBatch
from caretrace.data.samples import Samples
from caretrace.data.vocabulary import UNKNOWN

_BATCH = 256
_SHUFFLES, _CHANCE = 200, 0.05
_RIDGE = 1e-4
_LEAST_VARIANCE = 1e-9  # of a direction within a code, relative to its largest: what is below is rounding
_WORKING_SET = 64
_MOST_ROUNDS, _MOST_ITERATIONS, _TOLERANCE = 50, 3000, 1e-6
_SLACK, _TINY = 1e-3, 1e-30


class Screen(nn.Module):
    """Which codes are read.

    Args:
        n_codes: Size of the vocabulary.
        windows_hours: Windows of the statistics, hours before the prediction time.
        strength: Penalty in multiples of the one that lets a code through by chance in one of twenty cohorts where
            nothing is related to the outcome.
    """

    def __init__(self, *, n_codes: int, windows_hours: Sequence[float], strength: float) -> None:
        super().__init__()
        self.summary = WindowSummary(n_codes=n_codes, windows_hours=windows_hours)
        self.strength = strength
        # 1 where a code is read. Fitted, saved and shuffled like a weight, but not by gradient steps.
        self.kept = nn.Parameter(torch.ones(n_codes), requires_grad=False)

    def forward(self, batch: EventBatch) -> EventBatch:
        """The batch as if nothing that is withheld had been measured."""
        return batch.without(self.kept[batch.code] < 0.5)

    def guard(self, part: nn.Module) -> None:
        """Let a part of the model, whose only input is a batch, see no more than what is kept."""
        part.register_forward_pre_hook(self._before)

    def fit(self, train: Samples, weights: np.ndarray | None = None) -> None:
        """Choose among the codes of the training samples. What has no code of its own is never read.

        Args:
            train: Training samples.
            weights: How often each counts, [sample]; once by default.
        """
        counts = np.ones(len(train)) if weights is None else weights.astype(np.float64)
        features = scipy.sparse.vstack(list(self._blocks(train)), format="csc")
        groups = _Groups(features, self.summary.n_codes)
        problem = _Problem(groups, train.static.astype(np.float64), train.outcomes.astype(np.float64), counts)
        kept = problem.solve(self.strength * problem.chance())
        kept[UNKNOWN] = False
        self.kept.copy_(torch.from_numpy(kept))

    def _before(self, part: nn.Module, inputs: tuple[EventBatch]) -> tuple[EventBatch]:
        del part
        return (self(inputs[0]),)

    def _blocks(self, samples: Samples) -> Iterator[scipy.sparse.csr_matrix]:
        for start in range(0, len(samples), _BATCH):
            batch = samples.batch(np.arange(start, min(start + _BATCH, len(samples))))
            yield scipy.sparse.csr_matrix(self.summary(batch).double().numpy())


class _Groups:
    """Statistics of each code, centred and made orthonormal; one code is dense at a time.

    Args:
        features: Statistics, code by code, [sample, code · statistic].
        n_codes: Size of the vocabulary.
    """

    def __init__(self, features: scipy.sparse.csc_matrix, n_codes: int) -> None:
        self.features, self.n_codes = features, n_codes
        self.width = features.shape[1] // n_codes

    def __getitem__(self, code: int) -> np.ndarray:
        """[sample, rank], uncorrelated columns of mean 0 and mean square 1; rank 0 for a code that never varies."""
        dense = self.features[:, code * self.width : (code + 1) * self.width].toarray()
        dense -= dense.mean(0)
        variance, axes = np.linalg.eigh(dense.T @ dense / len(dense))
        found = variance > _LEAST_VARIANCE * max(float(variance[-1]), 1.0)
        whitened: np.ndarray = dense @ (axes[:, found] / np.sqrt(variance[found]))
        return whitened

    def pull(self, residual: np.ndarray) -> np.ndarray:
        """How strongly each code pulls at residuals, [code, ...]: the penalty at which it would come in."""
        found = np.zeros((self.n_codes, *residual.shape[1:]))
        for code in range(self.n_codes):
            whitened = self[code]
            if rank := whitened.shape[1]:
                slope = whitened.T @ residual / len(residual)
                found[code] = np.linalg.norm(slope, axis=0) / np.sqrt(rank)
        return found


@dataclasses.dataclass(frozen=True)
class _Problem:
    """Group lasso of outcomes on codes, with static features unpenalised.

    Args:
        groups: Statistics of the codes.
        static: Static features, [sample, feature].
        outcomes: 0 or 1, [sample].
        counts: How often each sample counts, [sample].
    """

    groups: _Groups
    static: np.ndarray
    outcomes: np.ndarray
    counts: np.ndarray

    def chance(self) -> float:
        """The penalty that keeps every code out in 95 of 100 shuffles of the outcomes."""
        rng = np.random.default_rng(0)
        rate = np.average(self.outcomes, weights=self.counts)
        residual = self.counts * (self.outcomes - rate)
        shuffles = np.stack([rng.permutation(residual) for _ in range(_SHUFFLES)], axis=1)
        return float(np.quantile(self.groups.pull(shuffles).max(0), 1 - _CHANCE))

    def solve(self, penalty: float) -> np.ndarray:
        """Codes whose coefficients are not all zero, bool [code].

        Solved on a working set, which is extended until no code outside would come in.
        """
        residual = self.counts * (self.outcomes - np.average(self.outcomes, weights=self.counts))
        active = np.zeros(0, dtype=np.int64)
        kept = np.zeros(self.groups.n_codes, dtype=bool)
        for _ in range(_MOST_ROUNDS):
            pull = self.groups.pull(residual)
            pull[active] = 0.0
            wanted = np.argsort(-pull, kind="stable")[:_WORKING_SET]
            wanted = wanted[pull[wanted] > penalty * (1 + _SLACK)]
            if not len(wanted):
                break
            active = np.append(active, wanted)
            kept[active], residual = self._solve_on(active, penalty)
        return kept

    def _solve_on(self, active: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Which of the active codes are kept, and the weighted residuals, by accelerated proximal gradients.

        FISTA (Beck and Teboulle 2009), started anew where the momentum points uphill (O'Donoghue and Candès 2015).
        """
        blocks = [self.groups[code] for code in active]
        rank = np.array([block.shape[1] for block in blocks])
        group, threshold = np.repeat(np.arange(len(active)), rank), penalty * np.sqrt(rank)
        n = len(self.outcomes)
        design = np.concatenate([*blocks, self.static, np.ones((n, 1))], axis=1)
        step = 1 / (0.25 * np.linalg.norm(np.sqrt(self.counts)[:, None] * design, 2) ** 2 / n + _RIDGE)
        width = len(group)
        point = ahead = np.zeros(design.shape[1])
        momentum = 1.0
        for _ in range(_MOST_ITERATIONS):
            slope = design.T @ (self.counts * (expit(design @ ahead) - self.outcomes)) / n
            slope[:-1] += _RIDGE * ahead[:-1]
            new = ahead - step * slope
            size = np.sqrt(np.bincount(group, new[:width] ** 2, minlength=len(active)))
            new[:width] *= np.maximum(0.0, 1 - step * threshold / np.maximum(size, _TINY))[group]
            faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            if (ahead - new) @ (new - point) > 0:
                faster, ahead = 1.0, new
            else:
                ahead = new + (momentum - 1) / faster * (new - point)
            moved, point, momentum = float(np.abs(new - point).max()), new, faster
            if moved < _TOLERANCE:
                break
        size = np.bincount(group, point[:width] ** 2, minlength=len(active))
        return size > 0, self.counts * (self.outcomes - expit(design @ point))
