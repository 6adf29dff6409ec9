"""Bundles travel: to a folder, and to a hub that is a folder here."""

import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from caretrace.application.predictor import Predictor
from caretrace.application.run import Run
from caretrace.apps import load_application
from caretrace.errors import BundleError, ConfigError, OutputExistsError

APPLICATION = load_application("mortality")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for huggingface_hub that keeps repositories below a folder."""
    root = tmp_path / "hub"

    def snapshot_download(repo_id: str, revision: str | None = None) -> str:
        if not (root / repo_id).is_dir():
            raise OSError("404")
        return str(root / repo_id)

    def upload_folder(*, repo_id: str, folder_path: str, commit_message: str) -> str:
        shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)
        return f"hub/{repo_id}"

    library = types.SimpleNamespace(
        snapshot_download=snapshot_download,
        upload_folder=upload_folder,
        create_repo=lambda repo_id, private, exist_ok: (root / repo_id).mkdir(
            parents=True, exist_ok=exist_ok
        ),
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    return root


def weights(predictor: Predictor) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in predictor.members[0].state_dict().items()}


def same(one: Predictor, other: Predictor) -> bool:
    return all(np.array_equal(value, weights(other)[name]) for name, value in weights(one).items())


def test_a_saved_copy_is_the_same_bundle(tiny_run: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_pretrained(APPLICATION, Run(tiny_run).bundle)
    predictor.save_pretrained(tmp_path / "copy")
    assert same(predictor, Predictor.from_pretrained(APPLICATION, tmp_path / "copy"))
    with pytest.raises(OutputExistsError):
        predictor.save_pretrained(tmp_path / "copy")


def test_there_and_back_by_the_hub(tiny_run: Path, hub: Path) -> None:
    predictor = Predictor.from_pretrained(APPLICATION, Run(tiny_run).bundle)
    assert predictor.push_to_hub("ward/risk") == "hub/ward/risk"
    assert same(predictor, Predictor.from_pretrained(APPLICATION, "ward/risk"))


def test_a_bundle_that_was_changed_on_the_way_is_refused(tiny_run: Path, hub: Path) -> None:
    Predictor.from_pretrained(APPLICATION, Run(tiny_run).bundle).push_to_hub("ward/risk")
    (hub / "ward/risk/config.json").write_text("{}")
    with pytest.raises(BundleError, match="SHA-256 differs"):
        Predictor.from_pretrained(APPLICATION, "ward/risk")


def test_what_is_nowhere_is_said_so(hub: Path) -> None:
    with pytest.raises(BundleError, match="nobody/nothing: neither a folder here nor a bundle on the hub"):
        Predictor.from_pretrained(APPLICATION, "nobody/nothing")


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"caretrace\[hub\]"):
        Predictor.from_pretrained(APPLICATION, "ward/risk")
