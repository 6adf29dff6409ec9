"""The virtual hospital: a seeded simulator that writes raw tables, and the truth beside them."""

from caretrace.hospital.config import PARTS, RULES, Dynamics, Faults, HospitalConfig, Monitors, Part, Rule
from caretrace.hospital.parts import simulate_parts
from caretrace.hospital.simulation import simulate

__all__ = [
    "PARTS",
    "RULES",
    "Dynamics",
    "Faults",
    "HospitalConfig",
    "Monitors",
    "Part",
    "Rule",
    "simulate",
    "simulate_parts",
]
