"""A city's ambulances and emergency departments, hour by hour, with the truth behind them."""

from caretrace.hospital.operations.bands import Band, check
from caretrace.hospital.operations.config import Interventions, OperationsConfig, parameters
from caretrace.hospital.operations.oracle import crisis_oracle
from caretrace.hospital.operations.sensitivity import Effect, sensitivity
from caretrace.hospital.operations.simulation import simulate_operations, write_operations

__all__ = [
    "Band",
    "Effect",
    "Interventions",
    "OperationsConfig",
    "check",
    "crisis_oracle",
    "parameters",
    "sensitivity",
    "simulate_operations",
    "write_operations",
]
