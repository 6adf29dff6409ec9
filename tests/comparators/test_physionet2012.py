"""The comparators are honest opponents: on open data they reach what is known to be reachable."""

import numpy as np
import polars as pl
import pytest

from caretrace.comparators import ComparatorInput, fit_all
from caretrace.evaluation import auprc, auroc, ece

DESCRIPTORS = ("Age", "Gender", "Height", "ICUType")


def stays(folder, name):
    """Set `name`: everything within the first 48 h; -1 means missing among the descriptors."""
    outcomes = pl.read_csv(folder / f"outcomes-{name}.csv").with_row_index("sample")
    clock = pl.col("Time").str.split(":")
    rows = (
        pl.read_csv(folder / f"set-{name}.csv.gz", schema_overrides={"Value": pl.Float32})
        .join(outcomes.select("sample", "RecordID"), on="RecordID", maintain_order="left")
        .with_columns(
            hours_before=(48 - clock.list.get(0).cast(pl.Float32) - clock.list.get(1).cast(pl.Float32) / 60)
        )
        .filter(~(pl.col("Parameter").is_in([*DESCRIPTORS, "Weight"]) & (pl.col("Value") < 0)))
    )
    described = rows.filter(pl.col("Parameter").is_in(DESCRIPTORS)).pivot(
        on="Parameter", index="sample", values="Value", aggregate_function="first"
    )
    static = outcomes.select("sample").join(described, on="sample", how="left").select(DESCRIPTORS)
    events = rows.filter(~pl.col("Parameter").is_in(DESCRIPTORS)).select(
        "sample", "hours_before", code="Parameter", numeric_value="Value"
    )
    labels = outcomes["In-hospital_death"].to_numpy()
    return ComparatorInput(events, static.to_numpy().astype(np.float32), DESCRIPTORS, labels)


def rows_of(inputs, chosen):
    """The samples `chosen`, renumbered."""
    numbers = pl.DataFrame({"sample": chosen, "new": np.arange(len(chosen))}).cast(pl.UInt32)
    events = inputs.events.join(numbers, on="sample", maintain_order="left").drop("sample")
    return ComparatorInput(
        events.rename({"new": "sample"}), inputs.static[chosen], inputs.static_names, inputs.labels[chosen]
    )


@pytest.mark.data
@pytest.mark.slow
def test_trained_on_set_a_tested_on_set_b(caretrace_data):
    folder = caretrace_data / "physionet2012"
    if not folder.is_dir():
        pytest.skip("needs physionet2012 in the folder with the open data")
    set_a, set_b = stays(folder, "a"), stays(folder, "b")
    order = np.random.default_rng(0).permutation(set_a.n_samples)
    fitted = fit_all(rows_of(set_a, np.sort(order[600:])), rows_of(set_a, np.sort(order[:600])))
    risks = fitted.predict_all(set_b)
    for name, (least_auroc, least_auprc) in {
        "boosted_trees": (0.857, 0.518),
        "logistic_regression": (0.845, 0.500),
    }.items():
        assert auroc(set_b.labels, risks[name]) >= least_auroc, name
        assert auprc(set_b.labels, risks[name]) >= least_auprc, name
        assert ece(set_b.labels, risks[name]) < 0.03, name
