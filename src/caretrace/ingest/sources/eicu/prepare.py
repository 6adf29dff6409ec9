"""A calendar for eICU, which has no dates: when each unit stay begins; and which diagnoses are repeated.

Known: minutes between the events of a unit stay, the minute of its hospital admission, the clock time
of that admission, the year of the hospital discharge, the age, and who died. Convention: everything
else, see README.md. DuckDB does the work, so 200,000 stays and millions of diagnoses need no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb

from caretrace.errors import InputError
from caretrace.ingest.reading import find_file, read_header

# Days between two hospital stays of one person. In the demo, events lie up to 8 days before the hospital
# admission and 1 day after the discharge; with 14 days they cannot reach into the other stay.
_GAP = 14

_PATIENT = (
    "patientunitstayid", "patienthealthsystemstayid", "uniquepid", "age", "hospitaldischargeyear",
    "hospitaladmittime24", "hospitaladmitoffset", "hospitaldischargeoffset", "hospitaldischargestatus",
    "unitdischargeoffset", "unitdischargestatus",
)  # fmt: skip
_DIAGNOSIS = ("diagnosisid", "patientunitstayid", "diagnosisoffset", "diagnosisstring", "icd9code")

# Unit stays whose place can be computed; the others are quarantined when `patient` itself is read.
_UNITS = """
CREATE TEMP TABLE units AS SELECT
    try_cast(patientunitstayid AS BIGINT) AS unit, patienthealthsystemstayid AS hospital, uniquepid AS person,
    try_cast(hospitaldischargeyear AS INTEGER) AS year,
    CASE WHEN age LIKE '%>%' THEN 90 ELSE try_cast(age AS INTEGER) END AS age,
    coalesce(try_cast(regexp_extract(hospitaladmittime24, '^([0-9]{1,2}):([0-9]{2})', 1) AS INTEGER) * 60
        + try_cast(regexp_extract(hospitaladmittime24, '^([0-9]{1,2}):([0-9]{2})', 2) AS INTEGER), 0) AS minute,
    -try_cast(hospitaladmitoffset AS BIGINT) AS since,
    greatest(try_cast(hospitaldischargeoffset AS BIGINT), try_cast(unitdischargeoffset AS BIGINT)) AS lasts,
    lower(coalesce(hospitaldischargestatus, '') || coalesce(unitdischargestatus, '')) LIKE '%expired%' AS died
FROM raw WHERE unit IS NOT NULL AND hospital IS NOT NULL AND person IS NOT NULL
    AND year BETWEEN 1900 AND 2200 AND since IS NOT NULL AND lasts IS NOT NULL
"""

# One row per hospital stay; who died comes last, then by year and age, and where those say nothing by number.
_STAYS = f"""
CREATE TEMP TABLE stays AS SELECT person, hospital, min(year) AS year, min(age) AS age, min(minute) AS minute,
    bool_or(died) AS died,
    CAST(ceil(greatest(0, -min(since)) / 1440) AS BIGINT) AS days_before,
    CAST(ceil((min(minute) + greatest(0, max(since + lasts))) / 1440) AS BIGINT) + {_GAP} AS days
