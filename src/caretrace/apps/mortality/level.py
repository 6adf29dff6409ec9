"""The second reading: a logistic regression on a summary of each code, solved exactly.

Where two thousand stays and a few hundred deaths are all there is, a convex model on robust statistics ranks
about as well as any network and is better calibrated. It is solved to its optimum before the network is
trained, so that it neither stops early nor leans on the network.
"""

from collections.abc import Iterator

import numpy as np
import scipy.optimize
import scipy.sparse
import torch
from jaxtyping import Float
from scipy.special import expit
from torch import Tensor, nn

from caretrace.backbones.summary import WindowSummary
from caretrace.data.batch import EventBatch
from caretrace.data.samples import Samples

_BATCH = 256
_MOST_ITERATIONS = 500


class LevelReading(nn.Module):
    """Logistic regression with a Gaussian prior on its coefficients (ridge; Hoerl and Kennard 1970).

    Args:
        n_codes: Size of the vocabulary.
        n_static: Number of static features.
        windows_hours: Windows of the summary, hours before the prediction time.
        spread: Standard deviation of the prior. It does not depend on the number of samples: with more
            of them the data outweigh it by themselves.
    """

    def __init__(
        self, *, n_codes: int, n_static: int, windows_hours: tuple[float, ...], spread: float
    ) -> None:
        super().__init__()
        self.summary = WindowSummary(n_codes=n_codes, windows_hours=windows_hours)
        self.spread = spread
        # Not to be trained by gradient steps, but saved with the rest.
        self.weight = nn.Parameter(torch.zeros(self.summary.n_features + n_static), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """Logit per sample."""
        return self._features(batch) @ self.weight + self.bias

    def solve(self, train: Samples, weights: np.ndarray | None = None) -> None:
        """Set the coefficients to the most probable ones given the training samples.

        Args:
            train: Training samples.
            weights: How often each counts, [sample]; once by default.
        """
        features = scipy.sparse.vstack(list(self._blocks(train)), format="csr")
        outcomes = train.outcomes.astype(np.float64)
        counts = np.ones(len(outcomes)) if weights is None else weights.astype(np.float64)

        def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
            logit = features @ point[:-1] + point[-1]
            residual = counts * (expit(logit) - outcomes)
            prior = point[:-1] / self.spread**2
            value = (
                (counts * np.logaddexp(0.0, logit)).sum()
                - (counts * outcomes) @ logit
                + 0.5 * prior @ point[:-1]
            )
            return value, np.append(features.T @ residual + prior, residual.sum())

        found = scipy.optimize.minimize(
            loss,
            np.zeros(features.shape[1] + 1),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _MOST_ITERATIONS},
        )
        self.weight.copy_(torch.from_numpy(found.x[:-1]))
        self.bias.fill_(float(found.x[-1]))

    def _features(self, batch: EventBatch) -> Tensor:
        return torch.cat([self.summary(batch), batch.static], -1)

    def _blocks(self, samples: Samples) -> Iterator[scipy.sparse.csr_matrix]:
        """Features of all samples, sparse: most codes are absent from most stays."""
        for start in range(0, len(samples), _BATCH):
            batch = samples.batch(np.arange(start, min(start + _BATCH, len(samples))))
            yield scipy.sparse.csr_matrix(self._features(batch).double().numpy())
