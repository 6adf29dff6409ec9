"""Heads: hidden states → outputs, each with its own loss, masked where the label is missing."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class RiskHead(nn.Module):
    """Probability of one outcome, as a logit.

    Args:
        d_in: Width of the input.
        d_hidden: Width of the layer in between.
        dropout: Probability of dropping a hidden unit.
    """

    def __init__(self, *, d_in: int, d_hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = _layers(d_in, d_hidden, dropout, 1)

    def forward(self, hidden: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch"]:
        """Logit per sample."""
        return self.layers(hidden)[:, 0]

    @staticmethod
    def loss(
        logit: Float[Tensor, "batch"],
        outcome: Float[Tensor, "batch"],
        weight: Float[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean binary cross-entropy over the samples whose outcome is known (not NaN); 0 if none is.

        Args:
            logit: Logit per sample.
            outcome: 0 or 1, NaN where unknown.
            weight: By what each sample's loss is multiplied; of mean 1 over all samples, or the loss is scaled.
        """
        known = ~torch.isnan(outcome)
        total = F.binary_cross_entropy_with_logits(
            logit[known], outcome[known], None if weight is None else weight[known], reduction="sum"
        )
        return total / known.sum().clamp(min=1)

    @classmethod
    def tuning_loss(cls, logit: Float[Tensor, "batch"], outcome: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
        """The loss once the mean risk is set right, as the bundle's calibration will do.

        A small tuning split may have twice the deaths of another by chance. Its plain loss then prefers
        whichever epoch happens to be gloomy enough, not the one that ranks people best.
        """
        known = ~torch.isnan(outcome)
        logit, outcome = logit[known].double(), outcome[known].double()
        shift = torch.zeros((), dtype=torch.float64, device=logit.device)
        if 0 < outcome.sum() < len(outcome):
            for _ in range(20):  # Newton's method on a convex function of one number
                risk = torch.sigmoid(logit + shift)
                step = (risk - outcome).sum() / (risk * (1 - risk)).sum().clamp(min=1e-9)
                shift = shift - step.clamp(-2.0, 2.0)
        return cls.loss(logit + shift, outcome).float()


class LevelHead(nn.Module):
    """Probabilities of ordered levels, as logits, for several horizons at once.

    Args:
        d_in: Width of the input.
        d_hidden: Width of the layer in between.
        dropout: Probability of dropping a hidden unit.
        horizons: How many moments are predicted.
        levels: How many levels there are.
    """

    def __init__(self, *, d_in: int, d_hidden: int, dropout: float, horizons: int, levels: int) -> None:
        super().__init__()
        self.shape = horizons, levels
        self.layers = _layers(d_in, d_hidden, dropout, horizons * levels)

    def forward(self, hidden: Float[Tensor, "*place d_in"]) -> Float[Tensor, "*place horizon level"]:
        """Logits; a softmax over the last axis gives probabilities."""
        return self.layers(hidden).unflatten(-1, self.shape)

    @staticmethod
    def loss(
        logits: Float[Tensor, "*place horizon level"], level: Float[Tensor, "*place horizon"]
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy over what is known (not NaN); 0 if nothing is."""
        known = ~torch.isnan(level)
        total = F.cross_entropy(logits[known], level[known].long(), reduction="sum")
        return total / known.sum().clamp(min=1)


class ShareHead(nn.Module):
    """A share between 0 and 1, as a logit: a chance, a rating on its scale, a completeness.

    Args:
        d_in: Width of the input.
        d_hidden: Width of the layer in between.
        dropout: Probability of dropping a hidden unit.
    """

    def __init__(self, *, d_in: int, d_hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = _layers(d_in, d_hidden, dropout, 1)

    def forward(self, hidden: Float[Tensor, "*place d_in"]) -> Float[Tensor, "*place"]:
        """Logits of the shares."""
        return self.layers(hidden)[..., 0]

    @staticmethod
    def loss(logit: Float[Tensor, "*place"], share: Float[Tensor, "*place"]) -> Float[Tensor, ""]:
        """Mean binary cross-entropy over what is known; its minimum is the mean share, for any distribution of it."""
        known = ~torch.isnan(share)
        total = F.binary_cross_entropy_with_logits(logit[known], share[known], reduction="sum")
        return total / known.sum().clamp(min=1)


class QuantileHead(nn.Module):
    """Quantiles that cannot cross: the lowest, and steps upwards (softplus).

    Args:
        d_in: Width of the input.
        d_hidden: Width of the layer in between.
        dropout: Probability of dropping a hidden unit.
        quantiles: Ascending, each between 0 and 1.
    """

    quantiles: Tensor

    def __init__(self, *, d_in: int, d_hidden: int, dropout: float, quantiles: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("quantiles", torch.tensor(quantiles), persistent=False)
        self.layers = _layers(d_in, d_hidden, dropout, len(quantiles))

    def forward(self, hidden: Float[Tensor, "*place d_in"]) -> Float[Tensor, "*place quantile"]:
        """Quantiles in the unit of what they are fitted on."""
        first, steps = self.layers(hidden).split([1, len(self.quantiles) - 1], -1)
        return torch.cat([first, first + F.softplus(steps).cumsum(-1)], -1)

    def loss(
        self, quantiles: Float[Tensor, "*place quantile"], value: Float[Tensor, "*place"]
    ) -> Float[Tensor, ""]:
        """Mean pinball loss (Koenker and Bassett 1978) over what is known and over the quantiles."""
        known = ~torch.isnan(value)
        over = value[known][:, None] - quantiles[known]
        total = torch.maximum(self.quantiles * over, (self.quantiles - 1) * over).mean(-1).sum()
        return total / known.sum().clamp(min=1)


class TaskWeights(nn.Module):
    """Weights of several losses, learned: sum of exp(-s) · loss + s (Kendall, Gal and Cipolla 2018).

    The log-variances s are clamped: unbounded, a task that is learned to a loss near 0 would drive them, and the
    sum, below any number.

    Args:
        tasks: Names.
        learned: Equal weights if not: s stays 0.
        bound: Largest |s|.
    """

    def __init__(self, tasks: tuple[str, ...], *, learned: bool = True, bound: float = 3.0) -> None:
        super().__init__()
        self.tasks, self.bound = tasks, bound
        self.log_variance = nn.Parameter(torch.zeros(len(tasks)), requires_grad=learned)

    def forward(self, losses: dict[str, Tensor]) -> Float[Tensor, ""]:
        """The weighted sum over the tasks that have a loss."""
        total = self.log_variance.new_zeros(())
        for name, loss in losses.items():
            s = self.log_variance[self.tasks.index(name)].clamp(-self.bound, self.bound)
            total = total + torch.exp(-s) * loss + s
        return total


def _layers(d_in: int, d_hidden: int, dropout: float, d_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(d_in, d_hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(d_hidden, d_out),
    )
