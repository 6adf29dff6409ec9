"""A third reading: boosted trees on a table of each record, fitted beforehand and kept as tensors.

Trees see what neither of the other readings does: thresholds, and what holds only together. They are fitted by
LightGBM (Ke et al. 2017) with split points drawn at random (Geurts et al. 2006, "Extremely randomized trees"), and then
copied into tensors: they travel in the weights, and need neither LightGBM nor another file to be read. A step has no
gradient, so a model with this reading is explained by removal alone.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from caretrace.backbones.statistics import WindowStatistics
from caretrace.data.batch import EventBatch
from caretrace.data.samples import Samples

_BATCH = 256
_LEAVES = 15
_NODES = 2 * _LEAVES - 1
_LEAST_IN_LEAF = 20
# Those of the comparator (`comparators.boosted_trees`), but for random split points among fewer features.
_PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "extra_trees": True,
    "learning_rate": 0.03,
    "num_leaves": _LEAVES,
    "feature_fraction": 0.2,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "max_bin": 63,
    "feature_pre_filter": False,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


class TreeReading(nn.Module):
    """Sum of regression trees.

    Args:
        n_codes: Size of the vocabulary.
        windows_hours: Windows of the table beside the whole record, hours before the prediction time.
        n_trees: Number of trees; a setting, not found by stopping early, so that no sample is withheld from them.
    """

    feature: Tensor
    left: Tensor
    right: Tensor
    missing_left: Tensor

    def __init__(self, *, n_codes: int, windows_hours: tuple[float, ...], n_trees: int) -> None:
        super().__init__()
        self.statistics = WindowStatistics(n_codes=n_codes, windows_hours=windows_hours)
        shape = (n_trees, _NODES)
        # Saved with the rest, but not to be trained by gradient steps. A node that leads to itself is a leaf.
        self.threshold, self.value = (nn.Parameter(torch.zeros(shape), requires_grad=False) for _ in range(2))
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.long))
        self.register_buffer("missing_left", torch.zeros(shape, dtype=torch.bool))

    def forward(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """Logit per sample."""
        table = self._table(batch)
        tree = torch.arange(len(self.value), device=table.device)
        node = torch.zeros(len(table), len(tree), dtype=torch.long, device=table.device)
        for _ in range(_LEAVES - 1):
            value = table.gather(1, self.feature[tree, node])
            goes_left = torch.where(
                value.isnan(), self.missing_left[tree, node], value <= self.threshold[tree, node]
            )
            node = torch.where(goes_left, self.left[tree, node], self.right[tree, node])
        return self.value[tree, node].sum(1)

    def solve(self, train: Samples, weights: np.ndarray | None = None) -> None:
        """Grow the trees on the training samples.

        Args:
            train: Training samples.
            weights: How often each counts, [sample]; once by default.
        """
        import lightgbm

        table = np.concatenate(list(self._blocks(train)))
        # A seed of the member's own, drawn from the one that its weights were drawn from.
        seed = int(torch.randint(2**31 - 1, ()))
        least = min(_LEAST_IN_LEAF, max(1, len(table) // 20))
        fixed = {**_PARAMETERS, "min_child_samples": least, "seed": seed}
        data = lightgbm.Dataset(table, train.outcomes, weight=weights, params=fixed)
        grown = lightgbm.train(fixed, data, len(self.value)).dump_model()["tree_info"]
        for tensor in (self.feature, self.left, self.right, self.threshold, self.value, self.missing_left):
            tensor.zero_()
        for number, tree in enumerate(grown):
            self._copy(number, tree["tree_structure"])

    def _copy(self, tree: int, root: dict[str, Any]) -> None:
        """One tree, root first."""
        waiting = [(root, 0)]
        free = 1
        while waiting:
            node, at = waiting.pop()
            if "leaf_value" in node:
                self.left[tree, at] = self.right[tree, at] = at
                self.value[tree, at] = node["leaf_value"]
                continue
            self.feature[tree, at] = node["split_feature"]
            threshold = float(node["threshold"])
            self.threshold[tree, at] = _below(threshold)
            # Where no value was missing in training, LightGBM reads a missing one as 0.
            unseen = node["missing_type"] == "None"
            self.missing_left[tree, at] = threshold >= 0 if unseen else node["default_left"]
            self.left[tree, at], self.right[tree, at] = free, free + 1
            waiting += [(node["left_child"], free), (node["right_child"], free + 1)]
            free += 2

    def _table(self, batch: EventBatch) -> Tensor:
        return torch.cat([self.statistics(batch), batch.static], -1)

    def _blocks(self, samples: Samples) -> Iterator[np.ndarray]:
        for start in range(0, len(samples), _BATCH):
            batch = samples.batch(np.arange(start, min(start + _BATCH, len(samples))))
            yield self._table(batch).numpy()


def _below(threshold: float) -> float:
    """The largest float32 that is not above: a float32 is at most this exactly if it is at most the threshold."""
    with np.errstate(over="ignore"):  # LightGBM asks "is it there at all?" with the largest float64
        found = np.float32(threshold)
    return float(np.nextafter(found, np.float32(-np.inf)) if float(found) > threshold else found)
