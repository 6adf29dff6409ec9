"""Vital signs: anomalies, risk and alarms on windows that belong to one patient. Research use only."""
