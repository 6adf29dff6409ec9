"""The bands: measured as they say, inside over seeds, and moved by what should move them."""

import dataclasses

import numpy as np
import pytest

from caretrace.errors import ConfigError
from caretrace.hospital.operations import OperationsConfig, check, sensitivity
from caretrace.hospital.operations.bands import TARGETS, Band, measure
from caretrace.hospital.operations.experiments import burnout_odds_ratio, logistic_fit
from caretrace.hospital.staff import Staff

SMALL = OperationsConfig(size=0.2, start="2023-03-01")


def test_logistic_fit_finds_what_made_the_data():
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(50_000), rng.standard_normal((50_000, 2))])
    beta = np.array([-2.0, 0.7, -0.3])
    y = (rng.random(50_000) < 1 / (1 + np.exp(-x @ beta))).astype(float)
    assert logistic_fit(x, y) == pytest.approx(beta, abs=0.05)


def test_isolated_effects_follow_their_coefficients():
    flat = Staff(burnout_load=0.0)
    assert burnout_odds_ratio(flat, np.random.default_rng(0)) == pytest.approx(1.0, abs=1e-9)
    steep = dataclasses.replace(SMALL, staff=Staff(death_load=np.log(1.5), unsafe_long=0.0))
    value = measure(steep, 0, 21)
    assert value["death_load"] == pytest.approx(1.5, rel=0.2)
    assert value["unsafe_long"] == pytest.approx(1.0, abs=0.25)
    assert set(value) == set(TARGETS)


def test_a_band_knows_whether_it_holds():
    assert Band("a", 1.0, 0.9, 1.1, 1.1, (1.0, 1.2), "x").inside
    assert not Band("a", 1.0, 0.9, 1.1, 1.11, (1.0, 1.2), "x").inside


def test_check_wants_different_seeds():
    with pytest.raises(ConfigError, match="two different"):
        check([3])
    with pytest.raises(ConfigError, match="two different"):
        check([3, 3])


def test_a_replication_holds_a_week():
    with pytest.raises(ConfigError, match="at least 10 days"):
        measure(SMALL, 0, 9)


def test_replications_cover_the_year(monkeypatch):
    starts = []

    def noted(config: OperationsConfig, seed: int, days: int) -> dict[str, float]:
        starts.append((config.start, seed))
        return dict.fromkeys(TARGETS, float(seed))

    monkeypatch.setattr("caretrace.hospital.operations.bands.measure", noted)
    bands = check([5, 7, 9, 11], SMALL)
    assert starts == [("2023-03-01", 5), ("2023-05-31", 7), ("2023-08-30", 9), ("2023-11-30", 11)]
    assert bands[0].value == 8.0
    # Student's t with 3 degrees of freedom: 3.182 * 2.582 / 2.
    assert bands[0].interval == pytest.approx((8 - 4.108, 8 + 4.108), abs=2e-3)


def test_wrong_settings_fall_out_of_their_bands():
    flow = dataclasses.replace(SMALL.flow, drive_minutes=6.0, admission=0.0)
    bands = {band.name: band for band in check((0, 1), dataclasses.replace(SMALL, flow=flow), days=10)}
    assert not bands[TARGETS["scene_8"].name].inside
    assert not bands[TARGETS["admission"].name].inside
    assert bands[TARGETS["death_boarding"].name].low < 1000 / 82


@pytest.mark.slow
def test_every_band_holds():
    outside = [
        (band.name, band.value, band.interval)
        for band in check(range(16), days=21)
        # A mean over sixteen replications: allow what chance may do to it.
        if not (band.interval[1] >= band.low and band.interval[0] <= band.high)
    ]
    assert outside == []


def test_sensitivity_finds_what_matters():
    effects = {
        (effect.parameter, effect.band): effect
        for effect in sensitivity(
            SMALL, ["flow.work_up_minutes", "flow.drive_minutes", "staff.sick_days"], days=10
        )
    }
    stay = effects["flow.work_up_minutes", TARGETS["stay"].name]
    assert stay.low < -15
    assert stay.high > 15
    assert stay.matters
    assert effects["flow.drive_minutes", TARGETS["scene_8"].name].high < -5
    assert not effects["staff.sick_days", TARGETS["admission"].name].matters


def test_shares_are_not_moved_beyond_one():
    from caretrace.hospital.operations import parameters
    from caretrace.hospital.operations.sensitivity import _moved

    for row in parameters(SMALL):
        if "occupancy" in row.name:
            assert getattr(_moved(SMALL, row, 1.2).flow, row.name.split(".")[1]) <= 0.99


def test_sensitivity_needs_two_seeds():
    with pytest.raises(ConfigError, match="two different"):
        sensitivity(SMALL, ["flow.work_up_minutes"], seeds=(1,))


def test_sensitivity_knows_its_names():
    with pytest.raises(ConfigError, match=r"flow\.work_up_minutes"):
        sensitivity(SMALL, ["flow.workup_minutes"])
