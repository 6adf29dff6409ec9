"""What ought to fit beside open data does, within stated tolerances; docs/hospital/ lists what does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace.hospital import HospitalConfig, open_data, simulate
from caretrace.hospital.likeness import stay_hours
from caretrace.hospital.operations import OperationsConfig, likeness
from caretrace.hospital.physiology import CHANNELS, PhysiologyConfig, curves, simulated_hours

pytestmark = pytest.mark.data
EDGES = {"hr": (30, 165, 5), "spo2": (80, 102, 1), "resp": (4, 46, 2), "map": (30, 155, 5)}


@pytest.fixture(scope="module")
def hours(caretrace_data: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    return open_data.vital_hours(caretrace_data), simulated_hours(400, PhysiologyConfig(hours=80, seed=3))


@pytest.mark.parametrize("channel", EDGES)
def test_distributions_of_vital_signs_overlap(hours: tuple[pl.DataFrame, pl.DataFrame], channel: str) -> None:
    shares = [curves.histogram(table, channel, np.arange(*EDGES[channel])) for table in hours]
    assert 0.5 * np.abs(shares[0] - shares[1]).sum() < 0.12


@pytest.mark.parametrize("channel", ["hr", "spo2", "map"])
def test_memory_of_vital_signs_over_half_a_day(
    hours: tuple[pl.DataFrame, pl.DataFrame], channel: str
) -> None:
    real, simulated = (curves.correlation_ahead(t, channel, channel, range(1, 13)) for t in hours)
    assert np.abs(real - simulated).max() < 0.15


def test_heart_rate_and_saturation_move_together(hours: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    real, simulated = (curves.correlation_ahead(t, "hr", "spo2", range(-3, 4)) for t in hours)
    assert np.abs(real - simulated).max() < 0.1
    assert real[3] < -0.08  # so there is something to agree on
    assert simulated[3] < -0.08


def test_simulated_stays_are_measured_about_as_often(
    hours: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    simulate(tmp_path / "raw", HospitalConfig(subjects=300))
    stays, vitals = (
        pl.read_csv(tmp_path / "raw" / f"{name}.csv", try_parse_dates=True)
        for name in ("icu_stays", "vitals")
    )
    real, simulated = curves.density(hours[0]), curves.density(stay_hours(vitals, stays))
    difference = dict(zip(CHANNELS, (simulated - real).tolist(), strict=True))
    assert max(abs(value) for value in difference.values()) < 0.15, difference


@pytest.mark.slow
def test_arrivals_over_the_day_and_from_day_to_day(caretrace_data: Path) -> None:
    visits = likeness.city_tables(OperationsConfig(start="2023-03-01"), 84, 2, ("visits",))["visits"]
    admitted = visits.filter(pl.col("disposition").is_in(["ward", "intensive care"]))
    times = open_data.admission_times(caretrace_data)
    shape = likeness.hour_shares(times)
    assert likeness.total_variation(shape, likeness.hour_shares(visits["arrival_time"].to_list())) < 0.03
    assert likeness.total_variation(shape, likeness.hour_shares(admitted["arrival_time"].to_list())) < 0.06
    real = likeness.describe_arrivals(times)
    here = likeness.mean_figures(
        [likeness.describe_arrivals(site["arrival_time"].to_list()) for site in admitted.partition_by("site")]
    )
    assert here["busiest hour over average"] == pytest.approx(real["busiest hour over average"], abs=0.25)
    assert here["dispersion of days"] == pytest.approx(real["dispersion of days"], abs=0.25)


def test_the_readers_find_what_the_publishers_say(caretrace_data: Path) -> None:
    assert len(open_data.admission_times(caretrace_data)) == 8_971
    assert len(open_data.response_delays(caretrace_data)) == 436
    months = open_data.department_months(caretrace_data)
    assert months["month"].n_unique() == 30
    assert likeness.describe_months(months)["stay over 4 h: correlation with last month"] == pytest.approx(
        0.88, abs=0.02
    )
    assert len(set(open_data.diabetic_visits(caretrace_data).subject)) == pytest.approx(47_492, abs=5)
