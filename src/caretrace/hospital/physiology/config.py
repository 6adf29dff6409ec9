"""Settings of the monitored ward and the names of its channels."""

from __future__ import annotations

import dataclasses

from caretrace.errors import ConfigError, unknown_name

CHANNELS = ("hr", "spo2", "resp", "sbp", "dbp", "map", "temp")
HR, SPO2, RESP, SBP, DBP, MAP, TEMP = range(len(CHANNELS))
UNITS = ("bpm", "%", "breaths/min", "mmHg", "mmHg", "mmHg", "°C")
KINDS = ("sepsis", "hypoxia", "bleeding", "arrhythmia", "respiratory failure")
DAY = 86_400  # seconds


@dataclasses.dataclass(frozen=True)
class PhysiologyConfig:
    """What the monitors record.

    Args:
        subjects: How many people, each with one monitor.
        hours: Length of each recording.
        step_seconds: Time between two rows: 1 (1 Hz) to 3600 (hourly). Rows are *samples* of one process in
            continuous time, not averages, so every step has the same mean, variance and autocorrelation.
        share_deteriorating: Share of people who deteriorate, sooner or later; the others never do.
        kinds: Which deteriorations occur, equally often.
        first_onset_hours: The first deterioration begins between hour 1 and this hour; the next ones follow
            6 h or more after the end of the last. A recording that is shorter misses some of them.
        artefacts_per_hour: Mean number per person, of all kinds together.
        disturbances_per_hour: Mean number of harmless exertions and short desaturations per person.
        seed: The same seed writes the same bytes; other seeds give other people.
        keep_clean: Whether `truth/` also holds the signal before artefacts and rounding (as large as the
            recording itself).
    """

    subjects: int = 100
    hours: float = 24.0
    step_seconds: int = 1
    share_deteriorating: float = 0.3
    kinds: tuple[str, ...] = KINDS
    first_onset_hours: float = 20.0
    artefacts_per_hour: float = 1.0
    disturbances_per_hour: float = 0.5
    seed: int = 0
    keep_clean: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.subjects <= 1_000_000:
            raise ConfigError(f"subjects: got {self.subjects}; give a number from 1 to 1000000")
        if not 1 <= self.step_seconds <= 3600:
            raise ConfigError(f"step_seconds: got {self.step_seconds}; give 1 (1 Hz) to 3600 (hourly)")
        if not self.step_seconds / 3600 <= self.hours <= 24 * 3660:
            raise ConfigError(f"hours: got {self.hours}; give from one step to 87840 (ten years)")
        if not 0 <= self.share_deteriorating <= 1:
            raise ConfigError(
                f"share_deteriorating: got {self.share_deteriorating}; give a share from 0 to 1"
            )
        if not self.kinds:
            raise ConfigError(f"kinds: got none; name at least one of {', '.join(KINDS)}")
        for kind in self.kinds:
            if kind not in KINDS:
                raise ConfigError(unknown_name("kind of deterioration", kind, list(KINDS)))
        if not 1 < self.first_onset_hours <= 24 * 365:
            raise ConfigError(f"first_onset_hours: got {self.first_onset_hours}; give more than 1, to 8760")
        for name in ("artefacts_per_hour", "disturbances_per_hour"):
            if not 0 <= getattr(self, name) <= 60:
                raise ConfigError(f"{name}: got {getattr(self, name)}; give a rate from 0 to 60")
        if self.seed < 0:
            raise ConfigError(f"seed: got {self.seed}; give 0 or a positive whole number")

    @property
    def seconds(self) -> int:
        """Length of a recording, seconds."""
        return round(self.hours * 3600)

    @property
    def samples(self) -> int:
        """Rows of a recording without gaps; the first is at second 0."""
        return -(-self.seconds // self.step_seconds)
