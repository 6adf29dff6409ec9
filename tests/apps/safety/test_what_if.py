"""What an intervention did, and what part of it the model saw."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace.apps.safety.pathway_steps import PER_NURSE
from caretrace.apps.safety.sequences import HOSPITAL, PATHWAY
from caretrace.apps.safety.training import foresee, load
from caretrace.apps.safety.what_if import CREWS, LEVERS, NURSES, OUTCOMES, Weeks, effects, weeks
from caretrace.files import write_json
from caretrace.hospital.operations.ceilings import ceilings, explained, ranking
from caretrace.report.safety_page import render_safety_report


def _weeks(happened: float, foreseen: float, spread: float, seed: int) -> Weeks:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, spread, 6)
    return Weeks({"crisis": happened + noise}, {"crisis": foreseen + noise})


def test_an_effect_is_recovered_within_a_tenth_or_not():
    base = [_weeks(0.30, 0.31, 0.02, seed) for seed in range(3)]
    good = [_weeks(0.20, 0.215, 0.02, seed + 10) for seed in range(3)]
    blind = [_weeks(0.20, 0.30, 0.02, seed + 20) for seed in range(3)]
    found = effects(base, good, blind)["crisis"]
    assert found["simulated"]["value"] == pytest.approx(-0.10, abs=0.02)
    assert found["simulated"]["low"] < found["simulated"]["value"] < found["simulated"]["high"] < 0
    assert found["recovered"]
    assert found["seen_share"]["low"] < 1 < found["seen_share"]["high"] + 0.15
    assert abs(found["edited_share"]["value"]) < 0.35
    assert not effects(base, blind, None)["crisis"]["recovered"]
    assert effects(base, blind, None)["crisis"]["edited"] is None
    nothing = effects(base, [_weeks(0.30, 0.31, 0.02, seed + 30) for seed in range(3)], None)["crisis"]
    assert nothing["seen_share"] is None is nothing["recovered"]


def test_only_the_named_input_is_edited(kinds):
    hospital = kinds[HOSPITAL]
    edited = LEVERS["crews"].edit(hospital).steps
    free = edited["STATE//crews_free"].to_numpy()
    known = ~np.isnan(free)
    assert (free - hospital.steps["STATE//crews_free"].to_numpy() == CREWS)[known].all()
    share = free / edited["STATE//crews"].to_numpy()
    assert edited["share_of_crews_free"].to_numpy()[known] == pytest.approx(share[known], abs=1e-5)
    same = [name for name in hospital.steps.columns if "crews_free" not in name and name != "STATE//crews"]
    assert edited.select(same).equals(hospital.steps.select(same))
    nurses = LEVERS["nurses"].edit(kinds[PATHWAY]).steps
    more = (
        (nurses["here//STATE//nurses"] - kinds[PATHWAY].steps["here//STATE//nurses"]).drop_nulls().drop_nans()
    )
    assert set(more) == {float(NURSES)}
    load, before = (each[PER_NURSE].to_numpy() for each in (nurses, kinds[PATHWAY].steps))
    there = ~np.isnan(before) & (before > 0)
    assert (load[there] < before[there]).all()
    crews = LEVERS["crews"].edit(kinds[PATHWAY]).steps
    added = crews["STATE//crews"].to_numpy() - kinds[PATHWAY].steps["STATE//crews"].to_numpy()
    assert (added[~np.isnan(added)] == CREWS).all()
    assert LEVERS["lounge"].edit is None


def test_a_step_knows_how_many_crews_there_are_and_how_many_patients_a_nurse_has(kinds, site_hours):
    steps = kinds[PATHWAY].steps.filter(pl.col("hour") >= 1)
    row = steps["hour"].to_numpy().astype(int)
    assert steps["STATE//crews"].to_numpy() == pytest.approx(site_hours.channel("STATE//crews")[0, row])
    at = steps["site"].replace_strict({name: i for i, name in enumerate(site_hours.sites)}, default=None)
    known = at.is_not_null().to_numpy()
    place = at.drop_nulls().cast(pl.Int64).to_numpy(), row[known]
    patients, nurses = (site_hours.channel(name)[place] for name in ("in_department", "STATE//nurses"))
    assert steps[PER_NURSE].to_numpy()[known] == pytest.approx(patients / nurses, rel=1e-4, nan_ok=True)
    assert np.isnan(steps[PER_NURSE].to_numpy()[~known]).all()


def test_a_run_reads_what_it_learned_from_though_steps_hold_more(run, kinds):
    fitted, pathway = load(run), kinds[PATHWAY]
    more = dataclasses.replace(
        pathway, steps=pathway.steps.with_columns(new=pl.lit(1.0)), numeric=("new", *pathway.numeric)
    )
    before, after = foresee(fitted, pathway), foresee(fitted, more)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_weeks_compare_forecasts_with_what_they_were_about(run, kinds):
    fitted = load(run)
    found = weeks(fitted, kinds)
    assert set(found.happened) == set(OUTCOMES) == set(found.foreseen)
    for outcome, each in found.happened.items():
        assert each.shape == found.foreseen[outcome].shape == (3,)  # 22 days but the first week
        assert np.isfinite(each).all()
        assert np.isfinite(found.foreseen[outcome]).all()
    hours = kinds[HOSPITAL].steps.filter(kinds[HOSPITAL].steps["hour"].is_between(168, 335))
    assert found.happened["crisis"][0] == pytest.approx((hours["crisis_8_h"] >= 3).mean())


def test_the_page_tells_what_helped(run):
    base = [_weeks(0.30, 0.31, 0.01, seed) for seed in range(3)]
    better = [_weeks(0.20, 0.21, 0.01, seed + 10) for seed in range(3)]
    told = {"crews": {"words": LEVERS["crews"].words, "outcomes": effects(base, better, None)}}
    write_json(run.evaluation / "what_if.json", told)
    page = render_safety_report(run.path, []).read_text(encoding="utf-8")
    (run.evaluation / "what_if.json").unlink()
    assert "What helped" in page
    assert "10 more ambulances: hours in crisis" in page
    assert "What helped" not in render_safety_report(run.path, []).read_text(encoding="utf-8")


def test_ceilings_know_more_than_anybody_and_not_everything(small_city: tuple[Path, Path]):
    found = ceilings(small_city[0])
    assert set(found) == {"handoff", "documentation", "adverse", "fatigue", "burnout", "retention"}
    assert found["fatigue"].value > 0.6
    assert 0.5 < found["adverse"].value < 0.8
    assert found["burnout"].value > 0.5
    assert found["retention"].value > 0.85
    assert all(each.value < 0.99 for each in found.values())


def test_how_much_a_latent_number_explains():
    rng = np.random.default_rng(0)
    latent, noise = rng.normal(0, 1, (2, 20_000))
    assert explained(np.abs(latent) * 1.66 + noise, latent) == pytest.approx(0.5, abs=0.02)
    assert explained(noise, latent) < 0.01
    assert ranking(latent + noise > 0, latent) == pytest.approx(0.75 + 0.085, abs=0.05)
    assert ranking(np.array([True, False]), np.array([1.0, 1.0])) == 0.5
    assert np.isnan(ranking(np.array([True, True]), np.array([1.0, 2.0])))
