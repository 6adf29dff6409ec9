"""Names that every part agrees on: MEDS columns and dtypes, split names, canonical codes, event types.

MEDS 0.4, https://github.com/Medical-Event-Data-Standard/meds. This is the only home of these strings.
"""

from __future__ import annotations

import enum

# Columns of a MEDS data file.
SUBJECT_ID = "subject_id"
TIME = "time"
CODE = "code"
NUMERIC_VALUE = "numeric_value"
TEXT_VALUE = "text_value"
DATA_COLUMNS = (SUBJECT_ID, TIME, CODE, NUMERIC_VALUE, TEXT_VALUE)

# Columns of a MEDS label file.
PREDICTION_TIME = "prediction_time"
BOOLEAN_VALUE = "boolean_value"
LABEL_COLUMNS = (SUBJECT_ID, PREDICTION_TIME, BOOLEAN_VALUE)

# Columns of a MEDS prediction file (meds-evaluation), beside those of the labels.
PREDICTED_VALUE = "predicted_boolean_value"
PREDICTED_PROBABILITY = "predicted_boolean_probability"

# Columns of `metadata/codes.parquet`; the last two are ours, and MEDS allows them.
DESCRIPTION = "description"
PARENT_CODES = "parent_codes"
UNIT = "unit"
EVENT_TYPE = "event_type"

# Column of `metadata/subject_splits.parquet`, and its values.
SPLIT = "split"
TRAIN = "train"
TUNING = "tuning"
HELD_OUT = "held_out"
SPLITS = (TRAIN, TUNING, HELD_OUT)

# Canonical codes. A code's parts are joined by CODE_SEPARATOR: `ICU_ADMISSION//Medical`.
CODE_SEPARATOR = "//"
BIRTH = "MEDS_BIRTH"
DEATH = "MEDS_DEATH"
HOSPITAL_ADMISSION = "HOSPITAL_ADMISSION"
HOSPITAL_DISCHARGE = "HOSPITAL_DISCHARGE"
ICU_ADMISSION = "ICU_ADMISSION"
ICU_DISCHARGE = "ICU_DISCHARGE"
GENDER = "GENDER"

# Layout of a dataset folder.
DATA_DIR = "data"
METADATA_DIR = "metadata"
QUARANTINE_DIR = "quarantine"
DATASET_FILE = "metadata/dataset.json"
CODES_FILE = "metadata/codes.parquet"
SPLITS_FILE = "metadata/subject_splits.parquet"
QUALITY_FILE = "metadata/quality.json"
PREDICATES_FILE = "metadata/predicates.yaml"

# Where a source knows subjects by a text: which name became which subject_id.
SUBJECT_NAME = "subject_name"
SUBJECT_NAMES_FILE = "metadata/subject_names.parquet"

# Layout of a labels folder.
LABELS_FILE = "labels.parquet"
ATTRITION_FILE = "attrition.json"


class EventType(enum.StrEnum):
    """What kind of thing a measurement is; the first five are the streams the mortality model reads."""

    PRESCRIPTION = "prescription"
    PROCEDURE = "procedure"
    LAB = "lab"
    MICROBIOLOGY = "microbiology"
    INFUSION = "infusion"
    VITAL = "vital"
    OUTPUT = "output"
    DIAGNOSIS = "diagnosis"
    ADMINISTRATIVE = "administrative"
    DEMOGRAPHIC = "demographic"
    OTHER = "other"
