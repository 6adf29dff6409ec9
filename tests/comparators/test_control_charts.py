import numpy as np
import pytest

from caretrace.comparators.control_charts import cusum, ewma


def literal_cusum(values, mean, sd, slack):
    up = down = 0.0
    found = []
    for value in values:
        z = (value - mean) / sd
        if not np.isnan(z):
            up, down = max(0.0, up + z - slack), max(0.0, down - z - slack)
        found.append(max(up, down))
    return found


def test_cusum_is_the_literal_recursion():
    rng = np.random.default_rng(0)
    values = rng.normal(80, 5, 500)
    values[rng.random(500) < 0.1] = np.nan
    values[300:] -= 8
    assert cusum(values, 80, 5).tolist() == pytest.approx(literal_cusum(values, 80, 5, 0.5))


def test_ewma_is_the_literal_recursion():
    values = [80.0, 90.0, np.nan, 70.0]
    average, found = 0.0, []
    for value in values:
        average = 0.8 * average + 0.2 * (0.0 if np.isnan(value) else (value - 80) / 5)
        found.append(abs(average) / np.sqrt(0.2 / 1.8))
    assert ewma(values, 80, 5).tolist() == pytest.approx(found)


@pytest.mark.parametrize("chart", [ewma, cusum])
def test_knows_nothing_of_what_comes(chart):
    values = np.random.default_rng(1).normal(80, 5, 100)
    changed = values.copy()
    changed[50:] += 40
    assert chart(values, 80, 5)[:50].tolist() == chart(changed, 80, 5)[:50].tolist()
    assert (chart(changed, 80, 5)[60:] > chart(values, 80, 5)[60:]).all()
