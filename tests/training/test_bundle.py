"""A bundle is read back as it was written, or not at all; nothing in it can run code."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from caretrace import __version__
from caretrace.errors import BundleError
from caretrace.training.bundle import MANIFEST, WEIGHTS, read_bundle, write_bundle
from caretrace.training.run import METRICS_FILE

from .conftest import CONFIG

PARTS = {
    "config": {"backbone": "gru", "static": ["GENDER"]},
    "preprocessor": {"codes": ["a", "ü"]},
    "calibration": {"slope": 0.1 + 0.2},
    "metrics": {"auroc": 0.9},
}


def members():
    torch.manual_seed(0)
    return [{"layers.0.weight": torch.randn(3, 2), "layers.0.bias": torch.randn(3)} for _ in range(2)]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "comparators").mkdir(parents=True)
    (folder / "comparators" / "trees.txt").write_text("tree")
    write_bundle(
        folder, "mortality", PARTS, members(), {"README.md": "# card\n", "task.yaml": "trigger: x\n"}
    )
    return folder


def change_manifest(bundle: Path, **values) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest.update(values)
    (bundle / MANIFEST).write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))


class Bomb:
    """A pickle that leaves a file behind when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.write_text, (self.mark, "run"))


def test_the_bomb_of_these_tests_does_go_off(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def test_written_and_read_it_is_the_same(bundle):
    found = read_bundle(bundle)
    assert found.application == "mortality"
    assert dict(found.parts) == PARTS
    assert found.path == bundle
    for one, other in zip(found.members, members(), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in other)


def test_the_manifest_covers_every_file(bundle):
    manifest = json.loads((bundle / MANIFEST).read_text())
    files = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert set(manifest["sha256"]) == files - {MANIFEST}
    assert manifest["caretrace"] == __version__


def every_file(bundle):
    return sorted(json.loads((bundle / MANIFEST).read_text())["sha256"])


def test_one_flipped_bit_anywhere_is_noticed(bundle, tmp_path):
    for name in every_file(bundle):
        copy = tmp_path / "copy"
        shutil.copytree(bundle, copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        with pytest.raises(BundleError, match=rf"{name} is not what was written.*copy the bundle again"):
            read_bundle(copy)
        shutil.rmtree(copy)


def test_a_missing_file_is_named(bundle, tmp_path):
    for name in every_file(bundle):
        copy = tmp_path / "copy"
        shutil.copytree(bundle, copy)
        (copy / name).unlink()
        with pytest.raises(BundleError, match=rf"{name} is missing; copy the bundle again"):
            read_bundle(copy)
        shutil.rmtree(copy)


@pytest.mark.parametrize("keep", [0, 4, 100])
def test_truncated_weights_are_refused_even_if_the_manifest_was_made_to_agree(bundle, keep):
    weights = bundle / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(BundleError, match="SHA-256 differs"):
        read_bundle(bundle)
    sha256 = json.loads((bundle / MANIFEST).read_text())["sha256"]
    del sha256[WEIGHTS]
    change_manifest(bundle, sha256=sha256)
    with pytest.raises(BundleError, match=rf"{WEIGHTS}.*copy the bundle again or train again"):
        read_bundle(bundle)


def test_a_newer_format_names_the_version_to_install(bundle):
    change_manifest(bundle, format_version=2, caretrace="9.9.9")
    with pytest.raises(BundleError, match=r"has bundle format 2.*reads up to 1.*install caretrace 9\.9\.9"):
        read_bundle(bundle)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match=r"is not a bundle: manifest\.json is missing; point at"):
            read_bundle(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format_version": "new"}', "\x00"])
def test_a_damaged_manifest_is_told(bundle, text):
    (bundle / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json is damaged; copy the bundle again"):
        read_bundle(bundle)


@pytest.mark.parametrize("missing", ["sha256", "members", "application"])
def test_a_manifest_that_lacks_a_part_is_damaged(bundle, missing):
    change_manifest(bundle, **{missing: None})
    with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
        read_bundle(bundle)


def test_weights_of_other_members_than_the_manifest_says_are_refused(bundle):
    change_manifest(bundle, members=1)
    with pytest.raises(BundleError, match=r"model\.safetensors.*members"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    "name", ["last.ckpt", "model.pkl", "pytorch_model.bin", "comparators/trees.pkl", "extra.json"]
)
def test_what_the_manifest_does_not_name_is_never_read(bundle, tmp_path, name):
    (bundle / name).write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    assert dict(read_bundle(bundle).parts) == PARTS
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_pickle_in_the_place_of_a_file_is_not_run(bundle, tmp_path, name):
    (bundle / name).write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    with pytest.raises(BundleError):
        read_bundle(bundle)
    sha256 = json.loads((bundle / MANIFEST).read_text())["sha256"]
    del sha256[name]
    change_manifest(bundle, sha256=sha256)
    if name == WEIGHTS:
        with pytest.raises(BundleError):
            read_bundle(bundle)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_in_the_place_of_a_checkpoint_is_refused_and_not_run(training, tmp_path, name, how):
    run, mark = tmp_path / "run", tmp_path / "mark"
    training(run)
    member = run / "checkpoints" / "member-0"
    bomb = {"state_dict": {}, "epoch": 0, "callbacks": {}, "bomb": Bomb(mark)}
    if how == "pickle":
        (member / name).write_bytes(pickle.dumps(bomb, protocol=2))
    else:
        torch.save(bomb, member / name)
    if name == "last.ckpt":
        (member / "finished").unlink()
    with pytest.raises(BundleError, match=rf"{name}: not a checkpoint that can be read.*go on with --resume"):
        training(run, CONFIG)
    assert not mark.exists()
    assert (run / METRICS_FILE).exists()