FROM units GROUP BY person, hospital
"""
_ORDERED = """
CREATE TEMP TABLE ordered AS SELECT *,
    row_number() OVER chronological AS position,
    count(*) OVER (PARTITION BY person, year, age, died) > 1 AS tied,
    coalesce(bool_or(died) OVER (chronological ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), false) AS dead,
    coalesce(sum(days) OVER (chronological ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
        + sum(days_before) OVER (chronological ROWS UNBOUNDED PRECEDING) AS needed,
    datediff('day', DATE '1900-01-01', make_date(year, 1, 1)) AS wanted
FROM stays WINDOW chronological AS (PARTITION BY person ORDER BY died, year, age NULLS LAST,
    try_cast(hospital AS BIGINT), hospital)
"""
# The first day that is neither before 1 January of the year nor before the stay in front is over.
_CALENDAR = """
COPY (WITH placed AS (SELECT *, DATE '1900-01-01' + CAST(needed + max(wanted - needed) OVER (
        PARTITION BY person ORDER BY position ROWS UNBOUNDED PRECEDING) AS INTEGER) AS day FROM ordered)
    SELECT unit AS patientunitstayid,
        strftime(day + to_minutes(placed.minute) + to_minutes(since), '%Y-%m-%d %H:%M:%S') AS unit_admission,
        CAST(row_number() OVER (PARTITION BY units.person, units.hospital ORDER BY since, unit) = 1 AS INTEGER)
            AS first_unit,
        CAST(row_number() OVER (PARTITION BY units.person, units.hospital ORDER BY since DESC, unit DESC) = 1
            AS INTEGER) AS last_unit,
        CAST(tied AS INTEGER) AS tied, CAST(year(day) <> placed.year AS INTEGER) AS moved,
        CAST(dead AS INTEGER) AS dead
    FROM units JOIN placed ON units.person = placed.person AND units.hospital = placed.hospital
    QUALIFY row_number() OVER (PARTITION BY unit ORDER BY since) = 1 ORDER BY unit)
TO $target (FORMAT parquet)
"""
_REPEATS = """
COPY (SELECT diagnosisid FROM raw
    QUALIFY row_number() OVER (PARTITION BY patientunitstayid, diagnosisstring, icd9code
        ORDER BY try_cast(diagnosisoffset AS BIGINT), try_cast(diagnosisid AS BIGINT)) > 1
    ORDER BY try_cast(diagnosisid AS BIGINT))
TO $target (FORMAT parquet)
"""


def prepare(raw: Path, work: Path, options: Mapping[str, str]) -> tuple[Path, list[str]]:
    """Write `calendar.parquet` and, where there are diagnoses, `repeated_diagnoses.parquet`.

    The raw files stay the tables that are ingested, so that each of their rows is still accounted for.

    Args:
        raw: Folder with the tables as published.
        work: Folder to write to; made when needed.
        options: None are known.

    Returns:
        `work`, and no files: the pipeline reads `patient` and `diagnosis` itself.

    Raises:
        InputError: A file that cannot be read.
    """
    del options
    patient, diagnosis = find_file(raw, "patient"), find_file(raw, "diagnosis")
    if patient is None:
        return raw, []  # not such a folder: the pipeline says what is missing
    work.mkdir(parents=True)
    settings = {"memory_limit": "1GB", "temp_directory": str(work / "spill")}
    with duckdb.connect(config=settings) as connection:
        _load(connection, patient, _PATIENT)
        for statement in (_UNITS, _STAYS, _ORDERED):
            connection.execute(statement)
        connection.execute(_CALENDAR, {"target": str(work / "calendar.parquet")})
        if diagnosis is not None:
            _load(connection, diagnosis, _DIAGNOSIS)
            connection.execute(_REPEATS, {"target": str(work / "repeated_diagnoses.parquet")})
    return work, []


def _load(connection: duckdb.DuckDBPyConnection, path: Path, columns: tuple[str, ...]) -> None:
    """The columns of a file as text, whatever the case of its header; broken lines are left to the pipeline."""
    header = read_header(path, path.name)
    found = {name.lower(): name for name in header}
    picked = ", ".join(
        f"nullif(trim(CAST(\"{found[name]}\" AS VARCHAR)), '') AS {name}"
        if name in found
        else f"NULL AS {name}"
        for name in columns
    )
    if path.suffix == ".parquet":
        source = "read_parquet($path)"
    else:
        kinds = ", ".join("'" + name.replace("'", "''") + "': 'VARCHAR'" for name in header)
        source = (
            "read_csv($path, auto_detect=false, delim=',', quote='\"', escape='\"', header=true, "
            f"columns={{{kinds}}}, ignore_errors=true)"
        )
    try:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE raw AS SELECT {picked} FROM {source}", {"path": str(path)}
        )
    except duckdb.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path.name} cannot be read ({reason}); fetch the file again") from None
