"""The figures of the comparisons: right on small examples, and on data made to have them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace.errors import InputError
from caretrace.hospital import open_data
from caretrace.hospital.histories import likeness as histories
from caretrace.hospital.histories.likeness import Visits
from caretrace.hospital.likeness import stay_hours
from caretrace.hospital.operations import OperationsConfig, likeness, simulate_operations
from caretrace.hospital.physiology import CHANNELS, curves

MONDAY = dt.datetime.fromisoformat("2023-01-02T00:00")

# --- arrivals, delays, months -------------------------------------------------------------------------------


def arrivals(per_day: np.ndarray) -> list[dt.datetime]:
    return [
        MONDAY + dt.timedelta(days=day, minutes=m % 1440)
        for day, n in enumerate(per_day)
        for m in range(int(n))
    ]


def test_poisson_days_have_dispersion_one_and_no_memory() -> None:
    rng = np.random.default_rng(0)
    found = likeness.describe_arrivals(arrivals(rng.poisson(100, 700)))
    assert found["dispersion of days"] == pytest.approx(1, abs=0.12)
    assert found["memory from day to day"] == pytest.approx(0, abs=0.1)
    assert found["arrivals a day"] == pytest.approx(100, abs=2)


def test_wandering_demand_shows_as_dispersion_and_memory() -> None:
    rng = np.random.default_rng(0)
    level = [0.0]
    for _ in range(699):
        level.append(0.9 * level[-1] + 0.19**0.5 * rng.normal())
    found = likeness.describe_arrivals(arrivals(rng.poisson(100 * np.exp(0.1 * np.array(level)))))
    assert 1.6 < found["dispersion of days"] < 2.4  # 1 + 100 * 0.1 ** 2
    assert 0.3 < found["memory from day to day"] < 0.6


def test_weekday_means_are_taken_out_before_dispersion() -> None:
    per_day = np.tile([120, 100, 100, 100, 100, 150, 140], 30)
    found = likeness.describe_arrivals(arrivals(per_day))
    assert found["dispersion of days"] == 0
    assert np.isnan(found["memory from day to day"])
    assert found["weekend day over weekday"] == pytest.approx(145 / 104)
    assert found["Monday over average"] == pytest.approx(120 / (810 / 7))


def test_hours_are_shares_and_differ_by_half_the_sum() -> None:
    one = likeness.hour_shares([MONDAY.replace(hour=h) for h in (3, 3, 3, 9)])
    assert (one[3], one[9], one.sum()) == (0.75, 0.25, 1)
    other = likeness.hour_shares([MONDAY.replace(hour=9)])
    assert likeness.total_variation(one, other) == 0.75


def test_a_few_days_are_refused() -> None:
    with pytest.raises(InputError, match="got 27 days; give four weeks"):
        likeness.daily_counts(arrivals(np.ones(27)))


def test_delays_of_a_log_normal() -> None:
    minutes = np.exp(np.log(7) + 0.3 * np.random.default_rng(0).standard_normal(100_000))
    found = likeness.describe_delays(minutes)
    assert found["median, min"] == pytest.approx(7, rel=0.01)
    assert found["standard deviation of the log"] == pytest.approx(0.3, rel=0.01)
    assert found["95th percentile over median"] == pytest.approx(np.exp(0.3 * 1.645), rel=0.01)
    assert found["more than twice the median"] == pytest.approx(0.0104, abs=0.001)  # P(z > log 2 / 0.3)
    with pytest.raises(InputError, match="above 0"):
        likeness.describe_delays(np.array([1.0, 0.0]))


def months(rates: dict[str, list[float]], first: dt.date = dt.date(2023, 1, 1)) -> pl.DataFrame:
    rows = []
    for site, values in rates.items():
        for k, rate in enumerate(values):
            month = dt.date(first.year + (first.month - 1 + k) // 12, (first.month - 1 + k) % 12 + 1, 1)
            days = (dt.date(month.year + month.month // 12, month.month % 12 + 1, 1) - month).days
            rows.append((site, month, 1000 * days, round(1000 * days * rate), 300 * days))
    return pl.DataFrame(rows, schema=["site", "month", "visits", "over_4h", "admitted"], orient="row")


def test_months_tell_hospitals_from_chance() -> None:
    steady = likeness.describe_months(months({"a": [0.1] * 12, "b": [0.3] * 12}))
    assert steady["stay over 4 h: correlation with last month"] == pytest.approx(1)
    assert steady["stay over 4 h: spread between hospitals"] == pytest.approx(0.1)
    assert steady["stay over 4 h: spread within a hospital"] == pytest.approx(0, abs=1e-12)
    assert steady["stay over 4 h"] == pytest.approx(0.2)
    assert steady["admitted"] == pytest.approx(0.3)
    # Days of the month are no season, and what both hospitals share is not their own.
    assert steady["busiest calendar month over quietest"] == pytest.approx(1)
    assert steady["hospital's own spread of months"] == pytest.approx(0, abs=1e-12)


def test_a_season_counts_whole_years_only() -> None:
    table = months({"a": [0.1] * 30})
    late = pl.col("month") >= dt.date(2025, 1, 1)
    grown = table.with_columns(visits=pl.when(late).then(pl.col("visits") * 2).otherwise(pl.col("visits")))
    np.testing.assert_allclose(likeness.season(grown), 1)
    assert np.isnan(likeness.season(months({"a": [0.1] * 5}))[5:]).all()


def test_tables_in_memory_are_those_on_disk(tmp_path: Path) -> None:
    small = OperationsConfig(size=0.1)
    simulate_operations(tmp_path / "raw", small, 8, 3)
    kept = likeness.city_tables(small, 8, 3, ("visits",))
    assert kept.keys() == {"visits"}
    disk = pl.read_csv(tmp_path / "raw" / "visits.csv", try_parse_dates=True, infer_schema_length=None)
    assert kept["visits"]["departure_time"].to_list() == disk["departure_time"].to_list()
    by_month = likeness.months_of(kept["visits"])
    assert by_month["visits"].sum() == disk.height
    stay = disk["departure_time"] - disk["arrival_time"]
    assert by_month["over_4h"].sum() == (stay > dt.timedelta(hours=4)).sum()


def test_figures_are_averaged_name_by_name() -> None:
    assert likeness.mean_figures([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 2.0}]) == {"a": 2.0, "b": 2.0}


# --- vital signs --------------------------------------------------------------------------------------------


def hourly(**channels: list[float | None]) -> pl.DataFrame:
    n = len(next(iter(channels.values())))
    columns = {c: channels.get(c, [None] * n) for c in CHANNELS}
    return pl.DataFrame({"subject_id": [1] * n, "hour": list(range(n)), **columns}).with_columns(
        pl.col(CHANNELS).cast(pl.Float64)
    )


def test_a_leading_channel_shows_at_its_lag() -> None:
    x = np.random.default_rng(0).standard_normal(3000)
    table = hourly(hr=x.tolist(), spo2=[None, None, *(-x[:-2])])  # saturation falls two hours after
    found = curves.correlation_ahead(table, "hr", "spo2", range(-3, 4))
    assert found[5] == pytest.approx(-1)
    assert np.abs(np.delete(found, 5)).max() < 0.1
    back = curves.correlation_ahead(table, "spo2", "hr", [-2])
    assert back[0] == pytest.approx(-1)


def test_autocorrelation_is_that_of_the_process() -> None:
    rng, x = np.random.default_rng(0), [0.0]
    for _ in range(20_000):
        x.append(0.8 * x[-1] + rng.normal())
    found = curves.correlation_ahead(hourly(hr=x), "hr", "hr", (0, 1, 3))
    np.testing.assert_allclose(found, [1, 0.8, 0.8**3], atol=0.03)


def test_short_recordings_say_nothing_about_memory() -> None:
    long = hourly(hr=np.random.default_rng(0).standard_normal(500).tolist())
    short = pl.DataFrame({"subject_id": [2] * 5, "hour": list(range(5)), "hr": [1.0, 900, 1, 900, 1]})
    both = pl.concat([long, short.select("subject_id", "hour", "hr")], how="diagonal")
    assert (
        curves.correlation_ahead(both, "hr", "hr", [1])[0]
        == curves.correlation_ahead(long, "hr", "hr", [1])[0]
    )


def test_density_counts_absent_hours_too() -> None:
    table = hourly(hr=[1, 2, None, 4], temp=[37, None, None, None]).filter(pl.col("hour") != 1)
    found = dict(zip(CHANNELS, curves.density(table).tolist(), strict=True))
    assert (found["hr"], found["temp"], found["spo2"]) == (0.5, 0.25, 0)


def test_gaps_are_steps_between_values() -> None:
    table = hourly(temp=[37, None, None, None, 37, 37, *[None] * 20, 37])
    np.testing.assert_allclose(curves.gaps(table, "temp", 6), [1 / 3, 0, 0, 1 / 3, 0, 1 / 3])


def test_histograms_keep_what_lies_outside_in_the_total() -> None:
    np.testing.assert_allclose(curves.histogram(hourly(hr=[10, 60, 70, 71]), "hr", [50, 70, 80]), [0.25, 0.5])


def test_stays_become_hours_and_what_is_outside_goes() -> None:
    start = MONDAY.replace(hour=10, minute=30)
    stays = pl.DataFrame({"stay_id": [7], "in_time": [start], "out_time": [start + dt.timedelta(hours=3)]})
    minutes = (-5, 10, 50, 70, 70, 181)
    vitals = pl.DataFrame(
        {
            "stay_id": [7] * 6,
            "time": [start + dt.timedelta(minutes=m) for m in minutes],
            "name": ["HR", "HR", "HR", "TEMP", "GCS", "HR"],
            "value": [1.0, 80.0, 90.0, 37.5, 15.0, 2.0],
        }
    )
    extra = [
        {"stay_id": 7, "time": start, "name": name, "value": 5.0}
        for name in ("SpO2", "RESP", "SBP", "DBP", "MAP")
    ]
    found = stay_hours(pl.concat([vitals, pl.DataFrame(extra)]), stays)
    assert found.select("subject_id", "hour", "hr", "temp").rows() == [(7, 0, 85.0, None), (7, 1, None, 37.5)]


# --- diagnoses ----------------------------------------------------------------------------------------------


def visits(*codes: str, subject: list[int]) -> Visits:
    sets = [frozenset(c.split()) for c in codes]
    n = len(sets)
    return Visits(sets, subject, [65] * n, [True] * n, [len(s) for s in sets])


def test_overlap_is_within_subjects_only() -> None:
    some = visits("a b", "b c", "a b", "z", "z", subject=[1, 1, 1, 2, 2])
    assert histories.jaccard_ahead(some, 1) == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)
    assert histories.jaccard_ahead(some, 2) == 1
    assert np.isnan(histories.jaccard_ahead(some, 3))
    assert histories.jaccard_of_strangers(some) == 0
    assert histories.first_visits(some) == [0, 3]
    assert histories.visit_counts(some).tolist() == [3, 2]


def test_frequencies_and_prevalence() -> None:
    some = visits("a b", "b", "b c", "d", subject=[1, 2, 3, 4])
    assert histories.frequencies(some).tolist() == [3, 1, 1, 1]
    assert histories.commonest(some, 2) == ["b", "a"]
    assert histories.prevalence(some, ["b", "x"]).tolist() == [0.75, 0]


def test_lost_zeros_come_back() -> None:
    assert [histories.category(c) for c in ("8", "38", "250.83", "V27", "E885", "4280")] == [
        "008", "038", "250", "V27", "E885", "428",
    ]  # fmt: skip


def test_age_and_sex_are_learnt_from_codes_that_tell_them() -> None:
    rng = np.random.default_rng(0)
    female, old = rng.random(600) < 0.5, rng.random(600) < 0.5
    codes = [frozenset({"f" if f else "m", "o" if o else "y"}) for f, o in zip(female, old, strict=True)]
    codes[:400] = [c | {f"c{i % 200}"} for i, c in enumerate(codes[:400])]
    told = Visits(codes, list(range(600)), [75 if o else 25 for o in old], female.tolist(), [2] * 600)
    found = histories.describe_visits(told)
    assert found["sex from first visit, AUROC"] > 0.99
    assert found["age from first visit, R²"] > 0.9
    blind = Visits(
        codes,
        told.subject,
        rng.permutation(told.age).tolist(),
        rng.permutation(female).tolist(),
        told.recorded,
    )
    assert histories.describe_visits(blind)["sex from first visit, AUROC"] < 0.6


def test_too_few_subjects_to_learn_from_are_refused() -> None:
    with pytest.raises(InputError, match="at least 200"):
        histories.describe_visits(visits("a", subject=[1]))


# --- open data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        open_data.vital_hours,
        open_data.diabetic_visits,
        open_data.admission_times,
        open_data.response_delays,
        open_data.department_months,
    ],
)
def test_missing_open_data_is_named(read, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there; name the folder with the open data"):
        read(tmp_path)
