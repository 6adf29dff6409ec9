"""Planted rules: the truth lists what the tables hold, the rule decides who dies, and nothing else changed."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from caretrace.errors import ConfigError
from caretrace.hospital import RULES, HospitalConfig, simulate
from caretrace.hospital.config import Dynamics
from caretrace.hospital.course import run_course
from caretrace.hospital.oracle import death_probabilities
from caretrace.hospital.rules import A_SHARE, B_SHARES, EVENTS
from caretrace.hospital.severity import enter, static_risk

DEFAULT = HospitalConfig(subjects=260, seed=3, oracle_replicates=5)
# First half of the SHA-256 of what DEFAULT wrote when ward labs had ceased to know the outcome and the oracle had
# learnt the tasks' gap: raw files as they are, truth as CSV with four decimals. A new release of numpy may draw
# other numbers from the same seed: then write these anew with that release from a commit you trust, and say so in
# the changelog.
WRITTEN = {
    "README.md": "a4ed96dd2bd5bf0a",
    "admissions.csv": "d0574afe750584c0",
    "cultures.csv": "220c91d661c84865",
    "icu_stays.csv": "00671a6b5c42db35",
    "infusions.csv": "558a11d525b3f504",
    "labs.csv": "6051285d038c51d0",
    "patients.csv": "21f1312fd6051075",
    "prescriptions.csv": "54b86eead3a9a46c",
    "procedures.csv": "ed7e6e932a4e5eb1",
    "truth/README.md": "3098616a9934141e",
    "truth/severity.parquet": "cc43b35e179f5270",
    "truth/stays.parquet": "a123f95f74fca2b8",
    "vitals.csv": "074f99cf4805ff66",
}


def digests(folder: Path) -> dict[str, str]:
    out = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name == "simulation.json":  # which lists every setting, new ones too
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            text = io.BytesIO()
            pl.read_parquet(path).write_csv(text, float_precision=4)
            content = text.getvalue()
        out[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()[:16]
    return out


@dataclasses.dataclass(frozen=True)
class Planted:
    """A hospital with one rule, read back; `stays` are those of the task, with what their tables say."""

    folder: Path
    rule: Any
    stays: pl.DataFrame

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_csv(self.folder / f"{name}.csv", try_parse_dates=True, infer_schema_length=None)

    def truth(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "truth" / f"{name}.parquet")


KNOWN = {"labs": "result_time", "cultures": "result_time"}


def seen_events(folder: Path, rule: Any) -> pl.DataFrame:
    """Per stay, when A and B of a rule become known in its first 24 hours, from the raw tables alone."""
    stays = pl.read_csv(folder / "icu_stays.csv", try_parse_dates=True)
    out = stays.select(
        "stay_id",
        "admission_id",
        "in_time",
        until=pl.min_horizontal("out_time", pl.col("in_time") + pl.duration(hours=24)),
    )
    for letter, event in zip("AB", EVENTS[rule], strict=False):
        raw = pl.read_csv(folder / f"{event.table}.csv", try_parse_dates=True, infer_schema_length=None)
        key = "stay_id" if "stay_id" in raw.columns else "admission_id"
        time = KNOWN.get(event.table, "start_time")
        rows = raw.filter(pl.col(event.text) == event.row[event.text]).select(key, pl.col(time).alias(letter))
        near = out.join(rows, on=key).filter(pl.col(letter).is_between("in_time", "until"))
        out = out.join(near.select("stay_id", letter), on="stay_id", how="left", validate="1:1")
    if "B" not in out.columns:
        out = out.with_columns(B=pl.lit(None, dtype=out["A"].dtype))
    return out


def planted(folder: Path, rule: Any, **settings: Any) -> Planted:
    config = HospitalConfig(
        **{"subjects": 800, "seed": 21, "oracle_replicates": 5, "rules": (rule,)} | settings
    )
    simulate(folder, config)
    truth = pl.read_parquet(folder / "truth" / "stays.parquet")
    both = truth.join(seen_events(folder, rule), on="stay_id", validate="1:1").with_columns(
        a=pl.col("A").is_not_null(),
        b=pl.col("B").is_not_null(),
        first=(pl.col("A") < pl.col("B")).fill_null(False),
    )
    return Planted(folder, rule, both)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Planted]:
    return functools.cache(lambda rule: planted(tmp_path_factory.mktemp(rule) / "raw", rule))


@pytest.fixture(params=RULES)
def world(request: pytest.FixtureRequest, worlds: Callable[[Any], Planted]) -> Planted:
    return worlds(request.param)


def literally(rule: str, stays: pl.DataFrame) -> np.ndarray:
    """The rules in words of their own."""
    a, b, first = (stays[c].to_numpy() for c in ("a", "b", "first"))
    return {"single": a, "conjunctive": a & b, "ordered": first, "redundant": a | b, "decoy": a}[rule]


def held_out_auroc(x: np.ndarray, y: np.ndarray) -> float:
    model = LogisticRegression(C=10.0)
    score = cross_val_predict(model, x.astype(float), y, cv=5, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, score))


def test_the_same_bytes_as_ever(tmp_path: Path) -> None:
    simulate(tmp_path / "raw", DEFAULT)
    assert digests(tmp_path / "raw") == WRITTEN


def test_the_truth_lists_the_planted_rows_and_no_others(world: Planted) -> None:
    listed = world.truth("rule_events")
    assert listed.height > 150
    for event in EVENTS[world.rule]:
        raw = world.table(event.table)
        rows = raw.filter(pl.col(event.text) == event.row[event.text])
        lines = listed.filter(text=event.row[event.text])
        moments = lines["time_column"].unique().to_list()
        assert len(lines) == len(rows) * len(moments)
        for column in moments:
            mine = lines.filter(time_column=column)
            key = mine["key_column"][0]
            assert set(mine["table"]) == {event.table}
            assert set(mine["text_column"]) == {event.text}
            found = mine.join(rows, left_on=["key", "time"], right_on=[key, column], validate="1:1")
            assert found.height == rows.height


def test_events_are_known_before_the_landmark_and_end_after_it(world: Planted) -> None:
    stays = world.table("icu_stays").select("stay_id", "in_time", "out_time")
    listed = (
        world.truth("rule_events")
        .join(stays, on="stay_id")
        .with_columns(hours=(pl.col("time") - pl.col("in_time")).dt.total_minutes() / 60)
    )
    assert (listed["time"] <= listed["out_time"]).all()
    begins = listed.filter(pl.col("time_column") != "end_time")
    assert begins["hours"].is_between(1, 22).all()
    ends = listed.filter(pl.col("time_column") == "end_time", pl.col("time") < pl.col("out_time"))
    assert (ends["hours"] > 60).all()


def test_held_is_what_the_tables_say(world: Planted) -> None:
    both = world.stays.filter(pl.col("hours") >= 24).join(world.truth("rules"), on="stay_id", validate="1:1")
    assert (both["held"].to_numpy() == literally(world.rule, both)).all()
    assert 0.2 < both["held"].mean() < 0.4
    assert (
        both["log_hazard_change"] == pl.select(pl.when(both["held"]).then(15.0).otherwise(-15.0)).to_series()
    ).all()


def test_carriers_are_the_causes_of_a_rule_that_held(world: Planted) -> None:
    listed = world.truth("rule_events").join(world.truth("rules").select("stay_id", "held"), on="stay_id")
    assert (listed["carries"] == (listed["held"] & (listed["role"] == "cause"))).all()
    decoys = listed.filter(role="decoy")
    assert set(decoys["text"]) == ({"Digoxin level"} if world.rule == "decoy" else set())
    assert listed["carries"].any()


def test_the_rule_decides_who_dies(world: Planted) -> None:
    stays = world.stays.filter(pl.col("hours") >= 48)
    y = stays["died_in_icu"].to_numpy()
    x = stays.select("a", "b", "first").to_numpy()
    assert held_out_auroc(x, y) > 0.985
    known = stays.drop_nulls("oracle_icu_death_24h")  # five futures may all leave before the gap is over
    assert len(known) > 0.95 * len(stays)
    assert roc_auc_score(known["died_in_icu"], known["oracle_icu_death_24h"]) > 0.985
    later = world.stays.filter(pl.col("hours") >= 24)
    assert (
        held_out_auroc(later.select("a", "b", "first").to_numpy(), later["died_in_hospital"].to_numpy())
        > 0.93
    )


def test_hazards_with_and_without(world: Planted) -> None:
    rules = world.truth("rules").join(world.stays.select("stay_id", "hours"), on="stay_id")
    # Minutes are cut off, so a stay of 48 h and some seconds may count as 48 h.
    assert (rules["acts"] == (rules["hours"] >= 48)).mean() > 0.995
    for name in ("plain", "held", "not_held"):
        assert (rules[f"hazard_{name}"].is_not_null() == rules["acts"]).all()
    there = rules.filter("acts")
    assert np.allclose(np.log(there["hazard_plain"] / there["hazard_not_held"]), 15, atol=1e-3)
    assert np.allclose(
        there["hazard_held"], np.minimum(there["hazard_plain"] * np.exp(15), np.exp(3)), rtol=1e-3
    )


def test_events_come_at_their_rates_and_know_nothing_of_severity(world: Planted) -> None:
    rule = world.rule
    stays = world.stays.filter(pl.col("hours") >= 24).unique("subject_id", keep="first", maintain_order=True)
    share_b = A_SHARE[rule] * B_SHARES[rule][0] + (1 - A_SHARE[rule]) * B_SHARES[rule][1]
    for column, share in (("a", A_SHARE[rule]), ("b", share_b)):
        assert abs(stays[column].mean() - share) <= 4 * np.sqrt(share * (1 - share) / len(stays)), column
        if share in (0, 1):
            continue
        for latent in ("severity_first", "severity_24h", "age", "frailty"):
            r = np.corrcoef(stays[column].to_numpy(), stays[latent].to_numpy())[0, 1]
            assert abs(r) < 4 / np.sqrt(len(stays)), (column, latent, r)


def spread(y: np.ndarray) -> float:
    """Standard error of an AUROC of 0.5 (Mann-Whitney)."""
    dead, alive = y.sum(), (~y).sum()
    return float(np.sqrt((dead + alive + 1) / (12 * dead * alive)))


@pytest.mark.slow
def test_a_decoy_tells_nothing_that_its_cause_does_not(tmp_path: Path) -> None:
    # A weak rule: with a strong one, nothing is left to be told once the cause is known.
    stays = planted(tmp_path / "raw", "decoy", subjects=2000, planted_strength=3.0, oracle_replicates=1).stays
    stays = stays.filter(pl.col("hours") >= 48)

    def gap(by: str, within: str, value: bool) -> float:
        part = stays.filter(pl.col(within) == value)
        y = part["died_in_icu"].to_numpy()
        return float((roc_auc_score(y, part[by]) - 0.5) / spread(y))

    y = stays["died_in_icu"].to_numpy()
    assert (roc_auc_score(y, stays["b"]) - 0.5) / spread(y) > 4, "the decoy does not even look like a cause"
    assert all(abs(gap("b", "a", value)) < 2.5 for value in (False, True))
    assert sum(gap("a", "b", value) for value in (False, True)) > 4, (
        "the cause does not matter given the decoy"
    )


def test_order_matters(worlds: Callable[[Any], Planted]) -> None:
    stays = worlds("ordered").stays.filter(pl.col("hours") >= 48)
    both = stays.filter("a", "b")
    died = dict(both.group_by("first").agg(pl.col("died_in_icu").mean()).iter_rows())
    assert died[True] > 0.95
    assert died[False] < 0.02
    apart = (both["A"] - both["B"]).dt.total_minutes().abs()
    assert apart.min() >= 120
    assert held_out_auroc(stays.select("a", "b").to_numpy(), stays["died_in_icu"].to_numpy()) < 0.9


def test_a_conjunction_needs_both(worlds: Callable[[Any], Planted]) -> None:
    stays = worlds("conjunctive").stays.filter(pl.col("hours") >= 48)
    died = {
        (a, b): rate for a, b, rate in stays.group_by("a", "b").agg(pl.col("died_in_icu").mean()).iter_rows()
    }
    assert died.pop((True, True)) > 0.95
    assert len(died) == 3
    assert max(died.values()) < 0.02


def test_a_redundant_pair_comes_together_and_either_tells(worlds: Callable[[Any], Planted]) -> None:
    stays = worlds("redundant").stays.filter(pl.col("hours") >= 48)
    assert (stays["a"] == stays["b"]).all()
    assert (stays["A"] - stays["B"]).dt.total_minutes().abs().max() <= 61
    assert 0.3 < stays.filter("a")["first"].mean() < 0.7
    for one in ("a", "b"):
        assert roc_auc_score(stays["died_in_icu"], stays[one]) > 0.985


@pytest.mark.slow
def test_strength_is_a_dial(tmp_path: Path) -> None:
    """The figures in docs/hospital.md come from `pytest tests/hospital/test_rules.py -k dial -s`."""
    figures = {}
    print("\nstrength, stays of 48 h or more, die in the ICU, AUROC of the rule, of the oracle at 24 h")
    for strength in (0.0, 0.5, 2.0, 4.0, 8.0, 15.0):
        world = planted(
            tmp_path / str(strength),
            "single",
            subjects=2000,
            seed=0,
            oracle_replicates=20,
            planted_strength=strength,
        )
        stays = world.stays.filter(pl.col("hours") >= 48).drop_nulls("oracle_icu_death_24h")
        died = stays["died_in_icu"]
        figures[strength] = roc_auc_score(died, stays["a"])
        oracle = roc_auc_score(died, stays["oracle_icu_death_24h"])
        print(f"{strength:g} {len(stays)} {died.mean():.1%} {figures[strength]:.3f} {oracle:.3f}")
    values = list(figures.values())
    assert values == sorted(values)
    assert 0.45 < values[0] < 0.55 < values[1] < 0.70
    assert values[-1] > 0.995


def every_text(world: Planted) -> pl.DataFrame:
    """Which texts of the five streams stand in each stay's first 24 hours, one column per text."""
    stays = world.table("icu_stays").select("stay_id", "admission_id", "in_time")
    rows = []
    for name, text in (
        ("prescriptions", "drug"),
        ("procedures", "procedure"),
        ("labs", "name"),
        ("cultures", "test"),
        ("infusions", "fluid"),
    ):
        raw = world.table(name)
        key = "stay_id" if "stay_id" in raw.columns else "admission_id"
        near = stays.join(raw.rename({text: "text", KNOWN.get(name, "start_time"): "at"}), on=key)
        rows.append(
            near.filter(pl.col("at") <= pl.col("in_time") + pl.duration(hours=24)).select("stay_id", "text")
        )
    seen = pl.concat(rows).unique().with_columns(there=pl.lit(1.0))
    return seen.pivot(on="text", index="stay_id", values="there").fill_null(0)


