"""PATIENTS, ADMISSIONS and DIAGNOSES_ICD with the columns of MIMIC-III 1.4, and one more: SYNTHETIC."""

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
from caretrace.evaluation.histories import Histories

# MIMIC-III 1.4, https://mimic.mit.edu/docs/iii/tables/; columns without a counterpart here stay empty.
PATIENTS = ("ROW_ID", "SUBJECT_ID", "GENDER", "DOB", "DOD", "DOD_HOSP", "DOD_SSN", "EXPIRE_FLAG")
ADMISSIONS = (
    *("ROW_ID", "SUBJECT_ID", "HADM_ID", "ADMITTIME", "DISCHTIME", "DEATHTIME", "ADMISSION_TYPE"),
    *("ADMISSION_LOCATION", "DISCHARGE_LOCATION", "INSURANCE", "LANGUAGE", "RELIGION", "MARITAL_STATUS"),
    *("ETHNICITY", "EDREGTIME", "EDOUTTIME", "DIAGNOSIS", "HOSPITAL_EXPIRE_FLAG", "HAS_CHARTEVENTS_DATA"),
)
DIAGNOSES = ("ROW_ID", "SUBJECT_ID", "HADM_ID", "SEQ_NUM", "ICD9_CODE")


class Writer:
    """Writes chunk by chunk.

    Args:
        folder: An existing folder.
    """

    def __init__(self, folder: Path, vocabulary: Vocabulary) -> None:
        del vocabulary
        self._files = CsvFiles(folder)

    def add(self, tables: Tables) -> None:
        """Write some more subjects."""
        no = pl.lit(0)
        self._files.add(
            "PATIENTS.csv", tables.people, PATIENTS,
            {"ROW_ID": pl.col(schema.SUBJECT_ID), "SUBJECT_ID": pl.col(schema.SUBJECT_ID), "GENDER": pl.col(SEX),
             "DOB": pl.col(BIRTH), "EXPIRE_FLAG": no},
        )  # fmt: skip
        self._files.add(
            "ADMISSIONS.csv", tables.visits, ADMISSIONS,
            {"ROW_ID": pl.col(VISIT_ID), "SUBJECT_ID": pl.col(schema.SUBJECT_ID), "HADM_ID": pl.col(VISIT_ID),
             "ADMITTIME": pl.col(ADMIT), "DISCHTIME": pl.col(DISCHARGE), "ADMISSION_TYPE": pl.lit("EMERGENCY"),
             "HOSPITAL_EXPIRE_FLAG": no, "HAS_CHARTEVENTS_DATA": no},
        )  # fmt: skip
        self._files.add(
            "DIAGNOSES_ICD.csv", tables.diagnoses, DIAGNOSES,
            {"ROW_ID": pl.col(VISIT_ID) * 100 + pl.col(PLACE), "SUBJECT_ID": pl.col(schema.SUBJECT_ID),
             "HADM_ID": pl.col(VISIT_ID), "SEQ_NUM": pl.col(PLACE), "ICD9_CODE": pl.col(schema.CODE)},
        )  # fmt: skip

    def close(self) -> None:
        """Finish the files."""
        self._files.close()


def read(folder: Path, vocabulary: Vocabulary) -> Histories:
    """The histories that were written.

    Raises:
        InputError: A file is missing, does not say that it is synthetic, or does not fit the others.
    """
    people = read_csv(folder / "PATIENTS.csv", FLAG)
    visits = read_csv(folder / "ADMISSIONS.csv", FLAG)
    diagnoses = read_csv(folder / "DIAGNOSES_ICD.csv", FLAG)
    return histories_of_texts(
        people.select("SUBJECT_ID", "GENDER", "DOB"),
        visits.select("SUBJECT_ID", "HADM_ID", "ADMITTIME", "DISCHTIME"),
        diagnoses.select("SUBJECT_ID", "HADM_ID", "SEQ_NUM", "ICD9_CODE"),
        vocabulary,
    )
