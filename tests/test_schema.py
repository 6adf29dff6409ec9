"""Our names are those of the MEDS package, and written nowhere else."""

import ast
from pathlib import Path

import meds
import pytest

import caretrace
from caretrace import schema


def test_columns_and_codes_are_those_of_meds():
    data, label, code = meds.DataSchema, meds.LabelSchema, meds.CodeMetadataSchema
    assert (
        data.subject_id_name, data.time_name, data.code_name, data.numeric_value_name, data.text_value_name,
    ) == schema.DATA_COLUMNS  # fmt: skip
    assert (
        label.subject_id_name,
        label.prediction_time_name,
        label.boolean_value_name,
    ) == schema.LABEL_COLUMNS
    assert (code.description_name, code.parent_codes_name) == (schema.DESCRIPTION, schema.PARENT_CODES)
    assert meds.SubjectSplitSchema.split_name == schema.SPLIT
    assert (meds.train_split, meds.tuning_split, meds.held_out_split) == schema.SPLITS
    assert (meds.birth_code, meds.death_code) == (schema.BIRTH, schema.DEATH)
    assert str(meds.dataset_metadata_filepath) == schema.DATASET_FILE
    assert str(meds.code_metadata_filepath) == schema.CODES_FILE
    assert str(meds.subject_splits_filepath) == schema.SPLITS_FILE
    assert meds.data_subdirectory == schema.DATA_DIR


def test_columns_of_predictions_are_those_of_meds_evaluation():
    from meds_evaluation.schema import PredictionSchema

    assert PredictionSchema.predicted_boolean_value_name == schema.PREDICTED_VALUE
    assert PredictionSchema.predicted_boolean_probability_name == schema.PREDICTED_PROBABILITY


# `time`, `code` and `numeric_value` are not here: other tables and `EventBatch` have fields of these names.
NAMES = {
    schema.SUBJECT_ID,
    schema.PREDICTION_TIME,
    schema.BOOLEAN_VALUE,
    schema.PREDICTED_VALUE,
    schema.PREDICTED_PROBABILITY,
    schema.BIRTH,
    schema.DEATH,
    schema.HELD_OUT,
}
SOURCE = Path(caretrace.__file__).parent


@pytest.mark.parametrize("room", ["application", "apps", "cli", "cohort", "comparators", "data", "training"])
def test_column_names_are_imported_never_typed(room):
    typed = [
        f"{file.relative_to(SOURCE)}:{node.lineno}: {node.value!r}"
        for file in sorted((SOURCE / room).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in NAMES
    ]
    assert not typed, "use caretrace.schema for:\n" + "\n".join(typed)
