"""Which measurements make a history."""

from __future__ import annotations

import dataclasses

from caretrace.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class HistoryConfig:
    """What becomes a code of a history.

    Args:
        prefix: Codes that begin with this are kept, without it.
        min_subjects: A code that fewer subjects have becomes `<unk>`; 1 keeps all.
        max_visits: Later visits are left out; 0 keeps all.
    """

    prefix: str = "DIAGNOSIS//ICD//9//"
    min_subjects: int = 1
    max_visits: int = 0

    def __post_init__(self) -> None:
        if not self.prefix:
            raise ConfigError(
                "prefix: got nothing; give the start of the codes, for example DIAGNOSIS//ICD//9//"
            )
        if self.min_subjects < 1 or self.max_visits < 0:
            raise ConfigError(
                f"min_subjects {self.min_subjects} must be at least 1 and max_visits {self.max_visits} not negative"
            )
