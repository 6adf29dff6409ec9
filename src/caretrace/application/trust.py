"""What a reader needs to trust a run, or not: groups, uncertainty, abstention, and the TRIPOD+AI items."""

from __future__ import annotations

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.application.predictor import RISK, Predictor, band
from caretrace.application.run import Run
from caretrace.data.inputs import SAMPLE, Inputs
from caretrace.data.statics import ages_in_years, latest_code
from caretrace.evaluation.trust import abstention_curve, subgroup_table
from caretrace.files import whole_file, write_json

SUBGROUPS = "subgroups.json"
ABSTENTION = "abstention.json"
UNCERTAINTY = "uncertainty.parquet"
_GROUPINGS = {
    "sex": schema.GENDER,
    "race": "RACE",
    "insurance": "INSURANCE",
    "care unit": schema.ICU_ADMISSION,
}
_AGES = (45, 65, 80)
_NOT_KNOWN = "not known"


def write_trust(
    run: Run, predictor: Predictor, inputs: Inputs, logits: np.ndarray, *, replicates: int, seed: int
) -> None:
    """Write `subgroups.json` for the report, and `evaluation/abstention.json` and `evaluation/uncertainty.parquet`.

    Args:
        run: The run that is judged.
        predictor: Its ensemble.
        inputs: What it was judged on.
        logits: Of each member, [member, sample].
        replicates: Bootstrap replicates behind every interval.
        seed: Seed of the bootstrap.
    """
    found = band(predictor, logits)
    outcomes, risks = inputs.outcomes, found[RISK]
    rows = subgroup_table(
        outcomes, risks, inputs.subject_ids, groups_of(inputs), replicates=replicates, seed=seed
    )
    write_json(run.path / SUBGROUPS, {"replicates": replicates, "groups": rows})
    spread = logits.std(0)
    curve = abstention_curve(outcomes, risks, spread) if len(logits) > 1 else []
    write_json(
        run.evaluation / ABSTENTION,
        {"uncertainty": "standard deviation of the members' logits", "members": len(logits), "curve": curve},
    )
    frame = inputs.labels.with_columns(
        *(pl.Series(name, value, dtype=pl.Float64) for name, value in found.items()),
        pl.Series("spread", spread),
    )
    with whole_file(run.evaluation / UNCERTAINTY) as partial:
        frame.write_parquet(partial)


def groups_of(inputs: Inputs) -> dict[str, list[str]]:
    """Sex, age band, race, insurance and care unit of each sample; a grouping that nobody has a value of is left out.

    Read from the record up to the prediction time, as the model's own static features are.
    """
    found = {}
    for name, prefix in _GROUPINGS.items():
        latest = latest_code(inputs.measurements, prefix)
        if len(latest):
            values = np.full(len(inputs), _NOT_KNOWN, dtype=object)
            code = latest[schema.CODE].str.strip_prefix(prefix).str.strip_prefix(schema.CODE_SEPARATOR)
            values[latest[SAMPLE].to_numpy()] = code.to_numpy()
            found[name] = [value or _NOT_KNOWN for value in values.tolist()]
    ages = ages_in_years(inputs.measurements, len(inputs))
    if np.isfinite(ages).any():
        found["age"] = [age_band(age) for age in ages]
    return found


def age_band(age: float) -> str:
    """`under 45`, `45 to 64`, `65 to 79`, `80 and over`, or `not known`."""
    if not np.isfinite(age):
        return _NOT_KNOWN
    names = (
        f"under {_AGES[0]}",
        f"{_AGES[0]} to {_AGES[1] - 1}",
        f"{_AGES[1]} to {_AGES[2] - 1}",
        f"{_AGES[2]} and over",
    )
    return names[int(np.searchsorted(_AGES, age, side="right"))]
