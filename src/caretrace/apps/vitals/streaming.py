"""A ward as it streams in: samples of many subjects → scores and what happens to their alarms.

Equal to what a stored recording gives: the scorer's `step` equals its batch, and an alarm machine depends on its
samples alone. Machines that are quiet, and whose score stays below the threshold, are not woken: nothing could happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from caretrace.apps.vitals.alarms import AlarmMachine, Transition
from caretrace.apps.vitals.config import PolicyConfig
from caretrace.apps.vitals.detector.scoring import Scorer
from caretrace.apps.vitals.policy import Thresholds, alarm_settings
from caretrace.errors import InputError

FloatArray = npt.NDArray[np.float32]


class Happening(NamedTuple):
    """What happened to an alarm of a subject.

    Args:
        subject: Whose.
        reason: What for.
        transition: What happened.
    """

    subject: int
    reason: str
    transition: Transition


class WardStream:
    """Subjects followed side by side, step by step.

    Args:
        scorer: A fitted detector.
        thresholds: When each reason is an alarm; only reasons with a threshold raise alarms.
        policy: Delay and hysteresis.
        subjects: Who they are, in the order of the samples.
    """

    def __init__(
        self, scorer: Scorer, thresholds: Thresholds, policy: PolicyConfig, subjects: Sequence[int]
    ) -> None:
        self.subjects = tuple(subjects)
        self._stream = scorer.stream(len(self.subjects))
        self._raise_at = dict(thresholds.raise_at)
        self._machines = {
            reason: [AlarmMachine(alarm_settings(reason, threshold, policy)) for _ in self.subjects]
            for reason, threshold in self._raise_at.items()
        }
        self._awake = {reason: np.zeros(len(self.subjects), bool) for reason in self._raise_at}

    def step(self, time: float, values: FloatArray) -> tuple[dict[str, FloatArray], list[Happening]]:
        """One more step of everybody.

        Args:
            time: When it is known, seconds; rising.
            values: [subject, channel], in the channels' units; NaN where nothing was measured.

        Returns:
            Reason → [subject] scores, and what happened to alarms.

        Raises:
            InputError: Another number of subjects.
        """
        if len(values) != len(self.subjects):
            raise InputError(
                f"stream: got {len(values)} rows for {len(self.subjects)} subjects; give one of each"
            )
        scores = self._stream.step(values)
        happened = []
        for reason, threshold in self._raise_at.items():
            awake = self._awake[reason]
            for place in np.flatnonzero(awake | (scores[reason] >= threshold)).tolist():
                machine = self._machines[reason][place]
                happened += [
                    Happening(self.subjects[place], reason, each)
                    for each in machine.advance([time], [float(scores[reason][place])])
                ]
                awake[place] = machine.state != "quiet"
        return scores, happened

    def acknowledge(self, subject: int, reason: str, time: float, by: str, why: str) -> list[Transition]:
        """Somebody has seen an alarm.

        Raises:
            InputError: No such subject or reason, or no active alarm.
        """
        if subject not in self.subjects or reason not in self._machines:
            raise InputError(f"stream: nobody watches subject {subject} for {reason!r}")
        return self._machines[reason][self.subjects.index(subject)].acknowledge(time, by, why)
