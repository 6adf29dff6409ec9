"""The table that trees read, against the comparators' own."""

import numpy as np
import polars as pl
import pytest
import torch

from caretrace.backbones.statistics import WindowStatistics
from caretrace.comparators import TabularFeatures
from caretrace.data.inputs import HOURS_BEFORE, SAMPLE
from caretrace.schema import CODE, NUMERIC_VALUE

from .test_summary import batch_of

WINDOWS = (24.0, 6.0)
STATISTICS = ("count", "last", "min", "max", "mean", "slope")


def records(seed: int) -> list[list[tuple[int, float | None, float]]]:
    """Samples of a few codes; the third sample is empty, some measurements have no value, code 3 never has."""
    rng = np.random.default_rng(seed)
    found: list[list[tuple[int, float | None, float]]] = []
    for number in range(8):
        hours = np.sort(rng.uniform(0, 60, 0 if number == 2 else int(rng.integers(1, 25))))[::-1]
        codes = rng.integers(1, 4, len(hours))
        values = [
            float(np.float32(v)) if c < 3 and v > 0.2 else None
            for c, v in zip(codes, rng.random(len(hours)), strict=True)
        ]
        found.append(
            [(int(c), v, float(np.float32(h))) for c, v, h in zip(codes, values, hours, strict=True)]
        )
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_table_of_the_comparators(seed: int) -> None:
    samples = records(seed)
    rows = [(i, str(c), v, h) for i, sample in enumerate(samples) for c, v, h in sample]
    schema = {SAMPLE: pl.UInt32, CODE: pl.String, NUMERIC_VALUE: pl.Float32, HOURS_BEFORE: pl.Float32}
    features = TabularFeatures(("1", "2", "3"), (True, True, True), (None, *WINDOWS))
    table, names = features.transform(pl.DataFrame(rows, schema=schema, orient="row"), len(samples))
    ours = WindowStatistics(n_codes=4, windows_hours=WINDOWS)
    found = ours(batch_of(samples)).numpy()
    assert found.shape == (len(samples), ours.n_features)
    column = 0
    for window in ("all", *(f"{hours:g}h" for hours in WINDOWS)):
        statistics = STATISTICS + (("first", "hours_since_last") if window == "all" else ())
        for code in range(4):
            for statistic in statistics:
                if code and statistic != "hours_since_last":
                    expected = table[:, names.index(f"{code}|{statistic}|{window}")]
                    np.testing.assert_allclose(found[:, column], expected, rtol=2e-3, atol=2e-4)
                column += 1
    assert column == ours.n_features


def test_hours_since_the_last_measurement_do_not_need_a_value() -> None:
    found = WindowStatistics(n_codes=3, windows_hours=())(batch_of([[(2, 0.5, 9.0), (2, None, 4.0)], []]))
    per_code = found.view(2, 3, 8)
    assert per_code[0, 2, -1] == 4.0
    assert per_code[0, 2, 0] == 2.0
    assert torch.isnan(per_code[1, :, 1:]).all()
    assert (per_code[1, :, 0] == 0).all()


def test_padding_says_nothing() -> None:
    samples = records(3)
    ours = WindowStatistics(n_codes=4, windows_hours=WINDOWS)
    alone = torch.cat([ours(batch_of([sample])) for sample in samples])
    torch.testing.assert_close(alone, ours(batch_of(samples)), equal_nan=True)
