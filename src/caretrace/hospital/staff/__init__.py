"""The staff of the virtual hospital: rosters, sleep, fatigue, burnout, leaving, and what they do to care."""

from caretrace.hospital.staff.config import Staff
from caretrace.hospital.staff.workforce import Workforce, hire

__all__ = ["Staff", "Workforce", "hire"]
