"""One person who needs emergency care: what chance has in store, and when what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NAN = float("nan")
# Settled when the person appears; the order is that of the rows `demand` makes.
SETTLED = (
    "number", "ambulance", "transported", "zone", "subject_id", "age", "male", "complaint", "triage", "severity",
    "admitted", "intensive", "ventilated", "began", "candidates", "detours",
)  # fmt: skip
# Durations; drawn beforehand as well, but a branch of the future draws them anew.
DURATIONS = (
    "call_minutes", "turnout_minutes", "drive_minutes", "scene_minutes", "transport_minutes", "handoff_minutes",
    "clear_minutes", "triage_minutes", "assess_minutes", "work_up_minutes", "transfer_minutes",
    "patience_minutes", "intensive_days", "ward_days", "discharge_hour", "stays_weekend",
)  # fmt: skip
# Moments in minutes since the simulation began; NaN until they happen, or if they never do.
MOMENTS = (
    "dispatched", "on_scene", "left_scene", "arrived", "triaged", "placed", "handed_over", "cleared",
    "seen", "decided", "bedded", "departed", "discharged",
)  # fmt: skip


class Case:
    """A call or a walk-in, with the visit that follows.

    `began` is the moment of the call or of walking in. `site` is the hospital, -1 for none. `shift` are the
    conditions (see `site.Site.shift`) when a physician first saw the patient, `crew_kss` and `free_share` those
    of the ambulances at dispatch, `outage` whether IT was down.
    """

    __slots__ = (*SETTLED, *DURATIONS, *MOMENTS, "crew_kss", "free_share", "outage", "shift", "site")

    def __init__(self, settled: Sequence[Any], durations: Sequence[float]) -> None:
        (
            self.number, self.ambulance, self.transported, self.zone, self.subject_id, self.age, self.male,
            self.complaint, self.triage, self.severity, self.admitted, self.intensive, self.ventilated,
            self.began, self.candidates, self.detours,
        ) = settled  # fmt: skip
        self.set_durations(durations)
        self.dispatched = self.on_scene = self.left_scene = self.arrived = self.triaged = NAN
        self.placed = self.handed_over = self.cleared = self.seen = self.decided = NAN
        self.bedded = self.departed = self.discharged = NAN
        self.site = -1
        self.shift: tuple[float, ...] = ()
        self.crew_kss = self.free_share = NAN
        self.outage = False

    def set_durations(self, durations: Sequence[float]) -> None:
        """Set every duration, in the order of `DURATIONS`."""
        (
            self.call_minutes, self.turnout_minutes, self.drive_minutes, self.scene_minutes,
            self.transport_minutes, self.handoff_minutes, self.clear_minutes, self.triage_minutes,
            self.assess_minutes, self.work_up_minutes, self.transfer_minutes, self.patience_minutes,
            self.intensive_days, self.ward_days, self.discharge_hour, self.stays_weekend,
        ) = durations  # fmt: skip

    def copy(self) -> Case:
        """The same case, for another future."""
        other = Case.__new__(Case)
        for name in Case.__slots__:
            setattr(other, name, getattr(self, name))
        return other
