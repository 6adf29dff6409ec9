"""How close to breaking: NEDOCS by its formula, and crisis levels by thresholds on the true state."""

from __future__ import annotations

import bisect

# National Emergency Department Overcrowding Scale: bands not busy / busy / extremely busy but not overcrowded /
# overcrowded / severely overcrowded / dangerously overcrowded.
NEDOCS_BANDS = (20, 60, 100, 140, 180)

# A level holds as soon as one of its thresholds is passed by the mean of the last three hourly observations: a
# crisis is what lasts, not one bad moment. All thresholds are assumed. They are set on what happens to patients and
# crews, in true values, which no table of a hospital holds: waits beyond the Manchester limits are counted from every
# patient's own clock. Levels: 0 normal, 1 busy, 2 strained, 3 critical, 4 breakdown.
SUSTAINED_HOURS = 3
LEVELS = ("normal", "busy", "strained", "critical", "breakdown")
OVERDUE_PER_PLACE = (0.05, 0.15, 0.30, 0.50)  # patients beyond their longest wait, per treatment place
BOARDERS_PER_PLACE = (0.15, 0.25, 0.35, 0.50)  # admitted patients without a bed, per treatment place
HELD_PER_PLACE = (0.03, 0.06, 0.10, 0.15)  # crews at the door for over 15 min, per treatment place
FREE_CREWS = (0.35, 0.25, 0.15, 0.05)  # share of the city's crews that are free; a level below each
HELD_MINUTES = 15.0


def nedocs(
    patients: float,
    ed_beds: float,
    boarders: float,
    hospital_beds: float,
    ventilated: float,
    longest_boarding_hours: float,
    last_wait_hours: float,
) -> float:
    """NEDOCS by its published formula; below 20 not busy, above 180 dangerously overcrowded."""
    return (
        -20
        + 85.8 * patients / ed_beds
        + 600 * boarders / hospital_beds
        + 13.4 * ventilated
        + 0.93 * longest_boarding_hours
        + 5.64 * last_wait_hours
    )


def crisis_level(overdue: float, boarders: float, held: float, free_crews: float) -> int:
    """Crisis level 0-4 of one hospital and the ambulances that serve it.

    Each argument is a mean over `SUSTAINED_HOURS`.

    Args:
        overdue: Patients beyond their longest wait, per treatment place.
        boarders: Admitted patients without a bed, per treatment place.
        held: Crews at the door for more than `HELD_MINUTES`, per treatment place.
        free_crews: Share of the city's crews that are free.
    """
    return max(
        bisect.bisect_right(OVERDUE_PER_PLACE, overdue),
        bisect.bisect_right(BOARDERS_PER_PLACE, boarders),
        bisect.bisect_right(HELD_PER_PLACE, held),
        sum(free_crews < limit for limit in FREE_CREWS),
    )
