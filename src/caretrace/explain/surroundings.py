"""What a page about a subject shows beside the explanation: how the risk came about, and what goes together.

Two more files in the folder of the explanation: `surroundings.json` and `trajectory.parquet`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import polars as pl

from caretrace.errors import BundleError
from caretrace.files import read_json, write_json

FORMAT_VERSION = 1
MAIN, TRAJECTORY = "surroundings.json", "trajectory.parquet"
# Heads of a run's models, one file for all its explanations.
HEADS = "heads.json"


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """Groups are removed together, whatever the method of the explanation: credits by *removal*, of the logit.

    Args:
        hours_since_admission: From ICU admission to the prediction; None where unknown.
        low: Lower end of the ensemble's band; None for a single model.
        high: Upper end.
        members: Models of the ensemble.
        compared: `mean_risk`, `outcome_share`, `predictions`, `share_below` (of them with a lower risk) and
            `split`: what others of the run's evaluation got; None before it was evaluated.
        window_hours: Length of a window, hours; windows are counted back from the prediction.
        n_windows: Windows of that length; what is older is in one more.
        types: Per event type `event_type`, `measurements`, `credit`, `risk_without`.
        windows: Per window `window` (0 = the latest), `measurements`, `credit`, `risk_without`.
        types_over_time: The same per event type and window.
        evolution: `hours_earlier` [landmark] and, per code, `code`, `description` and `credit` [landmark]: by what
            was known at each landmark.
        interactions: `first` and `second` (rows of the measurements), `alone` and `other_alone` (credit of each),
            and `together`, what both are worth beyond that.
        looks: Per member of an ensemble that attends: `pooling` [head][step] and `hours` [step] before the
            prediction.
        trajectory: `hours_since_admission`, `risk`, `low`, `high` along the stay.
    """

    hours_since_admission: float | None
    low: float | None
    high: float | None
    members: int
    compared: dict[str, Any] | None
    window_hours: float
    n_windows: int
    types: list[dict[str, Any]]
    windows: list[dict[str, Any]]
    types_over_time: list[dict[str, Any]]
    evolution: dict[str, Any]
    interactions: list[dict[str, Any]]
    looks: list[dict[str, Any]]
    trajectory: pl.DataFrame

    def write(self, folder: Path) -> None:
        """Write into a folder that is there."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        fields.pop("trajectory").write_parquet(folder / TRAJECTORY)
        write_json(folder / MAIN, {"format_version": FORMAT_VERSION, **fields})


def read_surroundings(folder: Path) -> Surroundings | None:
    """What `Surroundings.write` wrote; None where an explanation was written without.

    Raises:
        BundleError: It is damaged, or of a newer version.
    """
    if not (folder / MAIN).is_file():
        return None
    try:
        stored = read_json(folder / MAIN)
        version = stored.pop("format_version")
        if version > FORMAT_VERSION:
            raise BundleError(f"{folder / MAIN} has format {version}, this caretrace reads {FORMAT_VERSION}")
        return Surroundings(**stored, trajectory=pl.read_parquet(folder / TRAJECTORY))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
        raise BundleError(
            f"{folder / MAIN} is damaged ({type(error).__name__}); explain the subject again"
        ) from None
