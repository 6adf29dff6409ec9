"""A trained monitor as the live ward needs it: which channels, which step, which scores raise which alarm."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from caretrace.apps.vitals.alarms import AlarmSettings
from caretrace.apps.vitals.config import MONITOR
from caretrace.apps.vitals.policy import alarm_settings
from caretrace.errors import BundleError
from caretrace.serve.live.samples import CHANNELS, NUMBER

if TYPE_CHECKING:
    from caretrace.apps.vitals.detector.scoring import Scorer
    from caretrace.apps.vitals.model import Monitor

_STREAMED = ("evidence", "likelihood")


@dataclasses.dataclass(frozen=True)
class LiveModel:
    """What the live ward watches with.

    Args:
        bundle: Which bundle it is: its name and the beginning of its checksum.
        scorer: The detector; None where no vitals run is served, then only sensors are watched.
        channels: Places in `samples.CHANNELS`, in the order of the detector.
        step_seconds: Length of a step.
        max_gap_seconds: A recording ends where nothing is measured for longer.
        known_after: Seconds from the beginning of a step until its last measurement is there.
        alarms: Reason → when its score is an alarm.
    """

    bundle: str
    scorer: Scorer | None
    channels: tuple[int, ...]
    step_seconds: float
    max_gap_seconds: float
    known_after: float
    alarms: dict[str, AlarmSettings]

    @property
    def names(self) -> tuple[str, ...]:
        """Channels by name."""
        return tuple(CHANNELS[number] for number in self.channels)

    def policy(self, reason: str) -> str:
        """Settings of an alarm as JSON."""
        return json.dumps(dataclasses.asdict(self.alarms[reason]))


def without_model() -> LiveModel:
    """Nothing is scored: samples are kept, sensors are watched."""
    return LiveModel(
        bundle="none",
        scorer=None,
        channels=tuple(range(len(CHANNELS))),
        step_seconds=MONITOR.step_seconds,
        max_gap_seconds=MONITOR.max_gap_seconds,
        known_after=MONITOR.step_seconds,
        alarms={},
    )


def live_model(name: str, folder: Path) -> LiveModel:
    """Load a bundle of the vitals application.

    Args:
        name: What the bundle is called.
        folder: Where it lies.

    Raises:
        BundleError: It is damaged, or its design cannot be followed sample by sample.
    """
    from caretrace.apps.vitals.model import load_monitor
    from caretrace.training.bundle import MANIFEST

    monitor = load_monitor(folder)
    checksum = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()[:16]
    return of_monitor(f"{name}@{checksum}", monitor)


def of_monitor(bundle: str, monitor: Monitor) -> LiveModel:
    """The live side of a monitor.

    Raises:
        BundleError: Its design cannot be followed sample by sample.
    """
    # The document's design looks at whole windows; beside it every run has the recommended one.
    design = monitor.design if monitor.design in _STREAMED else _STREAMED[0]
    if design not in monitor.thresholds:
        raise BundleError(
            f"bundle {bundle}: its design {monitor.design!r} cannot be followed live; train with design=auto"
        )
    like, thresholds = monitor.like, monitor.thresholds[design]
    return LiveModel(
        bundle=bundle,
        scorer=monitor.scorer,
        channels=tuple(NUMBER[name] for name in like.channels),
        step_seconds=like.settings.step_seconds,
        max_gap_seconds=like.settings.max_gap_seconds,
        known_after=like.known_after,
        alarms={
            reason: alarm_settings(reason, threshold, monitor.config.policy)
            for reason, threshold in thresholds.raise_at.items()
        },
    )
