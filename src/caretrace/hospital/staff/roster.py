"""Duty rosters: who is planned for which shift, and what each kind of duty means for sleep."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.staff.config import Staff

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

OFF, EARLY, LATE, NIGHT = -1, 0, 1, 2
SHIFTS = ("early", "late", "night")
NURSE, PHYSICIAN, PARAMEDIC = 0, 1, 2
GROUPS = ("nurse", "physician", "paramedic")
# Forward-rotating patterns; assumed. Two days early, two late, two nights, four off; five days a week without
# nights; and for ambulances duties of 12 h.
_ROTATING = (EARLY, EARLY, LATE, LATE, NIGHT, NIGHT, OFF, OFF, OFF, OFF)
_DAYS = (EARLY,) * 5 + (OFF,) * 2 + (LATE,) * 5 + (OFF,) * 2
_LONG_ROTATING = (EARLY, EARLY, NIGHT, NIGHT, OFF, OFF, OFF, OFF)
_LONG_DAYS = (EARLY,) * 4 + (OFF,) * 3
_PATTERNS = (_ROTATING, _DAYS, _LONG_ROTATING, _LONG_DAYS)

# Clock hours at which duties begin and end (after midnight counted on): [12 h or not][shift].
STARTS = np.array([[6.0, 14.0, 22.0], [7.0, 7.0, 19.0]])
ENDS = np.array([[14.0, 22.0, 30.0], [19.0, 19.0, 31.0]])


@dataclasses.dataclass(frozen=True)
class Posts:
    """Every post of the roster; axis `[post]`.

    Args:
        unit: Where it belongs: place in the caller's list of units.
        group: NURSE, PHYSICIAN or PARAMEDIC.
        pattern: Place in the table of patterns.
        offset: Day of the pattern on day 0.
    """

    unit: Ints
    group: Ints
    pattern: Ints
    offset: Ints

    def __len__(self) -> int:
        return len(self.unit)

    def followed_by(self, other: Posts) -> Posts:
        """These posts and then others."""
        return Posts(
            *(
                np.concatenate([getattr(self, f.name), getattr(other, f.name)])
                for f in dataclasses.fields(self)
            )
        )

    def planned(self, day: int) -> Ints:
        """The shift each post is planned for on a day, OFF if none."""
        out = np.empty(len(self), np.int64)
        for number, pattern in enumerate(_PATTERNS):
            mine = self.pattern == number
            out[mine] = np.array(pattern)[(day + self.offset[mine]) % len(pattern)]
        return out


def plan_posts(required: Ints, groups: Ints) -> Posts:
    """As many posts as the rosters need to cover what is required.

    Args:
        required: People wanted, `[unit, shift]`; ambulances have early (12 h by day) and night only.
        groups: Group of each unit, `[unit]`.
    """
    units, patterns, offsets = [], [], []
    for unit, (early, late, night) in enumerate(required.tolist()):
        if groups[unit] == PARAMEDIC:
            counts = [(2, 4 * night), (3, math.ceil(1.75 * max(early - night, 0)))]
        else:
            spare = max(early - night, 0) + max(late - night, 0)
            counts = [(0, 5 * night), (1, math.ceil(1.4 * spare))]
        for pattern, heads in counts:
            length = len(_PATTERNS[pattern])
            # Rotating posts step by two days, so that each shift is covered evenly every day.
            step = [2 * i if pattern in {0, 2} else i * length // max(heads, 1) for i in range(heads)]
            units += [unit] * heads
            patterns += [pattern] * heads
            offsets += [s % length for s in step]
    unit_of = np.array(units, np.int64)
    return Posts(unit_of, groups[unit_of], np.array(patterns, np.int64), np.array(offsets, np.int64))


def sleep_before(
    shift: Ints, after_night: NDArray[np.bool_], twelve: NDArray[np.bool_], c: Staff
) -> tuple[Floats, Floats]:
    """Hours slept on average before a day's duty and the clock hour of waking, each `[person]`.

    Waking hours are assumed: 7.5 on a free day, 1 h (12 h duties: 1.5 h) before an early duty starts, 8 before
    a late one, 10 before a first night, 14 between nights and 13.5 on the free day that follows.
    """
    free, early, late, night = (shift == code for code in (OFF, EARLY, LATE, NIGHT))
    kinds = [free & after_night, free, early & twelve, early, late, night & after_night, night]
    hours = [
        c.sleep_night,
        c.sleep_off,
        c.sleep_long,
        c.sleep_early,
        c.sleep_late,
        c.sleep_night,
        c.sleep_late,
    ]
    wake = [13.5, 7.5, 5.5, 5.0, 8.0, 14.0, 10.0]
    return np.select(kinds, hours), np.select(kinds, wake)
