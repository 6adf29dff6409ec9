"""What every application must do that is trained in a way of its own: train, judge, report, and be found again."""

import functools
import json
import math
import shutil

import pytest

from caretrace.application import Own
from caretrace.application.run import Run
from caretrace.application.verbs import SHAPE, evaluate, report, train
from caretrace.apps import APPS, load_application
from caretrace.config import from_dict, load
from caretrace.dataset import Dataset
from caretrace.errors import BundleError, ConfigError, DatasetError, OutputExistsError

from .own import CASES

OWN = [name for name in sorted(APPS) if isinstance(load_application(name), Own)]
every = pytest.mark.parametrize("name", OWN)
RUN_KEYS = {
    "application", "title", "source", "dataset", "fingerprint", "task", "seed", "config", "created_at", "versions",
    "tuning",
}  # fmt: skip


def trained(name, folder):
    """A small dataset, and a run on it."""
    case, application = CASES[name], load_application(name)
    dataset = Dataset(case.write(folder / "dataset"))
    found = train(application, dataset, load(application.config_class, None, case.settings), folder / "run")
    return Run(folder / "run"), found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return functools.cache(lambda name: trained(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def judged(runs):
    return functools.cache(lambda name: evaluate(load_application(name), runs(name)[0], replicates=100))


def test_every_application_of_its_own_way_is_tried():
    assert set(CASES) == set(OWN)


@every
def test_the_run_says_what_was_asked(name, runs):
    run, found = runs(name)
    assert run.read() == found
    assert set(found) >= RUN_KEYS
    assert (found["application"], found["task"]) == (name, None)
    assert found["fingerprint"] == run.dataset().fingerprint
    config = from_dict(load_application(name).config_class, found["config"])
    assert config == load(type(config), None, CASES[name].settings)
    assert found["tuning"]
    assert all(value is None or isinstance(value, int | float | str) for value in found["tuning"].values())
    assert any(run.bundle.iterdir())


@every
def test_the_same_seed_gives_the_same_model(name, runs, tmp_path):
    again, _ = trained(name, tmp_path)
    for file in runs(name)[0].bundle.rglob("*.safetensors"):
        assert (again.bundle / file.relative_to(runs(name)[0].bundle)).read_bytes() == file.read_bytes()


@every
def test_a_run_is_never_overwritten(name, runs):
    run, _ = runs(name)
    before = (run.path / "run.json").read_bytes()
    application = load_application(name)
    with pytest.raises(OutputExistsError):
        train(
            application, run.dataset(), load(application.config_class, None, CASES[name].settings), run.path
        )
    assert (run.path / "run.json").read_bytes() == before


@every
def test_labels_are_refused(name, runs, tmp_path):
    application, (run, _) = load_application(name), runs(name)
    with pytest.raises(ConfigError, match=f"{name} learns without labels"):
        train(application, run.dataset(), application.config_class(), tmp_path / "run", task="any")
    assert not (tmp_path / "run").exists()


@every
def test_figures_have_the_fixed_shape(name, runs, judged):
    found = judged(name)
    assert set(SHAPE) <= set(found)
    assert found["application"] == name
    assert found == json.loads((runs(name)[0].evaluation / "evaluation.json").read_text())
    assert found["metrics"]
    for figures in (found["metrics"], *found["comparators"].values()):
        for figure in figures.values():
            assert set(figure) == {"value", "low", "high"}
            assert all(math.isfinite(value) for value in figure.values())
    for gate in found["gates"].values():
        assert set(gate) >= {"passed", "value", "bound"}
        assert isinstance(gate["passed"], bool)


@every
def test_the_page_stands_alone(name, runs, judged, tmp_path):
    judged(name)
    page = report(load_application(name), runs(name)[0], tmp_path / "page.html").read_text()
    assert "Research use only" in page
    assert "<svg" in page
    assert 'src="http' not in page
    assert "<link" not in page


@every
def test_data_that_changed_since_are_refused(name, runs, tmp_path):
    run, _ = runs(name)
    copy = tmp_path / "run"
    copy.mkdir()
    shutil.copytree(run.bundle, copy / "bundle")
    (copy / "run.json").write_text(json.dumps({**run.read(), "fingerprint": "of others"}))
    with pytest.raises(DatasetError, match="its fingerprint differs"):
        evaluate(load_application(name), Run(copy), replicates=100)


@every
def test_a_damaged_bundle_is_refused(name, runs, tmp_path):
    run, _ = runs(name)
    shutil.copytree(run.path, tmp_path / "run")
    file = next(file for file in sorted((tmp_path / "run" / "bundle").rglob("*.safetensors")))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError):
        evaluate(load_application(name), Run(tmp_path / "run"), replicates=100)
