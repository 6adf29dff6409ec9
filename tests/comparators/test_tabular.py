import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caretrace.comparators import TabularFeatures
from caretrace.errors import BundleError, ConfigError, InputError

SCHEMA = {
    "sample": pl.UInt32,
    "code": pl.String,
    "numeric_value": pl.Float32,
    "hours_before": pl.Float32,
}
N_SAMPLES = 4
WINDOWS = (None, 24.0, 6.0)


def events(rows):
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def literal(rows, sample, code, hours):
    """Every statistic of one sample, code and window, in plain Python."""
    mine = [
        (value, before)
        for row_sample, row_code, value, before in rows
        if (row_sample, row_code) == (sample, code)
        and (hours is None or (before is not None and before <= hours))
    ]
    valued = [(v, b) for v, b in mine if v is not None and math.isfinite(v)]
    oldest_first = sorted(valued, key=lambda pair: -math.inf if pair[1] is None else -pair[1])
    values = [value for value, _ in oldest_first]
    timed = [(-before, value) for value, before in valued if before is not None]
    slope = math.nan
    if timed and max(x for x, _ in timed) > min(x for x, _ in timed):
        middle_x = sum(x for x, _ in timed) / len(timed)
        middle_y = sum(y for _, y in timed) / len(timed)
        slope = sum((x - middle_x) * (y - middle_y) for x, y in timed) / sum(
            (x - middle_x) ** 2 for x, _ in timed
        )
    return {
        "count": len(mine),
        "last": values[-1] if values else math.nan,
        "min": min(values, default=math.nan),
        "max": max(values, default=math.nan),
        "mean": sum(values) / len(values) if values else math.nan,
        "slope": slope,
        "first": values[0] if values else math.nan,
        "hours_since_last": min((before for _, before in valued if before is not None), default=math.nan),
    }


row = st.tuples(
    st.integers(0, N_SAMPLES - 1),
    st.sampled_from(["LAB//Na|mmol", "HR", "MED", "rare"]),
    st.one_of(st.none(), st.just(math.nan), st.just(math.inf), st.integers(-4, 4).map(float)),
    st.one_of(st.none(), st.sampled_from([0.0, 0.5, 6.0, 6.25, 24.0, 24.5, 100.0])),
)


@settings(deadline=None)
@given(st.lists(row, max_size=40))
def test_every_statistic_is_the_plain_python_one(rows):
    features = TabularFeatures(("LAB//Na|mmol", "HR", "MED"), (True, True, False), WINDOWS)
    matrix, names = features.transform(events(rows), N_SAMPLES)
    assert matrix.dtype == np.float32
    assert matrix.shape == (N_SAMPLES, len(names)) == (N_SAMPLES, 2 * (3 * 6 + 2) + 3)
    for column, name in enumerate(names):
        code, statistic, window = name.rsplit("|", 2)
        hours = None if window == "all" else float(window.removesuffix("h"))
        for sample in range(N_SAMPLES):
            expected = literal(rows, sample, code, hours)[statistic]
            assert matrix[sample, column] == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True), name


def test_row_order_matters_only_among_equal_times():
    rows = [(0, "HR", 80.0, 5.0), (0, "HR", 90.0, 1.0), (0, "HR", 70.0, 30.0), (1, "HR", 60.0, 0.0)]
    features = TabularFeatures(("HR",), (True,), WINDOWS)
    forward, backward = (features.transform(events(r), 2)[0] for r in (rows, rows[::-1]))
    np.testing.assert_array_equal(forward, backward)
    tied = [(0, "HR", 80.0, 1.0), (0, "HR", 90.0, 1.0)]
    matrix, names = features.transform(events(tied), 1)
    assert matrix[0, names.index("HR|last|all")] == 90.0


def test_slope_by_hand():
    rows = [(0, "HR", 70.0, 4.0), (0, "HR", 80.0, 2.0), (0, "HR", 90.0, 0.0)]
    matrix, names = TabularFeatures(("HR",), (True,), (None,)).transform(events(rows), 1)
    assert matrix[0, names.index("HR|slope|all")] == 5.0


def test_codes_are_chosen_by_how_many_training_samples_have_them():
    rows = [
        *[(sample, "HR", 80.0, 1.0) for sample in range(10)],
        *[(sample, "MED", None, 1.0) for sample in range(6)],
        *[(0, "often in one sample", 1.0, float(hour)) for hour in range(50)],
        *[(sample, "almost never a value", 1.0 if sample == 0 else None, 1.0) for sample in range(5)],
    ]
    features = TabularFeatures.fit(events(rows), 10)
    assert features.codes == ("HR", "MED", "almost never a value")
    assert features.numeric == (True, False, False)
    assert TabularFeatures.fit(events(rows), 10, max_codes=1).codes == ("HR",)
    assert "often in one sample" in TabularFeatures.fit(events(rows), 10, min_samples=1).codes


def test_sample_without_measurements_has_counts_of_zero_and_the_rest_missing():
    features = TabularFeatures(("HR",), (True,), (None,))
    matrix, names = features.transform(events([]), 1)
    assert matrix[0, names.index("HR|count|all")] == 0
    assert np.isnan(np.delete(matrix[0], names.index("HR|count|all"))).all()


def test_huge_values_never_become_infinite():
    rows = [(0, "HR", 3e38, 1e-3), (0, "HR", -3e38, 0.0)]
    matrix, _ = TabularFeatures(("HR",), (True,), (None,)).transform(events(rows), 1)
    assert not np.isinf(matrix).any()


def test_round_trip_and_damage():
    features = TabularFeatures(("HR", "MED"), (True, False), (None, 12.5))
    assert TabularFeatures.from_dict(json.loads(json.dumps(features.to_dict()))) == features
    with pytest.raises(BundleError, match="damaged"):
        TabularFeatures.from_dict({"codes": ["HR"]})
    with pytest.raises(BundleError, match="2 codes but 1 kinds"):
        TabularFeatures.from_dict({**features.to_dict(), "numeric": [True]})


def test_errors_name_the_remedy():
    with pytest.raises(InputError, match="row number in the label table"):
        TabularFeatures(("HR",), (True,)).transform(events([(5, "HR", 1.0, 1.0)]), 5)
    with pytest.raises(ConfigError, match="positive hours"):
        TabularFeatures.fit(events([]), 1, windows_hours=(0.0,))
