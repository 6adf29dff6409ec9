"""How the live ward behaves; every number in one place."""

from __future__ import annotations

import dataclasses
import math

from caretrace.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class LiveSettings:
    """Settings of the live ward; all assumed, none from a guideline.

    Args:
        tick_seconds: What arrives within this is scored together.
        late_seconds: How long after its end a step still takes samples.
        grace_seconds: When nothing of a subject arrives for so long, its last step is closed once its time is over.
        stale_seconds: Silence from which a subject's data count as stale; longer where steps are longer.
        gone_hours: Silence after which nobody expects a subject's data any more.
        future_seconds: A sample farther ahead of the ward's clock than this is refused: its monitor's clock is wrong.
        history_hours: Steps that are kept in memory, to be drawn.
        rebuild_hours: How far back the log is read where no snapshot can be used.
        commit_seconds: How long scores may wait to be stored where no alarm hurries them.
        snapshot_seconds: Time between two snapshots.
        retain_seconds: Time between two removals of what is too old.
        most_samples: Of one batch.
        most_waiting: Batches on their way to the disk, beyond which more are refused: few, so that nobody waits long.
        most_unscored: Batches waiting to be scored, beyond which more are refused.
        most_behind: The same for further workers, who go on while the leader is started again: the store holds them.
        replayed_events: Events that a reader who comes back can still get.
        stall_seconds: A reader of events who takes none for so long is cut off.
        beat_seconds: Longest time without an event.
    """

    tick_seconds: float = 0.1
    late_seconds: float = 0.0
    grace_seconds: float = 5.0
    stale_seconds: float = 10.0
    gone_hours: float = 6.0
    future_seconds: float = 300.0
    history_hours: float = 2.5
    rebuild_hours: float = 6.0
    commit_seconds: float = 1.0
    snapshot_seconds: float = 60.0
    retain_seconds: float = 600.0
    most_samples: int = 50_000
    most_waiting: int = 12
    most_unscored: int = 4096
    most_behind: int = 16_384
    replayed_events: int = 4096
    stall_seconds: float = 20.0
    beat_seconds: float = 5.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if math.isnan(value) or value < 0 or (value == 0 and field.name != "late_seconds"):
                raise ConfigError(f"{field.name}: got {value}; give a number above 0")
