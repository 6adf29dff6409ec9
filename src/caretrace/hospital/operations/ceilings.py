"""How well anybody could foresee what chance decides last: each outcome against the latent state it was drawn from.

The crisis levels have an oracle of their own (`oracle.crisis_oracle`). Ratings, records, reports and answers are
drawn in closed form, so the truth beside the tables says what there was to know. A model of the tables alone, which
sees neither sleepiness nor burnout, stays below.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata

from caretrace.hospital.operations.config import OperationsConfig
from caretrace.hospital.staff import safety

Floats = NDArray[np.float64]

REPORTED_WITHIN_DAYS = 14
_BINS = 40


@dataclasses.dataclass(frozen=True)
class Ceiling:
    """Figure of somebody who knows the latent state.

    Args:
        figure: `r2` or `auroc`.
        value: Of the figure.
        n: Outcomes.
        knows: What was known, in words.
    """

    figure: str
    value: float
    n: int
    knows: str


def ceilings(raw: Path, config: OperationsConfig | None = None) -> dict[str, Ceiling]:
    """Ceilings of all outcomes that are drawn in closed form.

    Args:
        raw: Folder with tables and `truth/`, from `simulate_operations`.
        config: The city; its coefficients say what a shift does to a handoff.

    Returns:
        `handoff`, `documentation`, `adverse`, `fatigue`, `burnout`, `retention` → its ceiling.
    """
    config = config or OperationsConfig()
    visits = pl.read_parquet(raw / "truth" / "visits.parquet")
    return {
        "handoff": _handoff(raw, visits, config),
        "documentation": _documentation(raw, visits),
        "adverse": _adverse(raw, visits),
        **_staff(raw),
    }


def explained(outcome: Floats, latent: Floats) -> float:
    """Share of the variance that the best function of a latent number explains (correlation ratio over bins)."""
    edges = np.unique(np.quantile(latent, np.linspace(0, 1, _BINS + 1)[1:-1]))
    place = np.digitize(latent, edges)
    count = np.bincount(place, minlength=len(edges) + 1)
    mean = np.bincount(place, outcome, minlength=len(edges) + 1) / np.maximum(count, 1)
    return float(1 - ((outcome - mean[place]) ** 2).sum() / ((outcome - outcome.mean()) ** 2).sum())


def ranking(outcome: NDArray[np.bool_], latent: Floats) -> float:
    """AUROC of a latent number."""
    positive = int(outcome.sum())
    rest = len(outcome) - positive
    if not positive or not rest:
        return float("nan")
    total = rankdata(latent)[outcome].sum() - positive * (positive + 1) / 2
    return float(total / (positive * rest))


def _handoff(raw: Path, visits: pl.DataFrame, config: OperationsConfig) -> Ceiling:
    runs = pl.read_csv(raw / "handoffs.csv", columns=["run_id", "rating"]).drop_nulls()
    visit = _visit_of_run(raw)
    rated = runs.join(visit, on="run_id").join(visits, on="visit_id").drop_nans("crew_kss")
    zero = np.zeros(len(rated))
    shift = safety.Shift(
        rated["kss"].to_numpy(),
        rated["overload"].to_numpy(),
        rated["overtime"].to_numpy(),
        rated["long_duties"].to_numpy(),
        rated["burnt_out"].to_numpy(),
    )
    points = safety.handoff_quality(shift, rated["crew_kss"].to_numpy(), zero, config.staff)
    value = explained(rated["rating"].to_numpy().astype(float), points)
    return Ceiling("r2", value, len(rated), "sleepiness of crew and shift, load and burnout")


def _visit_of_run(raw: Path) -> pl.DataFrame:
    return pl.read_csv(raw / "visits.csv", columns=["visit_id", "run_id"]).drop_nulls()


def _documentation(raw: Path, visits: pl.DataFrame) -> Ceiling:
    table = pl.read_csv(raw / "documentation.csv", columns=["visit_id", "items_completed", "items_expected"])
    both = table.join(visits, on="visit_id")
    share = (both["items_completed"] / both["items_expected"]).to_numpy()
    value = explained(share, both["item_probability"].to_numpy())
    return Ceiling("r2", value, len(both), "the chance that an item is filled in")


def _adverse(raw: Path, visits: pl.DataFrame) -> Ceiling:
    reports = pl.read_csv(raw / "incidents.csv", columns=["visit_id"]).unique()
    both = visits.filter(pl.col("adverse_probability") > 0)
    reported = both["visit_id"].is_in(reports["visit_id"].implode()).to_numpy()
    return Ceiling(
        "auroc",
        ranking(reported, both["adverse_probability"].to_numpy()),
        len(both),
        "the chance of an adverse event",
    )


def _tired(raw: Path) -> pl.DataFrame:
    """Each rating of sleepiness beside the truth of the duty that it ends."""
    duties = pl.read_parquet(raw / "truth" / "duties.parquet").with_columns(
        pl.col("start_time").cast(pl.Datetime("us"))
    )
    ends = pl.read_csv(raw / "duties.csv", try_parse_dates=True).select(
        "staff_id",
        pl.col("start_time").cast(pl.Datetime("us")),
        answer_time=pl.col("end_time").cast(pl.Datetime("us")),
    )
    rated = pl.read_csv(raw / "sleepiness.csv", try_parse_dates=True).with_columns(
        pl.col("answer_time").cast(pl.Datetime("us"))
    )
    return rated.join(ends.drop_nulls(), on=["staff_id", "answer_time"]).join(
        duties, on=["staff_id", "start_time"]
    )


def _staff(raw: Path) -> dict[str, Ceiling]:
    truth = pl.read_parquet(raw / "truth" / "staff.parquet")
    answers = pl.read_csv(raw / "survey.csv", try_parse_dates=True).with_columns(
        pl.col("answer_time").cast(pl.Datetime("us"))
    )
    state = truth.with_columns(pl.col("state_time").cast(pl.Datetime("us"))).select(
        "staff_id", "state_time", "burnout", "intends_to_leave"
    )
    both = answers.join(state, left_on=["staff_id", "answer_time"], right_on=["staff_id", "state_time"])
    tired = _tired(raw)
    wants = both["wants_to_leave"].cast(pl.Int8).cast(pl.Boolean).to_numpy()
    return {
        "fatigue": Ceiling(
            "r2",
            explained(tired["rating"].to_numpy().astype(float), tired["kss"].to_numpy()),
            len(tired),
            "sleepiness in the duty",
        ),
        "burnout": Ceiling(
            "r2",
            explained(both["exhaustion"].to_numpy().astype(float), both["burnout"].to_numpy()),
            len(both),
            "burnout at the day of the answer",
        ),
        "retention": Ceiling(
            "auroc",
            ranking(wants, both["intends_to_leave"].to_numpy().astype(float)),
            len(both),
            "whether there is the intent, which one answer in twenty denies",
        ),
    }
