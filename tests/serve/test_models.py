"""Models that must not be served: damaged, foreign, newer, or carrying code. Nothing of a pickle ever runs."""

import ast
import contextlib
import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest

import caretrace
from caretrace.errors import BundleError, CaretraceError, ConfigError
from caretrace.serve.app import create_app
from caretrace.serve.bundles import open_bundles
from caretrace.serve.settings import ServeSettings
from caretrace.training.bundle import _sha256


class Canary:
    """Whoever unpickles it leaves a file behind."""

    def __init__(self, nest: Path) -> None:
        self.nest = nest

    def __reduce__(self):
        return os.mkdir, (str(self.nest),)


def laid(nest):
    """A canary, as a pickle and as torch would write one."""
    plain = pickle.dumps(Canary(nest))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", plain)
        file.writestr("archive/version", "3\n")
    return {"pickle": plain, "torch": buffer.getvalue()}


def test_the_canary_sings(tmp_path):
    """The test below can fail."""
    pickle.loads(laid(tmp_path / "nest")["pickle"])
    assert (tmp_path / "nest").exists()


@pytest.fixture
def copied(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


def served(run, tmp_path):
    return create_app(ServeSettings((run,), tmp_path / "state"))


def every_file(run):
    return sorted(path for path in (run / "bundle").rglob("*") if path.is_file())


def vouch(run):
    """Make the manifest agree with the files: an attacker would."""
    path = run / "bundle" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["sha256"] = {name: _sha256(run / "bundle" / name) for name in manifest["sha256"]}
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_canary_never_runs_on_any_load_path(kind, tiny_run, tmp_path, serving):
    nest = tmp_path / "nest"
    egg = laid(nest)[kind]
    for number, file in enumerate(every_file(tiny_run)):
        run = tmp_path / f"run{number}"
        shutil.copytree(tiny_run, run)
        (run / "bundle" / file.relative_to(tiny_run / "bundle")).write_bytes(egg)
        if file.name != "manifest.json":
            with pytest.raises(BundleError, match="SHA-256 differs"):
                served(run, tmp_path)
            vouch(run)
        with contextlib.suppress(CaretraceError, ValueError):
            served(run, tmp_path)
        assert not nest.exists(), file
        shutil.rmtree(run)
    for name in ("run.json", "evaluation/evaluation.json", "evaluation/predictions.parquet"):
        run = tmp_path / f"laid-{name.replace('/', '-')}"
        shutil.copytree(tiny_run, run)
        (run / name).write_bytes(egg)
        with contextlib.suppress(CaretraceError):
            client = serving((run,)).client
            assert client.get("/subjects").status_code in (200, 503)
            assert client.get(f"/bundles/{run.name}/card").status_code in (200, 503)
        assert not nest.exists(), name
    client = serving((tiny_run,)).client
    for path in (
        "/predict/mortality?prediction_time=2020-01-01T00:00:00Z",
        "/vitals",
        "/explain",
        "/session",
    ):
        for content in ("application/vnd.apache.parquet", "application/octet-stream", "application/json"):
            answer = client.post(path, content=egg, headers={"content-type": content})
            assert 400 <= answer.status_code < 500, (path, content)
    assert not nest.exists()


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("model.safetensors", lambda data: data[:-100], "SHA-256 differs"),
        (
            "model.safetensors",
            lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:],
            "SHA-256 differs",
        ),
        ("preprocessor.json", lambda data: data.replace(b"LAB//", b"LAX//"), "SHA-256 differs"),
        ("manifest.json", lambda data: data[:-10], "damaged"),
        (
            "manifest.json",
            lambda data: data.replace(b'"format_version": 1', b'"format_version": 2'),
            "bundle format 2",
        ),
        ("manifest.json", lambda data: data.replace(b'"mortality"', b'"vitals"'), "not of 'mortality'"),
    ],
)
def test_a_damaged_newer_or_foreign_bundle_is_not_served(copied, tmp_path, name, change, told):
    path = copied / "bundle" / name
    data = path.read_bytes()
    assert change(data) != data
    path.write_bytes(change(data))
    with pytest.raises(BundleError, match=told):
        served(copied, tmp_path)


def test_a_wrong_vocabulary_is_not_served(copied, tmp_path):
    path = copied / "bundle" / "preprocessor.json"
    value = json.loads(path.read_text())
    value["vocabulary"]["codes"] = value["vocabulary"]["codes"][:-1]
    path.write_text(json.dumps(value))
    vouch(copied)
    with pytest.raises(BundleError, match="do not belong together"):
        served(copied, tmp_path)


def test_a_folder_that_is_no_run_is_said(tmp_path):
    with pytest.raises(BundleError, match=r"run\.json is missing"):
        open_bundles((tmp_path,))


def test_two_runs_of_one_name_or_an_odd_name_are_refused(tiny_run, tmp_path):
    for folder in ("a", "b"):
        shutil.copytree(tiny_run, tmp_path / folder / "run")
    with pytest.raises(ConfigError, match="both called 'run'"):
        open_bundles((tmp_path / "a" / "run", tmp_path / "b" / "run"))
    shutil.copytree(tiny_run, tmp_path / "a b")
    with pytest.raises(ConfigError, match="part of an address"):
        open_bundles((tmp_path / "a b",))


def test_nothing_in_the_code_reads_a_pickle():
    risky = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for path in Path(caretrace.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            if node.func.attr in ("load", "loads", "open"):
                assert owner not in risky, path
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            if (owner, node.func.attr) == ("torch", "load"):
                assert isinstance(given.get("weights_only"), ast.Constant), path
                assert given["weights_only"].value is True, path
            assert "allow_pickle" not in given or given["allow_pickle"].value is False, path
