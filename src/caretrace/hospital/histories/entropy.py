"""The entropy rate of the population: what the best possible model of histories would lose, in nats.

H(history | age, sex) = E[-log p(history | age, sex)] over drawn subjects, p exact. The means of the number of
visits and of subjects per phenotype are known exactly, so their chance deviations are regressed out (control
variates; Owen, Monte Carlo theory, methods and examples, ch. 8), which leaves a fraction of the variance.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from caretrace.errors import ConfigError
from caretrace.hospital.histories.likelihood import log_likelihoods
from caretrace.hospital.histories.model import Floats, HistoryModel
from caretrace.hospital.histories.sampling import Drawn, iter_chunks

Z_95 = 1.959964


@dataclasses.dataclass(frozen=True)
class EntropyRate:
    """Estimates with standard errors.

    Args:
        nats_per_subject: E[-log p(history | age, sex)].
        subject_error: Its standard error, nats.
        nats_per_code: Nats per subject over expected codes per subject.
        code_error: Its standard error, nats.
        visits_per_subject: Expected visits (exact).
        codes_per_subject: Codes per subject in the sample.
        subjects: How many were drawn.
    """

    nats_per_subject: float
    subject_error: float
    nats_per_code: float
    code_error: float
    visits_per_subject: float
    codes_per_subject: float
    subjects: int

    @property
    def relative_halfwidth(self) -> float:
        """The wider of the two 95 % half-widths, relative to its estimate."""
        return Z_95 * max(self.subject_error / self.nats_per_subject, self.code_error / self.nats_per_code)


def entropy_rate(
    model: HistoryModel, seed: int, *, relative: float = 0.005, start: int = 5000, most: int = 320_000
) -> EntropyRate:
    """Estimate the entropy rate until both 95 % intervals are within `relative` of their estimates.

    Args:
        model: The population.
        seed: Of the sample.
        relative: Half-width wanted, relative to the estimate.
        start: Subjects drawn before the width is looked at; doubled until it fits.
        most: Never draw more.

    Raises:
        ConfigError: `most` subjects do not suffice.
    """
    wanted = start
    losses, codes, controls = [], [], []
    for drawn in iter_chunks(most, seed, model):
        losses.append(-log_likelihoods(drawn.histories, model))
        codes.append(_codes(drawn))
        controls.append(_controls(drawn, model))
        if sum(map(len, losses)) < wanted:
            continue
        found = _estimate(np.concatenate(losses), np.concatenate(codes), np.concatenate(controls), model)
        if found.relative_halfwidth <= relative:
            return found
        wanted *= 2
    raise ConfigError(f"relative: got {relative}; {most} subjects do not suffice, give more or a wider one")


def expected_visits(model: HistoryModel) -> float:
    """Exact mean number of visits of a subject."""
    return float(_phenotype_shares(model) @ model.visits @ np.arange(1, model.max_visits + 1))


def _estimate(loss: Floats, codes: Floats, controls: Floats, model: HistoryModel) -> EntropyRate:
    known = _control_means(model)
    used = controls.std(0) > 0
    centred = np.column_stack([np.ones(len(loss)), (controls - known)[:, used]])
    both = np.column_stack([loss, codes])
    coefficients = np.linalg.lstsq(centred, both, rcond=None)[0]
    mean_loss, mean_codes = (float(v) for v in coefficients[0])
    residual = both - centred @ coefficients
    free = np.sqrt(len(loss) - centred.shape[1])
    ratio = mean_loss / mean_codes
    return EntropyRate(
        nats_per_subject=mean_loss,
        subject_error=float(np.sqrt((residual[:, 0] ** 2).mean()) / free),
        nats_per_code=ratio,
        code_error=float(
            np.sqrt(((residual[:, 0] - ratio * residual[:, 1]) ** 2).mean()) / free / mean_codes
        ),
        visits_per_subject=expected_visits(model),
        codes_per_subject=mean_codes,
        subjects=len(loss),
    )


def _codes(drawn: Drawn) -> Floats:
    """`[subject]`: codes over all visits."""
    h = drawn.histories
    return np.bincount(h.visit_subject, h.code_count.astype(float), len(h)).astype(np.float64)


def _controls(drawn: Drawn, model: HistoryModel) -> Floats:
    """`[subject, control]`: phenotype (all but the first), and the number of visits by phenotype."""
    one = np.eye(len(model.phenotypes))[drawn.phenotype]
    return np.hstack([one[:, 1:], one * drawn.histories.visit_count[:, None]])


def _control_means(model: HistoryModel) -> Floats:
    """Exact means of `_controls`."""
    shares = _phenotype_shares(model)
    visits = model.visits @ np.arange(1, model.max_visits + 1)
    return np.concatenate([shares[1:], shares * visits])


def _phenotype_shares(model: HistoryModel) -> Floats:
    return np.einsum("as,ask->k", model.demographics, model.phenotype)
