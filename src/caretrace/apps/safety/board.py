"""What a control room looks at: every hospital now, what is coming, what drives it, and how long ambulances take."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from caretrace.application import Progress, silent
from caretrace.apps.safety.drivers import Usual, outlooks, windows_before
from caretrace.apps.safety.finishing import reach
from caretrace.apps.safety.hospital_steps import CRISIS, HORIZONS_HOURS
from caretrace.apps.safety.model import QUANTILES
from caretrace.apps.safety.reading import Kinds, read_city
from caretrace.apps.safety.sequences import HOSPITAL, HOUR, PATHWAY, Sequences
from caretrace.apps.safety.site_hours import SiteHours
from caretrace.apps.safety.training import Fitted, finished, load, readings_of
from caretrace.errors import CohortError, ConfigError

if TYPE_CHECKING:
    from caretrace.application.run import Run
    from caretrace.dataset import Dataset

AHEAD = HORIZONS_HOURS[1:]
# National Emergency Department Overcrowding Scale; a band ends at its number.
NEDOCS_WORDS = (
    (20, "not busy"), (60, "busy"), (100, "extremely busy"), (140, "overcrowded"), (180, "severely overcrowded"),
)  # fmt: skip
PAST_HOURS = 24  # of the curve beside each hospital
CALLS_HOURS = 6  # calls of so many hours say how long ambulances take
_DRIVEN_AHEAD = 8
_MOST_DRIVERS = 5
_NEDOCS = "STATE//nedocs"


@dataclasses.dataclass(frozen=True, eq=False)
class Board:
    """A run and the hospitals of a dataset, ready to be asked for any hour.

    Args:
        fitted: The models.
        hours: The hospitals on their clock.
        hospital: The same as sequences.
        calls: Emergency calls, a step each; None without calls, or where the run knows none.
    """

    fitted: Fitted
    hours: SiteHours
    hospital: Sequences
    calls: Sequences | None

    @functools.cached_property
    def usual(self) -> Usual:
        """What is usual for each hospital; of all hours, so it is computed once."""
        return Usual(self.hospital)

    @property
    def times(self) -> list[dt.datetime]:
        """Full hours that can be asked for."""
        return [self.hours.start + dt.timedelta(hours=hour) for hour in range(self.hours.n_hours)]

    def at(self, time: dt.datetime | None = None) -> list[dict[str, Any]]:
        """What is known and foreseen at a full hour, the last one with a state by default.

        Args:
            time: UTC; what lies between two full hours is asked at the one before.

        Returns:
            One plain mapping per hospital: `site`, `time`, `nedocs` {value, words}, `horizons` [{hours, probability,
            low, high, level, warned}], `drivers` [{words, direction, effect}], `response_minutes` {p50, p80} of the
            city, None without calls, and `hours` [{time, nedocs, probability}], the last day, with the chance of a
            crisis 8 hours later. What is unknown is None.

        Raises:
            ConfigError: The dataset does not reach that time.
        """
        hour = self._hour(time)
        count = self.hours.n_hours
        rows = [number * count + hour for number in range(len(self.hours.sites))]
        horizons = sorted(AHEAD, key=lambda ahead: ahead != _DRIVEN_AHEAD)  # reasons are those of the first
        warnings = outlooks(self.fitted, self.hospital, rows, self.usual, horizons, _MOST_DRIVERS)
        minutes, past = self._response(hour), self._past(rows, hour)
        found = []
        for number, site in enumerate(self.hours.sites):
            each = {ahead: warnings[ahead][number] for ahead in AHEAD}
            value = self._nedocs(number, hour)
            found.append(
                {
                    "site": site,
                    "time": self._time(hour),
                    "nedocs": {"value": value, "words": None if value is None else nedocs_words(value)},
                    "horizons": [
                        {
                            "hours": ahead,
                            "probability": one.probability,
                            "low": one.low,
                            "high": one.high,
                            "level": one.level,
                            "warned": one.warned,
                        }
                        for ahead, one in each.items()
                    ],
                    "drivers": [dataclasses.asdict(driver) for driver in each[_DRIVEN_AHEAD].reasons],
                    "response_minutes": minutes,
                    "hours": past[number],
                }
            )
        return found

    def last_known(self, until: int | None = None) -> int:
        """The last hour with a crowding score, up to `until`; the last of a dataset may lack it."""
        known = ~np.isnan(self.hours.channel(_NEDOCS)[:, : None if until is None else until + 1]).all(0)
        rows = np.flatnonzero(known)
        return int(rows[-1]) if len(rows) else self.hours.n_hours - 1

    def _hour(self, time: dt.datetime | None) -> int:
        if time is None:
            return self.last_known()
        hour = int((time - self.hours.start).total_seconds() // 3600)
        if not 0 <= hour < self.hours.n_hours:
            last = self._time(self.hours.n_hours - 1)
            raise ConfigError(f"time: got {time.isoformat()}; the dataset has {self._time(0)} to {last}")
        return hour

    def _time(self, hour: int) -> str:
        return f"{(self.hours.start + dt.timedelta(hours=hour)).isoformat(timespec='seconds')}Z"

    def _nedocs(self, site: int, hour: int) -> float | None:
        value = float(self.hours.channel(_NEDOCS)[site, hour])
        return None if np.isnan(value) else value

    def _past(self, rows: list[int], hour: int) -> list[list[dict[str, Any]]]:
        """Each hospital's last day."""
        first = max(0, hour - PAST_HOURS + 1)
        # One window of each, read once: what each hour says needs no more than what lies before it.
        windows = windows_before(self.hospital, np.asarray(rows), self.fitted.config.window_hours)
        target = CRISIS[HORIZONS_HOURS.index(_DRIVEN_AHEAD)]
        asked = windows.begins[1:, None] - np.arange(hour + 1 - first, 0, -1)
        said = finished(self.fitted, windows.kind, readings_of(self.fitted, windows, asked.ravel(), [target]))
        chance = reach(said[target]).reshape(asked.shape)
        return [
            [
                {
                    "time": self._time(at),
                    "nedocs": self._nedocs(site, at),
                    "probability": float(chance[site, place]),
                }
                for place, at in enumerate(range(first, hour + 1))
            ]
            for site in range(len(rows))
        ]

    def _response(self, hour: int) -> dict[str, float | None]:
        """Minutes until half, and until four of five, of the ambulances are there; of the last calls."""
        if self.calls is not None:
            recent = self.calls.where(pl.col(HOUR).is_between(hour - CALLS_HOURS, hour, closed="left"))
            if len(recent):
                said = readings_of(self.fitted, recent, targets=["delay"])
                minutes = finished(self.fitted, recent.kind, said)["delay"]
                asked = {"p50": 0.5, "p80": 0.8}
                return {
                    name: float(np.median(minutes[:, QUANTILES.index(share)]))
                    for name, share in asked.items()
                }
        return {"p50": None, "p80": None}


