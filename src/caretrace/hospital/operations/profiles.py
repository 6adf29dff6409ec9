"""Shapes over the day, triage, and how both split between ambulances and people who walk in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.operations.config import Flow

Floats = NDArray[np.float64]


def _shares(values: tuple[float, ...]) -> Floats:
    out = np.array(values)
    return out / out.sum()


# Arrivals at an emergency department by hour from 0 h: patientflow's UCLH-shaped synthetic arrivals.
ARRIVALS = _shares(
    (1.7, 1.7, 1.6, 1.2, 1.8, 1.0, 1.5, 2.7, 3.5, 5.4, 6.3, 6.7,
     7.2, 7.5, 7.4, 6.4, 6.2, 6.0, 5.8, 5.6, 5.3, 3.2, 2.3, 2.0)
)  # fmt: skip
# Emergency calls by hour from 0 h; assumed, with the usual trough before dawn and plateau by day.
CALLS = _shares(
    (2.5, 2.2, 1.9, 1.7, 1.6, 1.6, 2.1, 3.1, 4.2, 5.1, 5.5, 5.6,
     5.5, 5.3, 5.2, 5.2, 5.3, 5.4, 5.4, 5.3, 5.0, 4.5, 3.9, 3.2)
)  # fmt: skip
HOURS_TO_ARRIVAL = 0.69  # call to hospital door, mean; what the model gives

# Manchester triage: share of all arrivals and longest wait for a physician (s40001-019-0390-9).
TRIAGE = _shares((0.4, 5.9, 26.9, 53.9, 12.9))
MAX_WAIT_MINUTES = (0.0, 10.0, 30.0, 90.0, 120.0)
# Of those brought by ambulance; assumed, more urgent. Walk-ins are what is left over.
TRIAGE_AMBULANCE = _shares((0.8, 10.5, 38.0, 44.0, 6.7))

# Hour of the day at which people leave a ward; assumed.
DISCHARGE_HOURS = np.arange(9, 20)
DISCHARGE_SHARES = _shares((4, 10, 15, 16, 15, 13, 10, 7, 5, 3, 2))


def site_weights(sites: int) -> Floats:
    """Share of the city's patients per hospital: the largest sees 2.3 times the smallest (assumed)."""
    weights = np.linspace(1.4, 0.6, sites) if sites > 1 else np.ones(1)
    return weights / weights.sum()


def daily_visits(flow: Flow, sites: int) -> float:
    """Expected arrivals a day at all sites, averaged over the week."""
    return flow.visits_per_site * sites


def daily_runs(flow: Flow, size: float) -> float:
    """Expected runs a day, averaged over the week."""
    return flow.runs_per_year * size / 365


def week_factor(weekend: bool, ratio: float) -> float:
    """Factor on a day's demand so that weekends are `ratio` times weekdays and the week averages 1."""
    weekday = 7 / (5 + 2 * ratio)
    return weekday * ratio if weekend else weekday


def ambulance_share(flow: Flow, size: float, sites: int) -> float:
    """Share of arrivals that come by ambulance."""
    return daily_runs(flow, size) * flow.transported / daily_visits(flow, sites)


def walk_ins(flow: Flow, size: float, sites: int, weekend: bool) -> Floats:
    """Expected walk-ins per hour of a day: all arrivals less those whom ambulances bring, `[24]`."""
    everybody = daily_visits(flow, sites) * week_factor(weekend, flow.weekend_visits) * ARRIVALS
    brought = daily_runs(flow, size) * flow.transported * week_factor(weekend, flow.weekend_calls)
    late = HOURS_TO_ARRIVAL
    by_hour = brought * ((1 - late) * CALLS + late * np.roll(CALLS, 1))
    return np.maximum(everybody - by_hour, 0.05 * everybody)


def triage_walk_in(share: float) -> Floats:
    """Triage mix of walk-ins that, with the ambulances' `share`, makes the mix of all arrivals."""
    rest = np.maximum(TRIAGE - share * TRIAGE_AMBULANCE, 1e-4)
    return rest / rest.sum()
