"""The virtual hospital: a seeded simulator that writes raw tables, and the truth beside them."""

from caretrace.hospital.config import RULES, Dynamics, Faults, HospitalConfig, Rule
from caretrace.hospital.simulation import simulate

__all__ = ["RULES", "Dynamics", "Faults", "HospitalConfig", "Rule", "simulate"]
