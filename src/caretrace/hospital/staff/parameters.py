"""Coefficients that carry their unit and their source, and the table made of them.

A coefficient is a dataclass field built with `coefficient(value, unit, source)`. Everything the table, the
documentation and the sensitivity analysis need is then in one place: beside the number.
"""

from __future__ import annotations

import dataclasses
from typing import Any

ASSUMED = "assumed"


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One row of the table of parameters.

    Args:
        name: Field name, prefixed by its group, for example `flow.assess_minutes`.
        value: The default or the value in use.
        unit: Unit in words.
        source: Where the number comes from; begins with "assumed" where nobody published it.
        assumed: Whether nothing but our judgement (or calibration to a band) stands behind it.
    """

    name: str
    value: float
    unit: str
    source: str
    assumed: bool


def coefficient(value: float, unit: str, source: str = ASSUMED) -> Any:
    """A dataclass field for one number, with its unit and its source."""
    return dataclasses.field(default=value, metadata={"unit": unit, "source": source})


def parameter_table(group: str, coefficients: Any) -> list[Parameter]:
    """The coefficients of one dataclass as rows.

    Args:
        group: Prefix of the names.
        coefficients: An instance of a dataclass whose fields were made by `coefficient`.
    """
    return [
        Parameter(
            f"{group}.{field.name}",
            getattr(coefficients, field.name),
            field.metadata["unit"],
            field.metadata["source"],
            str(field.metadata["source"]).startswith(ASSUMED),
        )
        for field in dataclasses.fields(coefficients)
        if "source" in field.metadata
    ]
