"""Every coefficient of the city with its unit and its source."""

from __future__ import annotations

from pathlib import Path

from caretrace.hospital.operations import parameters
from hospital_pages.drawing import Section, table


def make(_: Path) -> Section:
    """From `parameters()`, so the page cannot drift from the code."""
    rows = [
        [f"`{row.name}`", f"{row.value:,.6g}".replace("-", "−"), row.unit, row.source] for row in parameters()
    ]
    header = ("coefficient", "value", "unit", "source")
    found = table(header, rows).replace("| --- | --: | --: | --: |", "| --- | --: | --- | --- |")
    known = parameters()
    sourced = sum(not row.assumed for row in known)
    head = f"{len(known)} coefficients: {sourced} published, {len(known) - sourced} assumed.\n\n"
    return Section({}, {"parameters": head + found})
