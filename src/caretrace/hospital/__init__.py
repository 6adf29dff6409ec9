"""The virtual hospital: a seeded simulator that writes raw tables, and the truth beside them."""

from caretrace.hospital.config import Dynamics, HospitalConfig
from caretrace.hospital.simulation import simulate

__all__ = ["Dynamics", "HospitalConfig", "simulate"]
