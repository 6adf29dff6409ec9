"""Samples as arrays, batches as tensors, by hand."""

import json

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.data.batch import NO_TEXT
from caretrace.data.inputs import Inputs
from caretrace.data.samples import Preprocessor

from ..tiny import START

TYPES = list(schema.EventType)
COLUMNS = {
    "sample": pl.UInt32,
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
    "event_type": pl.String,
    "hours_before": pl.Float32,
}


def inputs(n, *rows):
    labels = pl.DataFrame(
        {
            "subject_id": range(n),
            "prediction_time": [START] * n,
            "boolean_value": [i % 2 == 1 for i in range(n)],
        }
    )
    return Inputs(labels, pl.DataFrame(rows, schema=COLUMNS, orient="row"))


THREE = inputs(
    3,
    (0, "GENDER//F", None, None, "demographic", None),
    (0, "MEDS_BIRTH", None, None, "demographic", 350_640.0),
    (0, "LAB//a", 0.0, None, "lab", 9.0),
    (0, "LAB//a", 4.0, None, "lab", 2.0),
    (0, "DRUG//x", None, None, "prescription", 2.0),
    (2, "LAB//a", 3.0, None, "lab", 0.0),
    (2, "LAB//b", 3.0, None, "no such type", 0.0),
)


@pytest.fixture
def preprocessor():
    return Preprocessor.fit(THREE, static_prefixes=("GENDER",), min_samples=1, max_measurements=10)


def test_only_timed_measurements_stand_in_the_sequence(preprocessor):
    """Birth has a time, but 40 years before the others; it is a static feature, as is what has no time."""
    assert preprocessor.vocabulary.codes == ("DRUG//x", "LAB//a", "LAB//b")
    samples = preprocessor.transform(THREE)
    assert samples.offsets.tolist() == [0, 3, 3, 5]
    assert samples.code.tolist() == [3, 3, 2, 3, 4]
    assert samples.time_hours.tolist() == [-9, -2, -2, 0, 0]
    assert samples.numeric_mask.tolist() == [True, True, False, True, False]  # LAB//b has one value only
    knots = preprocessor.values.knots[3]
    assert (knots[0], knots[-1]) == (0, 4)
    assert samples.numeric_value[[0, 1, 2]].tolist() == [0, 1, 0]
    assert [TYPES[number] for number in samples.event_type] == ["lab", "lab", "prescription", "lab", "other"]
    assert samples.outcomes.tolist() == [0, 1, 0]
    assert samples.static.shape == (3, 3)
    assert len(samples) == 3


def test_a_batch_by_hand(preprocessor):
    batch = preprocessor.transform(THREE).batch([2, 0, 1])
    assert batch.code.tolist() == [[3, 4, 0], [3, 3, 2], [0, 0, 0]]
    assert batch.padding_mask.tolist() == [[False, False, True], [False] * 3, [True] * 3]
    assert batch.time_hours.tolist() == [[0, 0, 0], [-9, -2, -2], [0, 0, 0]]
    assert batch.time_delta_hours.tolist() == [[0, 0, 0], [0, 7, 0], [0, 0, 0]]
    assert (batch.text_id == NO_TEXT).all()
    assert batch.hour_of_week.tolist() == [48, 48, 48]  # the first of January 2020 was a Wednesday
    assert batch.clock[1].tolist() == [39, 46, 46]
    assert batch.static[:, 1].tolist() == [1, 0, 1]  # age unknown


def test_a_batch_of_samples_without_measurements_is_one_step_of_padding(preprocessor):
    batch = preprocessor.transform(THREE).batch([1])
    assert batch.padding_mask.tolist() == [[True]]
    nobody = preprocessor.transform(inputs(2))
    assert nobody.batch([0, 1]).padding_mask.tolist() == [[True], [True]]


def test_unknown_codes_are_read_as_such_and_counted(preprocessor):
    samples = preprocessor.transform(
        inputs(1, (0, "LAB//new", 1.0, None, "lab", 3.0), (0, "LAB//a", 1.0, None, "lab", 1.0))
    )
    assert samples.code.tolist() == [1, 3]
    assert samples.numeric_mask.tolist() == [False, True]
    assert samples.unknown_codes == 1


def test_of_too_many_measurements_the_latest_are_kept(preprocessor):
    short = Preprocessor(preprocessor.vocabulary, preprocessor.values, preprocessor.static, 2)
    samples = short.transform(THREE)
    assert samples.offsets.tolist() == [0, 2, 2, 4]
    assert samples.time_hours.tolist() == [-2, -2, 0, 0]


def test_what_lies_too_far_back_is_forgotten():
    forgetful = Preprocessor.fit(
        THREE, static_prefixes=("GENDER",), min_samples=1, max_measurements=10, forget_hours=2.0
    )
    assert forgetful.transform(THREE).time_hours.tolist() == [-2, -2, 0, 0]
    assert Preprocessor.from_dict(forgetful.to_dict()).transform(THREE).time_hours.tolist() == [-2, -2, 0, 0]
    assert forgetful.transform(THREE).static.shape == (3, 3)  # who somebody is, is never forgotten


def test_there_and_back_through_json(preprocessor):
    again = Preprocessor.from_dict(json.loads(json.dumps(preprocessor.to_dict())))
    before, after = preprocessor.transform(THREE), again.transform(THREE)
    for name in ("offsets", "code", "numeric_value", "numeric_mask", "event_type", "time_hours", "static"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name), err_msg=name)
