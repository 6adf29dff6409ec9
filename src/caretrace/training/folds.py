"""Cross-fitting: each member of an ensemble leaves out another part of the subjects.

A part stops the training of its member and picks the best epoch, as a tuning split does; but every subject is learned
from by all members but one, and every subject has a prediction by a member that has never seen them.
"""

import dataclasses
from typing import Self

import numpy as np
from jaxtyping import Float, Int

from caretrace.data.samples import Samples


@dataclasses.dataclass(frozen=True)
class Folds:
    """Samples of all subjects that may be learned from, and the member that leaves each out.

    Args:
        samples: Of training and tuning subjects.
        left_out_by: Number of a member per sample; the same for all samples of a subject.
    """

    samples: Samples
    left_out_by: Int[np.ndarray, "sample"]

    @classmethod
    def draw(
        cls, samples: Samples, subject_ids: Int[np.ndarray, "sample"], *, members: int, seed: int
    ) -> Self:
        """Deal subjects to members at random, those with an outcome first, so that each part has its share.

        Args:
            samples: Of training and tuning subjects.
            subject_ids: Whose each sample is.
            members: Number of parts.
            seed: The same seed gives the same parts.
        """
        subjects, who = np.unique(subject_ids, return_inverse=True)
        positive = np.zeros(len(subjects), dtype=bool)
        np.logical_or.at(positive, who, samples.outcomes > 0.5)
        order = np.random.default_rng(seed).permutation(len(subjects))
        order = order[np.argsort(~positive[order], kind="stable")]
        part = np.empty(len(subjects), dtype=np.int64)
        part[order] = np.arange(len(subjects)) % members
        return cls(samples, part[who])

    def of(self, member: int) -> tuple[Samples, Samples]:
        """What a member learns from, and what it leaves out."""
        out = self.left_out_by == member
        return self.samples.take(np.flatnonzero(~out)), self.samples.take(np.flatnonzero(out))

    def unseen(self, logits: Float[np.ndarray, "member sample"]) -> Float[np.ndarray, "sample"]:
        """The logit of each sample by the member that left it out."""
        return logits[self.left_out_by, np.arange(len(self.left_out_by))]
