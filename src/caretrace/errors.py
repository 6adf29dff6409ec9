"""The exceptions a user can meet.

Each message says what was got, what is allowed and what to do next. The command line prints the
message and nothing else, and leaves with `exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CaretraceError(Exception):
    """Something the user can mend; the message says how."""

    exit_code = 1


class InputError(CaretraceError):
    """A raw file, table, row or value that cannot be used."""


class OutputExistsError(CaretraceError):
    """An output path that is already taken; nothing was written."""


class ResourceError(CaretraceError):
    """A disk that is full or may not be written, or too little memory; nothing was left behind."""


class ConfigError(CaretraceError):
    """An unknown key, an unknown name or a value of the wrong kind."""


class DatasetError(CaretraceError):
    """A MEDS dataset that is missing, incomplete or contradicts itself."""


class CohortError(CaretraceError):
    """A task file that cannot be read or a cohort that cannot be used."""


class BundleError(CaretraceError):
    """A run, bundle or checkpoint that is damaged or belongs to another version."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """Message for a name that is not in a table, with the nearest valid one.

    Args:
        kind: What was named, for example "backbone".
        name: What the user wrote.
        valid: Every name that would have been accepted.

    Returns:
        One sentence for the user.
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {name!r}: {hint}valid names are {', '.join(names) or '(none)'}"
