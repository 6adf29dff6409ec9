"""PERSON, VISIT_OCCURRENCE, CONDITION_OCCURRENCE, OBSERVATION_PERIOD and CDM_SOURCE of the OMOP CDM 5.4, as CSV.

Without its vocabularies codes cannot be mapped to standard concepts, so concept ids of conditions are 0 ("no matching
concept") and the ICD-9-CM code stands in `condition_source_value`. The tables have no column to spare: that a row is
synthetic stands in `person_source_value`, `visit_source_value`, `condition_status_source_value`; OBSERVATION_PERIOD,
which has no text at all, gets a column `synthetic` that a loader may drop.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from caretrace import schema
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.export.csv import CsvFiles, read_csv
from caretrace.apps.synth.export.tables import (
    ADMIT,
    BIRTH,
    DISCHARGE,
    FLAG,
    PLACE,
    SEX,
    VISIT_ID,
    Tables,
    histories_of_texts,
)
from caretrace.errors import InputError
from caretrace.evaluation.histories import Histories

# OMOP CDM 5.4, https://ohdsi.github.io/CommonDataModel/cdm54.html; concepts of the vocabularies Gender and Visit.
PERSON = (
    *("person_id", "gender_concept_id", "year_of_birth", "month_of_birth", "day_of_birth", "birth_datetime"),
    *("race_concept_id", "ethnicity_concept_id", "location_id", "provider_id", "care_site_id"),
    *("person_source_value", "gender_source_value", "gender_source_concept_id", "race_source_value"),
    *("race_source_concept_id", "ethnicity_source_value", "ethnicity_source_concept_id"),
)
VISIT = (
    *("visit_occurrence_id", "person_id", "visit_concept_id", "visit_start_date", "visit_start_datetime"),
    *("visit_end_date", "visit_end_datetime", "visit_type_concept_id", "provider_id", "care_site_id"),
    *("visit_source_value", "visit_source_concept_id", "admitted_from_concept_id"),
    *("admitted_from_source_value", "discharged_to_concept_id", "discharged_to_source_value"),
    "preceding_visit_occurrence_id",
)
CONDITION = (
    *("condition_occurrence_id", "person_id", "condition_concept_id", "condition_start_date"),
    *(
        "condition_start_datetime",
        "condition_end_date",
        "condition_end_datetime",
        "condition_type_concept_id",
    ),
    *("condition_status_concept_id", "stop_reason", "provider_id", "visit_occurrence_id", "visit_detail_id"),
    *("condition_source_value", "condition_source_concept_id", "condition_status_source_value"),
)
PERIOD = (
    *("observation_period_id", "person_id", "observation_period_start_date"),
    *("observation_period_end_date", "period_type_concept_id", "synthetic"),
)
SOURCE = (
    *("cdm_source_name", "cdm_source_abbreviation", "cdm_holder", "source_description"),
    *("source_documentation_reference", "cdm_etl_reference", "source_release_date", "cdm_release_date"),
    *("cdm_version", "cdm_version_concept_id", "vocabulary_version"),
)
GENDERS = {"F": 8532, "M": 8507}
INPATIENT = 9201
_ID = 1000  # condition_occurrence_id = visit * this + place


class Writer:
    """Writes chunk by chunk.

    Args:
        folder: An existing folder.
    """

    def __init__(self, folder: Path, vocabulary: Vocabulary) -> None:
        del vocabulary
        self._files = CsvFiles(folder, flag="")
        text = {"cdm_source_name": "caretrace synthetic subjects", "cdm_source_abbreviation": FLAG,
                "cdm_holder": "caretrace", "source_description": f"{FLAG}: nobody in these tables exists",
                "cdm_version": "5.4", "vocabulary_version": "none"}  # fmt: skip
        dates = {name: pl.lit("2030-01-01") for name in ("source_release_date", "cdm_release_date")}
        values = {name: pl.lit(value) for name, value in text.items()} | dates
        values["cdm_version_concept_id"] = pl.lit(756265)  # "OMOP CDM Version 5.4.0"
        self._files.add("CDM_SOURCE.csv", pl.DataFrame({"": [0]}), SOURCE, values)

    def add(self, tables: Tables) -> None:
        """Write some more subjects."""
        who, visit, none, flag = pl.col(schema.SUBJECT_ID), pl.col(VISIT_ID), pl.lit(0), pl.lit(FLAG)
        birth, admit, end = pl.col(BIRTH), pl.col(ADMIT), pl.col(DISCHARGE)
        self._files.add(
            "PERSON.csv", tables.people, PERSON,
            {"person_id": who, "gender_concept_id": pl.col(SEX).replace_strict(GENDERS, return_dtype=pl.Int64),
             "year_of_birth": birth.dt.year(), "month_of_birth": birth.dt.month(), "day_of_birth": birth.dt.day(),
             "birth_datetime": birth, "race_concept_id": none, "ethnicity_concept_id": none,
             "person_source_value": flag, "gender_source_value": pl.col(SEX)},
        )  # fmt: skip
        self._files.add(
            "VISIT_OCCURRENCE.csv", tables.visits, VISIT,
            {"visit_occurrence_id": visit, "person_id": who, "visit_concept_id": pl.lit(INPATIENT),
             "visit_start_date": admit.dt.date(), "visit_start_datetime": admit, "visit_end_date": end.dt.date(),
             "visit_end_datetime": end, "visit_type_concept_id": none, "visit_source_value": flag},
        )  # fmt: skip
        dated = tables.diagnoses.join(
            tables.visits.select(VISIT_ID, DISCHARGE), on=VISIT_ID, maintain_order="left"
        )
        self._files.add(
            "CONDITION_OCCURRENCE.csv", dated, CONDITION,
            {"condition_occurrence_id": visit * _ID + pl.col(PLACE), "person_id": who, "condition_concept_id": none,
             "condition_start_date": end.dt.date(), "condition_start_datetime": end,
             "condition_type_concept_id": none, "visit_occurrence_id": visit,
             "condition_source_value": pl.col(schema.CODE), "condition_source_concept_id": none,
             "condition_status_source_value": flag},
        )  # fmt: skip
        seen = tables.visits.group_by(schema.SUBJECT_ID, maintain_order=True).agg(admit.min(), end.max())
        self._files.add(
            "OBSERVATION_PERIOD.csv", seen, PERIOD,
            {"observation_period_id": who, "person_id": who, "observation_period_start_date": admit.dt.date(),
             "observation_period_end_date": end.dt.date(), "period_type_concept_id": none,
             "synthetic": flag},
        )  # fmt: skip

    def close(self) -> None:
        """Finish the files."""
        self._files.close()


def read(folder: Path, vocabulary: Vocabulary) -> Histories:
    """The histories that were written.

    Raises:
        InputError: A file is missing, does not say that it is synthetic, or does not fit the others.
    """
    people, visits = read_csv(folder / "PERSON.csv"), read_csv(folder / "VISIT_OCCURRENCE.csv")
    conditions, source = read_csv(folder / "CONDITION_OCCURRENCE.csv"), read_csv(folder / "CDM_SOURCE.csv")
    for table, column in (
        (people, "person_source_value"),
        (visits, "visit_source_value"),
        (conditions, "condition_status_source_value"),
        (source, "cdm_source_abbreviation"),
    ):
        if not (table[column] == FLAG).fill_null(value=False).all():
            raise InputError(
                f"{folder}: {column} is not {FLAG} everywhere; this is no export of synthetic subjects"
            )
    visit, number = pl.col("visit_occurrence_id"), pl.col("condition_occurrence_id")
    place = (number.cast(pl.Int64) - visit.cast(pl.Int64) * _ID).cast(pl.String)
    return histories_of_texts(
        people.select("person_id", "gender_source_value", "birth_datetime"),
        visits.select("person_id", visit, "visit_start_datetime", "visit_end_datetime"),
        conditions.select("person_id", visit, place, "condition_source_value"),
        vocabulary,
    )
