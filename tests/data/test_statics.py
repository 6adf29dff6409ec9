"""Static features, by hand."""

import json

import numpy as np
import polars as pl
import pytest

from caretrace.data.statics import StaticFeatures

YEAR = 24 * 365.25
TYPES = {"sample": pl.UInt32, "code": pl.String, "hours_before": pl.Float32}


def measurements(*rows):
    return pl.DataFrame(rows, schema=TYPES, orient="row")


FOUR = measurements(
    (0, "GENDER//F", None),
    (0, "MEDS_BIRTH", 40 * YEAR),
    (0, "ICU_ADMISSION//Medical", 30.0),
    (0, "ICU_ADMISSION//Surgical", 24.0),  # a transfer: the latest counts
    (1, "GENDER//M", None),
    (1, "MEDS_BIRTH", 60 * YEAR),
    (1, "ICU_ADMISSION//Medical", 24.0),
    (2, "GENDER//F", None),
    (3, "ICU_ADMISSIONS", 5.0),  # another code that begins alike
)


def test_one_column_per_category_after_the_age():
    static = StaticFeatures.fit(FOUR, 4, ("GENDER", "ICU_ADMISSION"))
    assert static.names == [
        "age", "age unknown", "GENDER//F", "GENDER//M", "ICU_ADMISSION//Medical", "ICU_ADMISSION//Surgical",
    ]  # fmt: skip
    np.testing.assert_allclose(
        static.transform(FOUR, 4),
        [
            [-1, 0, 1, 0, 0, 1],
            [1, 0, 0, 1, 1, 0],
            [0, 1, 1, 0, 0, 0],
            [0, 1, 0, 0, 0, 0],
        ],
        atol=1e-5,
    )


def test_a_category_of_another_split_is_all_zero_and_ages_use_the_training_scale():
    static = StaticFeatures.fit(FOUR, 4, ("GENDER",))
    other = measurements((0, "GENDER//X", None), (0, "MEDS_BIRTH", 70 * YEAR))
    np.testing.assert_allclose(static.transform(other, 1), [[2, 0, 0, 0]], atol=1e-5)


def test_rare_categories_are_left_out():
    rows = [(sample, "GENDER//F" if sample < 190 else "GENDER//M", None) for sample in range(200)]
    rows[0] = (0, "GENDER//rare", None)
    assert StaticFeatures.fit(measurements(*rows), 200, ("GENDER",)).names[2:] == ["GENDER//F", "GENDER//M"]


def test_a_prefix_nobody_has_and_births_nobody_has():
    static = StaticFeatures.fit(measurements((0, "GENDER//F", None)), 1, ("RACE",))
    assert static.names == ["age", "age unknown"]
    assert static.transform(measurements(), 2).tolist() == [[0, 1], [0, 1]]


def test_one_age_for_all_is_no_division_by_zero():
    static = StaticFeatures.fit(measurements((0, "MEDS_BIRTH", 50 * YEAR)), 1, ())
    assert static.transform(measurements((0, "MEDS_BIRTH", 50 * YEAR)), 1)[0, 0] == pytest.approx(0, abs=1e-6)


def test_there_and_back_through_json():
    static = StaticFeatures.fit(FOUR, 4, ("GENDER", "ICU_ADMISSION"))
    assert StaticFeatures.from_dict(json.loads(json.dumps(static.to_dict()))) == static
