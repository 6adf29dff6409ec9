"""An isolation forest as plain arrays, so that a bundle needs no pickle; and a risk from 0 to 100.

scikit-learn grows the trees (Liu et al. 2008); here they are only walked. A vector's score is 2^(-mean depth / c),
depth counting a leaf of n vectors as c(n) deeper, with c(n) the mean depth of an unsuccessful search.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import IsolationForest

from caretrace.errors import CohortError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_LEAF = -1
CALM, ALARMING = 0.50, 0.995  # quantiles of low-risk scores that are risk 0 and risk 50


@dataclasses.dataclass(frozen=True)
class Forest:
    """Trees side by side, padded to the largest.

    Args:
        left: [tree, node], child where the value is at most the threshold; -1 in a leaf.
        right: [tree, node], the other child.
        feature: [tree, node], which value.
        threshold: [tree, node].
        depth: [tree, node], depth of a leaf with the correction for the vectors in it.
        usual: c of the sample each tree was grown on.
        bounds: Scores that are risk 0 and risk 50.
    """

    left: IntArray
    right: IntArray
    feature: IntArray
    threshold: FloatArray
    depth: FloatArray
    usual: float
    bounds: tuple[float, float]

    @classmethod
    def fit(cls, calm: npt.NDArray[np.float32], seed: int, trees: int = 100) -> Forest:
        """Learn what low-risk vectors are like.

        Args:
            calm: [vector, number].
            seed: Of the trees.
            trees: How many.

        Raises:
            CohortError: Fewer than ten vectors.
        """
        if len(calm) < 10:
            raise CohortError(f"isolation forest: {len(calm)} low-risk windows; it needs at least 10")
        model = IsolationForest(n_estimators=trees, random_state=seed).fit(calm)
        most = max(tree.tree_.node_count for tree in model.estimators_)
        shape = (trees, most)
        left, right = np.full(shape, _LEAF, np.int64), np.full(shape, _LEAF, np.int64)
        feature, threshold, depth = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
        for row, estimator in enumerate(model.estimators_):
            tree = estimator.tree_
            n = tree.node_count
            left[row, :n], right[row, :n] = tree.children_left, tree.children_right
            feature[row, :n], threshold[row, :n] = np.maximum(tree.feature, 0), tree.threshold
            depth[row, :n] = _depths(tree.children_left, tree.children_right) + _search(tree.n_node_samples)
        usual = float(_search(np.array([model.max_samples_]))[0])
        forest = cls(left, right, feature, threshold, depth, usual, (0.0, 1.0))
        low, high = np.quantile(forest.anomaly(calm), [CALM, ALARMING])
        return dataclasses.replace(forest, bounds=(float(low), float(max(high, low + 1e-6))))

    def anomaly(self, vectors: npt.NDArray[np.float32]) -> FloatArray:
        """Score of each vector in (0, 1); what scikit-learn calls the negative of `score_samples`."""
        node = np.zeros((len(self.left), len(vectors)), np.int64)
        tree = np.arange(len(self.left))[:, None]
        values = vectors.astype(np.float32)
        while True:
            left = self.left[tree, node]
            inner = left != _LEAF
            if not inner.any():
                break
            value = values[np.arange(len(vectors)), self.feature[tree, node]]
            below = value <= self.threshold[tree, node]
            node = np.where(inner, np.where(below, left, self.right[tree, node]), node)
        return np.asarray(2.0 ** (-self.depth[tree, node].mean(0) / self.usual), np.float64)

    def risk(self, vectors: npt.NDArray[np.float32]) -> FloatArray:
        """0 to 100: 0 up to the usual score of low-risk windows, 50 where only one in two hundred of them is."""
        low, high = self.bounds
        return np.clip(50 * (self.anomaly(vectors) - low) / (high - low), 0, 100)


def _depths(left: IntArray, right: IntArray) -> FloatArray:
    depth = np.zeros(len(left))
    for node in range(len(left)):  # a parent stands before its children
        if left[node] != _LEAF:
            depth[left[node]] = depth[right[node]] = depth[node] + 1
    return depth


def _search(n: npt.ArrayLike) -> FloatArray:
    """Mean depth of an unsuccessful search among n vectors."""
    count = np.asarray(n, np.float64)
    harmonic = np.log(np.maximum(count - 1, 1)) + np.euler_gamma
    many = 2 * harmonic - 2 * (count - 1) / np.maximum(count, 1)
    return np.where(count > 2, many, np.where(count == 2, 1.0, 0.0))