def nedocs_words(value: float) -> str:
    """The band of the crowding scale that a value lies in."""
    return next((words for end, words in NEDOCS_WORDS if value <= end), "dangerously overcrowded")


def open_board(run: Run, dataset: Dataset, progress: Progress = silent) -> Board:
    """Read a dataset once, to be asked for many hours.

    Args:
        run: A run of this application that learned from hospitals.
        dataset: Any dataset of a city, of which everything up to an hour is used for that hour.
        progress: Told about each piece of work.

    Raises:
        BundleError: Not such a run.
        CohortError: No hospital in the dataset, or the run knows none.
    """
    fitted = load(run)
    shown = tuple(kind for kind in (HOSPITAL, PATHWAY) if kind in fitted.scalings)
    config = dataclasses.replace(fitted.config, kinds=shown or fitted.config.kinds)  # nobody asks for staff
    kinds, hours = read_city(dataset, config, progress=progress)
    if HOSPITAL not in kinds or HOSPITAL not in fitted.scalings:
        raise CohortError(
            f"{run.path}: it learned from {', '.join(fitted.scalings)}; the board needs hospitals"
        )
    return make_board(fitted, kinds, hours)


def make_board(fitted: Fitted, kinds: Kinds, hours: SiteHours) -> Board:
    """A board from what was read already, all hours of all hospitals among it."""
    calls = None
    if PATHWAY in kinds and PATHWAY in fitted.scalings:
        calls = kinds[PATHWAY].where(pl.col("stage") == "call")
    return Board(fitted, hours, kinds[HOSPITAL], calls)


def board(run: Run, dataset: Dataset, time: dt.datetime | None = None) -> list[dict[str, Any]]:
    """`open_board(run, dataset).at(time)`, for one hour."""
    return open_board(run, dataset).at(time)
