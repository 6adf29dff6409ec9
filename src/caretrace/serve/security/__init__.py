"""Who asks, what they may do, and what is written down about it."""

from caretrace.serve.security.caller import (
    Caller,
    Who,
    caller,
    record,
    record_all,
    refuse,
    require,
    sees_subject,
)

__all__ = ["Caller", "Who", "caller", "record", "record_all", "refuse", "require", "sees_subject"]
