"""What goes wrong between the bedside and the table; nothing unless a rate is above 0.

Rates are settings of the user, not estimates of any hospital's.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from caretrace.hospital.catalogue import VITALS
from caretrace.hospital.config import Faults
from caretrace.hospital.timeline import HOUR

# Which names, and what turns the right number into the wrong one: factor, then offset.
_UNITS = {
    "TEMP": (1.8, 32.0),  # degrees Fahrenheit
    "Glucose": (1 / 18.016, 0.0),  # mmol/L
    "Creatinine": (88.42, 0.0),  # umol/L
}

README = """
## Faults

`faults.parquet`, one row per row of `vitals`, `labs` or `prescriptions` that was spoiled: `table`, its `key` (the stay
of a vital sign, else the admission), `time` (for labs that of the wrong result), `name`, which `fault`, and the
`right` number or text. The events of planted rules are never spoiled.
"""


def spoil(
    tables: dict[str, pl.DataFrame], faults: Faults, rng: np.random.Generator
) -> dict[str, pl.DataFrame]:
    """Spoil some rows of vitals, labs and prescriptions, and list them in the truth.

    Args:
        tables: Raw tables by name, times in seconds since 1970.
        faults: How often.
        rng: Source of chance; each kind of fault draws from its own, so their rates do not interact.

    Returns:
        The tables, with `truth/faults` beside them.
    """
    artefact, unit, correction, spelling = rng.spawn(4)
    vitals, labs, drugs = tables["vitals"], tables["labs"], tables["prescriptions"]
    vitals, lines = _artefacts(vitals, faults.artefact, artefact)
    listed = [lines]
    vitals, lines = _units(vitals, "vitals", faults.wrong_unit, unit)
    listed.append(lines)
    labs, lines = _units(labs, "labs", faults.wrong_unit, unit)
    listed.append(lines)
    labs, lines = _corrections(labs, faults.correction, correction)
    listed.append(lines)
    drugs, lines = _misspellings(drugs, faults.misspelling, spelling)
    listed.append(lines)
    truth = pl.concat(listed).sort("key", "time", "name", "fault")
    return tables | {"vitals": vitals, "labs": labs, "prescriptions": drugs, "truth/faults": truth}


def _listed(rows: pl.DataFrame, table: str, fault: str, right: str) -> pl.DataFrame:
    """Spoiled rows as the truth lists them; `rows` are as they were before."""
    key, time, name = {
        "vitals": ("stay_id", "time", "name"),
        "labs": ("admission_id", "result_time", "name"),
        "prescriptions": ("admission_id", "start_time", "drug"),
    }[table]
    return rows.select(
        "subject_id",
        table=pl.lit(table),
        key=pl.col(key),
        time=(pl.col(time) * 1_000_000).cast(pl.Datetime("us")),
        name=pl.col(name),
        fault=pl.lit(fault),
        right=pl.col(right).cast(pl.String),
    )


def _artefacts(
    vitals: pl.DataFrame, rate: float, rng: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A lead that is off reads 0, a line that is flushed the most a monitor shows; scores have neither."""
    top = {v.name: float(v.high) for v in VITALS if v.name not in {"GCS", "TEMP"}}
    u = rng.random((vitals.height, 2))
    hit = pl.Series(u[:, 0] < rate) & vitals["name"].is_in(list(top))
    most = vitals["name"].replace_strict(top, default=None, return_dtype=pl.Float64)
    wrong = pl.select(pl.when(pl.Series(u[:, 1] < 0.5)).then(0.0).otherwise(most)).to_series()
    spoiled = vitals.with_columns(value=pl.when(hit).then(wrong).otherwise(pl.col("value")))
    return spoiled, _listed(vitals.filter(hit), "vitals", "artefact", "value")


def _units(
    table: pl.DataFrame, name: str, rate: float, rng: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The number of one unit beside the name of another."""
    hit = pl.Series(rng.random(table.height) < rate) & table["name"].is_in(list(_UNITS))
    factor, offset = (
        table["name"].replace_strict(
            {k: v[i] for k, v in _UNITS.items()}, default=None, return_dtype=pl.Float64
        )
        for i in (0, 1)
    )
    wrong = (table["value"] * factor + offset).round(1)
    spoiled = table.with_columns(value=pl.when(hit).then(wrong).otherwise(pl.col("value")))
    return spoiled, _listed(table.filter(hit), name, "wrong_unit", "value")


def _corrections(
    labs: pl.DataFrame, rate: float, rng: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A slip of the decimal point, and the right result of the same sample two to twelve hours later."""
    hit = pl.Series(rng.random(labs.height) < rate)
    slip = pl.Series(np.where(rng.random(labs.height) < 0.5, 10.0, 0.1))
    delay = pl.Series(rng.integers(2 * HOUR // 60, 12 * HOUR // 60, labs.height) * 60)
    first = labs.with_columns(
        value=pl.when(hit).then((pl.col("value") * slip).round(2)).otherwise(pl.col("value"))
    )
    second = labs.with_columns(result_time=pl.col("result_time") + delay).filter(hit)
    spoiled = pl.concat([first, second]).sort("admission_id", "collect_time", maintain_order=True)
    return spoiled, _listed(labs.filter(hit), "labs", "correction", "value")


def _misspellings(
    drugs: pl.DataFrame, rate: float, rng: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The second and third, or third and fourth letter of a name swapped, and so on up to the sixth."""
    hit = rng.random(drugs.height) < rate
    place = rng.integers(1, 5, drugs.height)
    names = drugs["drug"].to_list()
    for i in np.flatnonzero(hit):
        text, at = names[i], int(place[i])
        names[i] = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    spoiled = drugs.with_columns(drug=pl.Series(names, dtype=pl.String))
    return spoiled, _listed(drugs.filter(pl.Series(hit)), "prescriptions", "misspelling", "drug")
