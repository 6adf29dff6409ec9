"""What each role may do. The matrix is tested route by route."""

from __future__ import annotations

from typing import Final

VIEWER, CLINICIAN, ADMIN = "viewer", "clinician", "admin"
ROLES: Final = (VIEWER, CLINICIAN, ADMIN)

# Action → who may.
READ, SUBJECTS, PREDICT, EXPLAIN = "read", "subjects", "predict", "explain"
VITALS, ACKNOWLEDGE, SNOOZE, PLACE = "vitals", "acknowledge", "snooze", "place"
GENERATE, AUDIT = "generate", "audit"
MATRIX: Final[dict[str, frozenset[str]]] = {
    READ: frozenset(ROLES),
    SUBJECTS: frozenset({CLINICIAN, ADMIN}),
    PREDICT: frozenset({CLINICIAN, ADMIN}),
    EXPLAIN: frozenset({CLINICIAN, ADMIN}),
    VITALS: frozenset({CLINICIAN, ADMIN}),
    ACKNOWLEDGE: frozenset({CLINICIAN, ADMIN}),
    SNOOZE: frozenset({CLINICIAN, ADMIN}),
    PLACE: frozenset({CLINICIAN, ADMIN}),
    GENERATE: frozenset({CLINICIAN, ADMIN}),
    AUDIT: frozenset({ADMIN}),
}
