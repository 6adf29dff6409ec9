"""Diagnosis codes: their hierarchy, their vocabulary, and histories as tokens."""