@pytest.mark.slow
def test_a_model_of_everything_finds_the_causes(world: Planted) -> None:
    if world.rule == "ordered":
        pytest.skip("presence does not tell an order")
    stays = world.stays.filter(pl.col("hours") >= 48)
    wide = stays.select("stay_id").join(every_text(world), on="stay_id", how="left", maintain_order="left")
    x, names = wide.drop("stay_id").fill_null(0), wide.columns[1:]
    y = stays["died_in_icu"].to_numpy()
    assert len(names) > 50
    assert held_out_auroc(x.to_numpy(), y) > 0.97
    weight = dict(
        zip(names, LogisticRegression(C=10.0, max_iter=500).fit(x.to_numpy(), y).coef_[0], strict=True)
    )
    causes = [e.row[e.text] for e in EVENTS[world.rule]][: 1 if world.rule == "decoy" else 2]
    others = [abs(w) for name, w in weight.items() if name not in causes]
    assert min(weight[str(name)] for name in causes) > 1.5 * max(others)


def test_a_rule_of_no_strength_adds_rows_and_changes_nothing_else(tmp_path: Path) -> None:
    simulate(tmp_path / "plain", DEFAULT)
    simulate(tmp_path / "rules", dataclasses.replace(DEFAULT, rules=RULES, planted_strength=0.0))
    planted_texts = {str(e.row[e.text]) for events in EVENTS.values() for e in events}
    for path in sorted((tmp_path / "plain").glob("*.csv")):
        before = path.read_text().splitlines()
        after = (tmp_path / "rules" / path.name).read_text().splitlines()
        kept = [line for line in after if not any(text in line for text in planted_texts)]
        assert sorted(before) == sorted(kept), path.name


