"""Caretrace: learn from clinical time. Research software, never a bedside device."""

from importlib.metadata import version

__version__ = version("caretrace")
