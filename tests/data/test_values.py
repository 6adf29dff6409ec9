"""Values to quantiles, by hand."""

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretrace.data.values import QuantileScaler
from caretrace.data.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("a", "b", "c"))  # numbers 2, 3, 4


def measurements(**values):
    rows = [(code, value) for code, its in values.items() for value in its]
    return pl.DataFrame(rows, schema={"code": pl.String, "numeric_value": pl.Float32}, orient="row")


def scaled(scaler, number, *values):
    found, mask = scaler.transform(np.full(len(values), number), np.array(values, dtype=np.float64))
    return found.tolist(), mask.tolist()


def test_between_lowest_and_highest_training_value_lies_zero_to_one():
    scaler = QuantileScaler.fit(measurements(a=range(101)), VOCABULARY)
    values, mask = scaled(scaler, 2, 0, 25, 50, 100)
    assert values == pytest.approx([0, 0.25, 0.5, 1])
    assert mask == [True] * 4


def test_beyond_the_training_values_it_stays_at_the_ends():
    scaler = QuantileScaler.fit(measurements(a=range(101)), VOCABULARY)
    assert scaled(scaler, 2, -1e9, 1e9)[0] == [0, 1]


def test_an_artefact_moves_the_scale_of_the_others_hardly():
    """A pH of 735 among a thousand good values: a mean and a standard deviation would be lost."""
    good = np.linspace(7.2, 7.5, 1001)
    scaler = QuantileScaler.fit(measurements(a=[*good, 735.0]), VOCABULARY)
    assert scaled(scaler, 2, 7.35)[0] == pytest.approx([0.5], abs=0.01)


def test_a_value_that_never_varied_says_nothing():
    scaler = QuantileScaler.fit(measurements(a=[3.0, 3.0, 3.0], b=[1.0, 2.0]), VOCABULARY)
    assert scaled(scaler, 2, 3.0, 4.0) == ([0, 0], [False, False])
    assert scaled(scaler, 3, 1.5) == ([0.5], [True])
    assert set(scaler.knots) == {3}


def test_unknown_codes_and_missing_values_have_no_value():
    scaler = QuantileScaler.fit(measurements(a=[0.0, 1.0], z=[0.0, 1.0]), VOCABULARY)
    assert scaled(scaler, 1, 0.5) == ([0], [False])  # z is not in the vocabulary
    assert scaled(scaler, 2, math.nan, 0.5) == ([0, 0.5], [False, True])
    assert scaled(scaler, 2) == ([], [])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_no_numbers_spoil_no_scale(bad):
    """Another tool's dataset may hold them; one must not take a code's values away from everybody."""
    clean = QuantileScaler.fit(measurements(a=range(101)), VOCABULARY)
    soiled = QuantileScaler.fit(measurements(a=[*range(101), bad]), VOCABULARY)
    assert soiled.to_dict() == clean.to_dict()
    assert scaled(clean, 2, bad) == ([0], [False])


def test_rows_of_several_codes_keep_their_places():
    scaler = QuantileScaler.fit(measurements(a=[0.0, 10.0], b=[0.0, 100.0]), VOCABULARY)
    values, mask = scaler.transform(np.array([3, 2, 1, 3, 2]), np.array([50.0, 5.0, 5.0, 100.0, 10.0]))
    assert values.tolist() == [0.5, 0.5, 0, 1, 1]
    assert mask.tolist() == [True, True, False, True, True]


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=200),
    st.floats(-2e6, 2e6),
    st.floats(0, 1e6),
)
def test_order_is_kept(training, value, more):
    scaler = QuantileScaler.fit(measurements(a=training), VOCABULARY)
    (low, high), _ = scaled(scaler, 2, value, value + more)
    assert 0 <= low <= high <= 1


def test_there_and_back_through_json_to_the_last_bit():
    scaler = QuantileScaler.fit(measurements(a=np.random.default_rng(0).normal(size=500)), VOCABULARY)
    again = QuantileScaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert again.knots.keys() == scaler.knots.keys()
    np.testing.assert_array_equal(again.knots[2], scaler.knots[2])


def test_two_units_have_two_scales():
    """A unit is part of the code that ingest writes, so a value is judged among those of its own unit."""
    codes = Vocabulary(("LAB//RESULT//glucose//mg/dL", "LAB//RESULT//glucose//mmol/L"))
    values = {codes.codes[0]: np.linspace(70, 180, 12), codes.codes[1]: np.linspace(4, 10, 12)}
    scaler = QuantileScaler.fit(measurements(**values), codes)
    assert scaled(scaler, 2, 70, 125, 180)[0] == pytest.approx([0, 0.5, 1])
    assert scaled(scaler, 3, 4, 7, 10)[0] == pytest.approx([0, 0.5, 1])