def test_the_same_seed_plants_the_same_and_rules_do_not_disturb_each_other(tmp_path: Path) -> None:
    config = dataclasses.replace(DEFAULT, rules=("single", "decoy"))
    for name in ("a", "b"):
        simulate(tmp_path / name, config)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    simulate(tmp_path / "c", dataclasses.replace(DEFAULT, rules=("single",)))
    one, two = (pl.read_parquet(tmp_path / f / "truth" / "rule_events.parquet") for f in "ac")
    assert set(one["rule"]) == {"single", "decoy"}
    # Who gets the event is settled before the course; a stay can only be too short for it.
    people = [set(table.filter(rule="single")["subject_id"]) for table in (one, two)]
    assert len(people[0] & people[1]) > 0.95 * len(people[0] | people[1])


def test_any_of_several_rules_is_enough(tmp_path: Path) -> None:
    simulate(
        tmp_path / "raw", dataclasses.replace(DEFAULT, rules=("single", "conjunctive"), planted_strength=2.0)
    )
    rules = pl.read_parquet(tmp_path / "raw" / "truth" / "rules.parquet").filter("acts")
    stays = rules.group_by("stay_id").agg(pl.col("held").any(), pl.col("log_hazard_change").unique())
    assert (stays["log_hazard_change"].list.len() == 1).all()
    assert (stays["held"] == (stays["log_hazard_change"].list.first() > 0)).all()


