"""What a method says of one record."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Attribution:
    """Credit of every measurement of one record.

    Args:
        credit: What of the logit each measurement is answerable for, float64 [measurement]; positive: it raises
            the risk. Exactly 0 where padded.
        static: The same of each static feature, float64 [feature]; zeros where the method does not say.
        score: Logit of the record.
        reference_score: Logit of the reference; None for a method that has none.
        reference: What the record is compared with, in words.
    """

    credit: np.ndarray
    static: np.ndarray
    score: float
    reference_score: float | None
    reference: str

    @property
    def completeness_error(self) -> float | None:
        """|sum of credits - (score - reference)| relative to the latter; None without a reference.

        Completeness: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", section 3.
        """
        if self.reference_score is None:
            return None
        change = self.score - self.reference_score
        gap = abs(float(self.credit.sum() + self.static.sum()) - change)
        return gap / max(abs(change), 1e-6)
