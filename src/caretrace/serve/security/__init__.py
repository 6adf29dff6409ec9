"""Who asks, what they may do, and what is written down about it."""

from caretrace.serve.security.caller import Caller, caller, require

__all__ = ["Caller", "caller", "require"]