def test_rules_in_a_hospital_without_intensive_care(tmp_path: Path) -> None:
    config = HospitalConfig(subjects=30, icu_probability=0.0, rules=RULES)
    rows = simulate(tmp_path / "raw", config)
    assert rows["truth/rules.parquet"] == rows["truth/rule_events.parquet"] == 0


@pytest.mark.parametrize("knows", [True, False])
def test_the_oracle_knows_the_rule(knows: bool) -> None:
    """Expected deaths agree with deaths where the rule holds; an oracle that does not know it is caught."""
    rng, d, n = np.random.default_rng(0), Dynamics(), 3000
    age, frailty = rng.normal(64, 14, n), rng.normal(0, 1, n)
    effect = np.where(rng.random(n) < 0.3, 1.5, -1.5).astype(np.float32)
    start = enter(rng.choice([0.9, 1.3, 1.6], n), static_risk(age, frailty, d), frailty, d, rng)
    course = run_course(dataclasses.replace(start, planted=effect), d, rng)
    who, state = course.first.at[24]
    asked = state if knows else dataclasses.replace(state, planted=np.zeros(len(who), np.float32))
    icu, hospital = death_probabilities(asked, d, 40, np.random.default_rng(4))
    gaps = []
    for chance, died in ((icu, course.first.died[who]), (hospital, course.died[who])):
        for part in (effect[who] > 0, effect[who] < 0):
            expected, variance = chance[part].sum(), (chance[part] * (1 - chance[part])).sum()
            gaps.append(abs(died[part].sum() - expected) / np.sqrt(variance))
    assert max(gaps) < 4 if knows else min(gaps) > 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rules": ("singel",)}, "did you mean 'single'"),
        ({"rules": ("single", "single")}, "give each rule once"),
        ({"planted_strength": -1.0}, "planted_strength: got -1.0; give"),
        ({"dynamics": Dynamics(rule_from_hours=12)}, "dynamics.rule_from_hours: got 12; give"),
    ],
)
def test_impossible_rules_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HospitalConfig(**settings)


@pytest.mark.slow
def test_the_codes_are_those_ingest_writes(tmp_path: Path) -> None:
    from caretrace.ingest import ingest

    simulate(tmp_path / "raw", HospitalConfig(subjects=60, oracle_replicates=1, rules=RULES))
    quality = ingest("hospital", tmp_path / "raw", tmp_path / "out")
    assert quality["rows_quarantined"] == 0
    measured = pl.concat(pl.read_parquet(p) for p in sorted((tmp_path / "out" / "data").rglob("*.parquet")))
    listed = pl.read_parquet(tmp_path / "raw" / "truth" / "rule_events.parquet")
    assert listed["code"].n_unique() == 11
    found = listed.join(measured, on=["subject_id", "time", "code"], how="left")
    assert found["text_value"].is_not_null().all()
    assert found.height == listed.height
