"""What every row of the table must do."""

import numpy as np
import polars as pl
import pytest

from caretrace.comparators import COMPARATORS, ComparatorInput, FittedComparators, Table, comparator, fit_all
from caretrace.errors import BundleError, CohortError, ConfigError, InputError, OutputExistsError
from caretrace.evaluation import auroc

every = pytest.mark.parametrize("name", sorted(COMPARATORS))


def table(n, seed):
    """Risk rises with the first feature; of the others one has gaps, one never varies, one is empty."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 4)).astype(np.float32)
    labels = rng.random(n) < 1 / (1 + np.exp(-3 * values[:, 0]))
    values[rng.random(n) < 0.4, 1] = np.nan
    values[:, 2] = 7.0
    values[:, 3] = np.nan
    return Table(values, ("a", "b", "c", "d[{]}:"), labels)


def inputs(n, seed):
    rng = np.random.default_rng(seed)
    severity = rng.normal(size=n)
    labels = rng.random(n) < 1 / (1 + np.exp(-3 * severity))
    rows = [
        (sample, code, value, float(hour))
        for sample in range(n)
        for hour in range(0, 30, 6)
        for code, value in (("HR", 80 + 10 * severity[sample] + rng.normal()), ("MED//x, {y}", None))
    ]
    schema = {"sample": pl.UInt32, "code": pl.String, "numeric_value": pl.Float32, "hours_before": pl.Float32}
    static = rng.normal(size=(n, 1)).astype(np.float32)
    static[0, 0] = np.nan
    return ComparatorInput(pl.DataFrame(rows, schema=schema, orient="row"), static, ("age",), labels)


@every
def test_learns_saves_reloads_and_repeats_itself_bit_for_bit(name, tmp_path, capfd):
    train, tuning, fresh = table(300, 0), table(150, 1), table(300, 2)
    fitted = COMPARATORS[name].fit(train, tuning, seed=5)
    risks = fitted.predict_proba(fresh)
    assert risks.shape == (300,)
    assert np.all((risks >= 0) & (risks <= 1))
    assert auroc(fresh.labels, risks) > 0.85
    fitted.save(tmp_path / "saved")
    np.testing.assert_array_equal(COMPARATORS[name].load(tmp_path / "saved").predict_proba(fresh), risks)
    again = COMPARATORS[name].fit(train, tuning, seed=5)
    np.testing.assert_array_equal(again.predict_proba(fresh), risks)
    assert capfd.readouterr() == ("", "")
    assert fitted.describe().endswith(".")
    with pytest.raises(OutputExistsError):
        fitted.save(tmp_path / "saved")


@every
def test_threads_change_nothing(name, monkeypatch):
    monkeypatch.setattr("caretrace.comparators.boosted_trees.MAX_TREES", 10)  # spinning threads are slow
    train, tuning = table(200, 0), table(100, 1)
    one, two = (COMPARATORS[name].fit(train, tuning, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.predict_proba(tuning), two.predict_proba(tuning))


@every
def test_one_class_is_an_error_with_counts(name):
    good = table(60, 0)
    flat = Table(good.values, good.names, np.zeros(60, dtype=bool))
    with pytest.raises(CohortError, match=r"train.*0 of 60 labels are positive"):
        COMPARATORS[name].fit(flat, good)
    with pytest.raises(CohortError, match=r"tuning.*0 of 60 labels are positive"):
        COMPARATORS[name].fit(good, flat)
    with pytest.raises(CohortError, match="no labels"):
        COMPARATORS[name].fit(Table(good.values, good.names), good)


@every
def test_tiny_and_empty_features_are_survived(name):
    few = table(12, 3)
    risks = COMPARATORS[name].fit(few, few).predict_proba(few)
    assert np.isfinite(risks).all()
    nothing = Table(np.full((5, 4), np.nan, dtype=np.float32), few.names)
    assert np.isfinite(COMPARATORS[name].fit(few, few).predict_proba(nothing)).all()


@every
def test_other_features_are_refused(name):
    train = table(60, 0)
    fitted = COMPARATORS[name].fit(train, table(60, 1))
    with pytest.raises(InputError, match="fitted on 4"):
        fitted.predict_proba(Table(train.values[:, :3], train.names[:3]))
    with pytest.raises(InputError, match="fitted on 4"):
        fitted.predict_proba(Table(train.values, train.names[::-1]))


@every
def test_damaged_folders_are_named(name, tmp_path):
    fitted = COMPARATORS[name].fit(table(60, 0), table(60, 1))
    with pytest.raises(BundleError, match=r"comparator\.json"):
        COMPARATORS[name].load(tmp_path)
    for number, victim in enumerate(["comparator.json", "*.safetensors", "trees-0.txt"]):
        fitted.save(tmp_path / str(number))
        for path in (tmp_path / str(number)).glob(victim):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            with pytest.raises(BundleError, match="train again"):
                COMPARATORS[name].load(tmp_path / str(number))


def test_fit_all_predict_all_save_load(tmp_path):
    steps = []
    fitted = fit_all(inputs(120, 0), inputs(60, 1), progress=lambda *step: steps.append(step))
    assert steps[0] == (0, 3, "features")
    assert steps[-1] == (3, 3, "")
    fresh = inputs(100, 2)
    risks = fitted.predict_all(fresh)
    assert set(risks) == set(COMPARATORS)
    assert all(auroc(fresh.labels, values) > 0.85 for values in risks.values())
    fitted.save(tmp_path / "comparators")
    loaded = FittedComparators.load(tmp_path / "comparators")
    assert loaded.describe() == fitted.describe()
    for name, values in loaded.predict_all(fresh).items():
        np.testing.assert_array_equal(values, risks[name])


def test_features_come_from_training_alone():
    train, tuning = inputs(60, 0), inputs(60, 1)
    extra = pl.DataFrame(
        [(sample, "ONLY_IN_TUNING", 1.0, 1.0) for sample in range(60)],
        schema=tuning.events.schema,
        orient="row",
    )
    widened = ComparatorInput(pl.concat([tuning.events, extra]), tuning.static, ("age",), tuning.labels)
    fitted = fit_all(train, widened, ["logistic_regression"])
    assert fitted.features.codes == ("HR", "MED//x, {y}")


def test_unknown_names_and_misfits_name_the_remedy(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'boosted_trees'"):
        comparator("boosted_tree")
    good = inputs(20, 0)
    with pytest.raises(InputError, match="one label per sample"):
        ComparatorInput(good.events, good.static, ("age",), good.labels[:-1])
    with pytest.raises(InputError, match="one name per feature"):
        ComparatorInput(good.events, good.static, ("age", "sex"))
    with pytest.raises(InputError, match="lack hours_before"):
        ComparatorInput(good.events.drop("hours_before"), good.static, ("age",))
    with pytest.raises(InputError, match="same preprocessing"):
        fit_all(good, ComparatorInput(good.events, good.static, ("sex",), good.labels))
    with pytest.raises(BundleError, match=r"comparators\.json"):
        FittedComparators.load(tmp_path)
