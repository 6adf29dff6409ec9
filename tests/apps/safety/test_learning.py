"""The model, its batches, its comparators and its verdict."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

from caretrace.apps.safety import comparators, learning
from caretrace.apps.safety.config import ModelConfig, SafetyConfig
from caretrace.apps.safety.evaluate import judge
from caretrace.apps.safety.hospital_steps import CRISIS
from caretrace.apps.safety.learning import fit_ensemble, predict
from caretrace.apps.safety.lending import with_lent
from caretrace.apps.safety.model import TASKS, SafetyModel, StepBatch
from caretrace.apps.safety.seasonal import HOLT_WINTERS, WEEK_AGO
from caretrace.apps.safety.sequences import HOSPITAL, HOUR, PATHWAY, SEQUENCE, STAFF, Scaling, Sequences
from caretrace.backbones import BACKBONES
from caretrace.errors import ConfigError
from caretrace.training.descent import DescentConfig

TINY = ModelConfig(d_model=16, d_category=2, d_head=8, dropout=0.0)


def _batch(scaling: Scaling, kind: str, steps: int = 6) -> StepBatch:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, steps, len(scaling.numeric), generator=generator)
    values[0, 1] = torch.nan
    names = torch.randint(0, 2, (2, steps, len(scaling.categorical)), generator=generator)
    padding = torch.zeros(2, steps, dtype=torch.bool)
    targets = torch.full((2, steps, len(scaling.targets)), torch.nan)
    return StepBatch(kind, values, names, padding, targets)


@pytest.fixture(scope="module")
def scalings(kinds):
    return {kind: Scaling.fit(each) for kind, each in kinds.items()}


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_a_step_is_foreseen_from_itself_and_the_past(backbone, scalings):
    config = ModelConfig(backbone=backbone, d_model=16, n_layers=1, d_head=8, dropout=0.0)
    torch.manual_seed(0)
    model = SafetyModel(scalings, config, learned_weights=True).eval()
    for kind in scalings:
        batch = _batch(scalings[kind], kind)
        before = model(batch)
        batch.values[:, 4:] += 3
        after = model(batch)
        for task in TASKS[kind]:
            torch.testing.assert_close(after[task][:, :4], before[task][:, :4])
            assert not torch.allclose(after[task][:, 4:], before[task][:, 4:])


def test_only_tasks_with_a_target_have_a_loss(scalings):
    model = SafetyModel(scalings, TINY, learned_weights=True)
    batch = _batch(scalings[PATHWAY], PATHWAY)
    assert model.losses(batch) == {}
    batch.targets[0, 0, scalings[PATHWAY].targets.index("delay")] = 8.0
    assert list(model.losses(batch)) == ["delay"]


def _planted(seed: int, count: int = 60, length: int = 20) -> Sequences:
    """Fatigue is what the step before said; burnout is chance."""
    rng = np.random.default_rng(seed)
    signal = rng.uniform(0.1, 0.9, (count, length))
    before = np.concatenate([np.full((count, 1), np.nan), signal[:, :-1]], 1)
    steps = pl.DataFrame(
        {
            SEQUENCE: np.repeat(np.arange(count), length),
            HOUR: np.tile(np.arange(length, dtype=float), count),
            "signal": signal.ravel(),
            "unit": rng.choice(["a", "b"], count * length),
            "fatigue": before.ravel(),
            "burnout": rng.uniform(0, 1, count * length),
            "retention": (rng.random(count * length) < 0.5).astype(float),
        }
    )
    return Sequences(STAFF, steps, ("signal",), ("unit",), ("fatigue", "burnout", "retention"))


def test_it_learns_what_memory_can_know_and_is_repeatable():
    train, tuning, held_out = (_planted(seed) for seed in range(3))
    scalings = {STAFF: Scaling.fit(train)}
    arrays = {name: {STAFF: scalings[STAFF].apply(each)} for name, each in (("a", train), ("b", tuning))}
    descent = DescentConfig(epochs=6, learning_rate=0.01, schedule="plateau")
    config = SafetyConfig(kinds=(STAFF,), batches=40, batch=8, model=TINY, descent=descent)
    members, log = fit_ensemble(scalings, arrays["a"], arrays["b"], config)
    again, _ = fit_ensemble(scalings, arrays["a"], arrays["b"], config)
    assert log[-1]["tuning_loss"] < 0.98
    for one, other in zip(members[0].parameters(), again[0].parameters(), strict=True):
        assert torch.equal(one, other)
    found = predict(members, scalings[STAFF].apply(held_out))["fatigue"]
    truth = held_out.steps["fatigue"].to_numpy()
    known = ~np.isnan(truth)
    assert np.corrcoef(found[known], truth[known])[0, 1] > 0.95
    # Trees see one step only, which says nothing of the one before.
    table = comparators.features(train, scalings[STAFF].categorical)
    others = comparators.features(tuning, scalings[STAFF].categorical)
    trees = comparators.fit_trees((train, table), (tuning, others), 0)
    own = comparators.features(held_out, scalings[STAFF].categorical)
    assert abs(np.corrcoef(comparators.predict_trees(trees, own)["fatigue"][known], truth[known])[0, 1]) < 0.2


def test_lags_do_not_cross_from_one_hospital_to_the_next(kinds):
    hospital = kinds[HOSPITAL]
    found = comparators.features(hospital, {})
    place = found.names.index("STATE//boarders, 3 h ago")
    own = hospital.steps["STATE//boarders"].to_numpy()
    for begin, end in zip(hospital.begins[:-1], hospital.begins[1:], strict=True):
        assert np.isnan(found.values[begin : begin + 3, place]).all()
        assert np.array_equal(found.values[begin + 3 : end, place], own[begin : end - 3], equal_nan=True)


def test_comparators_give_chances_of_levels_and_come_back_from_disk(kinds, scalings, tmp_path):
    hospital = kinds[HOSPITAL]
    half = pl.col(HOUR) < 300
    train, tuning = hospital.where(half), hospital.where(~half)
    known = scalings[HOSPITAL].categorical
    tables = comparators.features(train, known), comparators.features(tuning, known)
    trees = comparators.fit_trees((train, tables[0]), (tuning, tables[1]), 0)
    linear = comparators.fit_linear((train, tables[0]), 0)
    plain = comparators.fit_tables(train)
    comparators.save(tmp_path, trees, linear, plain)
    back = comparators.read(tmp_path)
    models = {
        "trees": comparators.predict_trees(back[comparators.TREES], tables[1]),
        "linear": comparators.predict_linear(back[comparators.LINEAR], tables[1]),
        **comparators.predict_tables(back["tables"], tuning),
    }
    assert set(models) == {"trees", "linear", comparators.NEDOCS, comparators.SEASON, HOLT_WINTERS, WEEK_AGO}
    for name, each in models.items():
        for target in CRISIS:
            assert each[target].shape == (len(tuning.steps), 5), name
            assert each[target].min() >= 0
            assert each[target].sum(1) == pytest.approx(1)
    truth = tuning.steps["crisis_0_h"].to_numpy()
    known_now = ~np.isnan(truth)
    expected = models["trees"]["crisis_0_h"] @ np.arange(5)
    assert np.corrcoef(expected[known_now], truth[known_now])[0, 1] > 0.8


def test_the_verdict_names_who_is_better_and_what_could_not_be_judged(kinds):
    hospital = kinds[HOSPITAL]
    rng = np.random.default_rng(0)
    ours, other = {}, {}
    for name in CRISIS:
        level = np.nan_to_num(hospital.steps[name].to_numpy()).astype(int)
        ours[name] = 0.8 * np.eye(5)[level] + 0.04
        other[name] = rng.dirichlet(np.ones(5), len(level))
    other["crisis_8_h"] = ours["crisis_8_h"] ** 3 / (ours["crisis_8_h"] ** 3).sum(1, keepdims=True)
    ours["crisis_8_h"] = rng.dirichlet(np.ones(5), len(level))
    found = judge(
        {HOSPITAL: hospital}, {HOSPITAL: {"caretrace": ours, "other": other}}, replicates=50, seed=0
    )
    assert found["metrics"]["crisis_1_h_auroc"]["value"] == 1.0
    assert found["gates"]["crisis_1_h_auroc"]["passed"]
    assert not found["gates"]["crisis_8_h_auroc"]["passed"]
    assert found["recommended"]["crisis_1_h_auroc"] == "caretrace"
    assert found["recommended"]["crisis_8_h_auroc"] == "other"
    assert (
        found["paired"]["other"]["crisis_8_h_auroc"]["high"]
        < 0
        < found["paired"]["other"]["crisis_1_h_auroc"]["low"]
    )
    assert found["warnings"]["caretrace"]["crisis_1_h"]["false_per_week"] == 0
    assert found["warnings"]["caretrace"]["crisis_8_h"]["false_per_week"] > 5
    none = hospital.where(pl.col("crisis_24_h") < 1)
    each = {HOSPITAL: {"caretrace": {name: np.full((len(none.steps), 5), 0.2) for name in CRISIS}}}
    assert "crisis_24_h" in judge({HOSPITAL: none}, each, replicates=50, seed=0)["too_few"]
    unknown = dataclasses.replace(
        none, steps=none.steps.with_columns(pl.lit(None, pl.Float64).alias("crisis_24_h"))
    )
    told = judge({HOSPITAL: unknown}, each, replicates=50, seed=0)["too_few"]["crisis_24_h"]
    assert told == "the held-out time has no outcome of it"


@pytest.mark.parametrize("wrong", [{"block_days": 0}, {"kinds": ("wards",)}, {"kinds": ()}, {"batch": 0}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SafetyConfig(**wrong)


def test_rare_answers_are_divided_between_training_and_tuning_by_person(kinds):
    staff = kinds[STAFF]
    early = pl.col(HOUR) < 300
    parts = {"train": {STAFF: staff.where(early)}, "tuning": {STAFF: staff.where(~early)}}
    steps = parts["train"][STAFF].steps.with_columns(
        burnout=pl.lit(0.5), retention=pl.col("subject_id").cast(pl.Float64)
    )
    parts["train"][STAFF] = dataclasses.replace(parts["train"][STAFF], steps=steps)
    none = parts["tuning"][STAFF].steps.with_columns(
        burnout=pl.lit(None, pl.Float64), retention=pl.lit(None, pl.Float64)
    )
    parts["tuning"][STAFF] = dataclasses.replace(parts["tuning"][STAFF], steps=none)
    found = with_lent(parts)
    train, tuning = found["train"][STAFF].steps, found["tuning"][STAFF].steps
    taught = train.filter(pl.col("burnout").is_not_null())["subject_id"].unique()
    asked = tuning.filter(pl.col("burnout").is_not_null())["subject_id"].unique()
    assert len(taught)
    assert 0.1 < len(asked) / (len(asked) + len(taught)) < 0.3
    assert not set(taught) & set(asked)
    # Sleepiness is answered often, so nothing of it moves.
    assert train["fatigue"].equals(steps["fatigue"])
    assert tuning["fatigue"].drop_nulls().equals(none["fatigue"].drop_nulls())
    lengths = np.diff(found["tuning"][STAFF].begins)
    assert len(lengths) == tuning["sequence"].n_unique()
    assert with_lent(found)["train"][STAFF].steps["burnout"].equals(train["burnout"])


def test_a_small_task_does_not_stop_the_others():
    """The tuning loss of a task with a hundredth of the values weighs a tenth."""
    train = _planted(0)
    rare = pl.when(pl.int_range(pl.len()) % 100 == 0).then(pl.col("burnout"))
    tuning = dataclasses.replace(
        train, steps=train.steps.with_columns(burnout=rare, fatigue=pl.col("burnout"))
    )
    tuning = dataclasses.replace(tuning, steps=tuning.steps.with_columns(retention=pl.lit(None, pl.Float64)))
    scalings = {STAFF: Scaling.fit(train)}
    arrays = {STAFF: scalings[STAFF].apply(tuning)}
    config = SafetyConfig(kinds=(STAFF,), model=TINY, stop_by_values=True)
    torch.manual_seed(0)
    model = SafetyModel(scalings, TINY, learned_weights=True).eval()
    learner = learning._Learner(model, arrays, arrays, config, 0)
    with torch.no_grad():
        model.heads["burnout"].layers[-1].bias += 20  # the rare task is foreseen as badly as can be
        both = learner.tuning_loss()
        whole = dataclasses.replace(tuning, steps=tuning.steps.with_columns(burnout=pl.lit(None, pl.Float64)))
        alone = learning._Learner(
            model, arrays, {STAFF: scalings[STAFF].apply(whole)}, config, 0
        ).tuning_loss()
        rarely = dataclasses.replace(
            tuning, steps=tuning.steps.with_columns(fatigue=pl.lit(None, pl.Float64))
        )
        badly = learning._Learner(
            model, arrays, {STAFF: scalings[STAFF].apply(rarely)}, config, 0
        ).tuning_loss()
    assert badly > 5 * alone
    assert both == pytest.approx((10 * alone + badly) / 11, rel=0.06)
    alike = dataclasses.replace(config, stop_by_values=False)
    with torch.no_grad():
        assert learning._Learner(model, arrays, arrays, alike, 0).tuning_loss() > 3 * both
