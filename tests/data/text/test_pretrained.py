"""Hugging Face encoders: the real loading code, on tiny models built on the spot."""

import json
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from caretrace.data.text import PretrainedEncoder, load_encoder, save_encoder
from caretrace.data.text.encoder import digest
from caretrace.data.text.longformer import AttentionWindow
from caretrace.errors import BundleError, ConfigError

from .tiny_models import TEXTS, bert, longformer, modernbert

MODELS = {"longformer": longformer, "modernbert": modernbert, "bert": bert}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: make(folder / name) for name, make in MODELS.items()}


def one_at_a_time(folder: Path, texts: list[str], max_length: int, pooling: str) -> np.ndarray:
    """The obvious way, with nothing of ours."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        if model.config.model_type == "longformer":
            attention = torch.zeros_like(tokens["input_ids"])
            attention[:, 0] = 1
            tokens["global_attention_mask"] = attention
        with torch.no_grad():
            hidden = model(**tokens).last_hidden_state[0]
        found.append(hidden[0] if pooling == "cls" else hidden.mean(0))
    return torch.stack(found).numpy()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_gives_what_one_text_at_a_time_gives(folders, name, pooling):
    encoder = PretrainedEncoder.load(folders[name], pooling=pooling, tokens_per_batch=300)
    vectors = encoder.encode(TEXTS)
    expected = one_at_a_time(folders[name], TEXTS, encoder.max_length, pooling)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), encoder.width) == (len(TEXTS), 16)
    np.testing.assert_allclose(vectors, expected, atol=2e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3  # else anything would be close


@pytest.mark.parametrize(
    ("name", "pooling"), [("longformer", "cls"), ("modernbert", "mean"), ("bert", "cls")]
)
def test_pooling_by_default_is_what_the_model_is_made_for(folders, name, pooling):
    assert PretrainedEncoder.load(folders[name]).pooling == pooling


@pytest.mark.parametrize(("name", "longest"), [("longformer", 256), ("modernbert", 128), ("bert", 64)])
def test_length_by_default_is_all_that_the_model_takes(folders, name, longest):
    encoder = PretrainedEncoder.load(folders[name])
    assert encoder.max_length == longest
    encoder.encode(["min " * 1000])  # the last position exists


def test_long_texts_are_cut_and_counted(folders):
    encoder = PretrainedEncoder.load(folders["bert"], max_length=12)
    vectors = encoder.encode(["lactate", "heparin " * 50, "heparin " * 80, "heparin " * 10])
    assert encoder.truncated == 2
    np.testing.assert_allclose(vectors[1], vectors[2], atol=1e-6)
    np.testing.assert_allclose(vectors[1], vectors[3], atol=1e-6)  # ten words and two special tokens just fit
    encoder.encode(["heparin " * 11])
    assert encoder.truncated == 3


def test_no_texts_are_no_vectors(folders):
    assert PretrainedEncoder.load(folders["bert"]).encode([]).shape == (0, 16)


@pytest.mark.parametrize("window", [8, 32, [8, 32]])
def test_a_smaller_attention_window_changes_no_vector(tmp_path, window):
    """Texts of every length around the window, where an error of one token would show."""
    folder = longformer(tmp_path, window=window)
    encoder = PretrainedEncoder.load(folder, tokens_per_batch=1)  # a window for every text
    texts = [" ".join(["the"] * n) for n in range(1, 45)]
    expected = one_at_a_time(folder, texts, encoder.max_length, "cls")
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=2e-5)
    np.testing.assert_allclose(encoder.encode(texts[::-1]), expected[::-1], atol=2e-5)


def test_a_window_that_does_not_reach_across_the_text_would_be_noticed(tmp_path, monkeypatch):
    folder = longformer(tmp_path, window=32)
    monkeypatch.setattr(AttentionWindow, "_windows", lambda self, length: [4, 4])
    text = ["heparin units blood culture the patient was extubated this morning"]
    expected = one_at_a_time(folder, text, 256, "cls")
    assert np.abs(PretrainedEncoder.load(folder).encode(text) - expected).max() > 1e-3


def test_a_short_text_costs_a_short_text(folders):
    window = AttentionWindow(transformers.AutoModel.from_pretrained(folders["longformer"]))
    assert [window.padded(length) for length in (2, 5, 17, 18, 40)] == [2, 8, 32, 32, 64]
    other = AttentionWindow(transformers.AutoModel.from_pretrained(folders["bert"]))
    assert [other.padded(length) for length in (2, 5, 40)] == [2, 5, 40]


def test_without_global_attention_the_first_token_would_see_half_a_window(folders):
    model = transformers.AutoModel.from_pretrained(folders["longformer"]).eval()
    text = [" ".join(["the"] * 60)]
    tokens = transformers.AutoTokenizer.from_pretrained(folders["longformer"])(text, return_tensors="pt")
    with torch.no_grad():
        local = model(**tokens).last_hidden_state[:, 0].numpy()
    assert np.abs(local - PretrainedEncoder.load(folders["longformer"]).encode(text)).max() > 1e-3


# --- fingerprints --------------------------------------------------------------------------------


def fingerprint(folder: Path, **settings) -> str:
    return digest(PretrainedEncoder.load(folder, **settings).fingerprint)


def test_the_fingerprint_is_that_of_the_content(folders, tmp_path):
    copy = Path(shutil.copytree(folders["bert"], tmp_path / "copy"))
    assert fingerprint(copy) == fingerprint(folders["bert"])
    assert len({fingerprint(copy), fingerprint(copy, pooling="mean"), fingerprint(copy, max_length=32)}) == 3
    assert fingerprint(copy, tokens_per_batch=64) == fingerprint(copy)
    before = fingerprint(copy)
    weights = transformers.BertModel.from_pretrained(copy)
    with torch.no_grad():
        weights.embeddings.word_embeddings.weight[5, 3] += 0.01
    weights.save_pretrained(copy)
    assert fingerprint(copy) != before


def test_another_tokenizer_is_another_encoder(tmp_path):
    folder = bert(tmp_path)
    before = fingerprint(folder)
    vocabulary = (folder / "vocab.txt").read_text().splitlines()
    vocabulary[-1], vocabulary[-2] = vocabulary[-2], vocabulary[-1]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    assert fingerprint(folder) != before


# --- saved and loaded ----------------------------------------------------------------------------


def test_saved_and_loaded_it_is_the_same(folders, tmp_path):
    encoder = PretrainedEncoder.load(folders["bert"], pooling="mean", max_length=20)
    save_encoder(encoder, tmp_path / "text")
    assert [path.name for path in (tmp_path / "text").iterdir()] == ["encoder.json"]
    loaded = load_encoder(tmp_path / "text")
    assert loaded.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(loaded.encode(TEXTS), encoder.encode(TEXTS))


def test_another_model_under_the_same_name_is_refused(tmp_path):
    folder = bert(tmp_path / "model")
    save_encoder(PretrainedEncoder.load(folder), tmp_path / "text")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    with pytest.raises(
        BundleError, match=r"model is not the text encoder that .*encoder.json was written with"
    ):
        load_encoder(tmp_path / "text")


def test_a_model_that_moved_is_named_anew(tmp_path):
    save_encoder(PretrainedEncoder.load(bert(tmp_path / "here")), tmp_path / "text")
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(ConfigError, match="no such folder"):
        load_encoder(tmp_path / "text")
    assert load_encoder(tmp_path / "text", model=tmp_path / "there").width == 16


# --- what is refused -----------------------------------------------------------------------------


def pickled(folder: Path) -> Path:
    """The same model, as it was published before safetensors."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_a_pickle_is_refused_and_the_way_out_works(tmp_path):
    expected = PretrainedEncoder.load(bert(tmp_path / "model")).encode(TEXTS)
    folder = pickled(tmp_path / "model")
    with pytest.raises(BundleError, match=r"has no \*\.safetensors.* pickle.*convert it once") as caught:
        PretrainedEncoder.load(folder)
    command = shlex.split(str(caught.value).splitlines()[-1])
    assert command[0] == "python"
    subprocess.run([sys.executable, *command[1:]], check=True)
    np.testing.assert_array_equal(PretrainedEncoder.load(folder).encode(TEXTS), expected)


def test_a_pickle_beside_safetensors_is_not_read(tmp_path):
    folder = bert(tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"this would raise if it were read")
    assert PretrainedEncoder.load(folder).width == 16


def test_weights_of_another_model_are_refused(tmp_path, folders):
    folder = bert(tmp_path)
    (folder / "model.safetensors").write_bytes((folders["modernbert"] / "model.safetensors").read_bytes())
    with pytest.raises(
        BundleError, match=r"weights of the model are not in its safetensors, the first is \S+; they"
    ):
        PretrainedEncoder.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_file_is_named_with_its_folder(tmp_path, name):
    folder = bert(tmp_path)
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(BundleError, match=f"{folder}: not readable as a text encoder .*copy it again"):
        PretrainedEncoder.load(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"holds no model: config\.json is missing"):
        PretrainedEncoder.load(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "/no/such/folder", "./model", "a/b/c"])
def test_a_name_that_is_neither_folder_nor_hub_id(name):
    with pytest.raises(ConfigError, match="no such folder, and not a hub id"):
        PretrainedEncoder.load(name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "max"}, "unknown pooling 'max': .*valid names are cls, mean"),
        ({"max_length": 2}, "max_length 2: this encoder takes 3 to 64 tokens"),
        ({"max_length": 65}, "max_length 65: this encoder takes 3 to 64 tokens"),
    ],
)
def test_settings_that_cannot_be(folders, settings, message):
    with pytest.raises(ConfigError, match=message):
        PretrainedEncoder.load(folders["bert"], **settings)


def test_without_the_library_the_extra_is_named(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'caretrace\[text\]'"):
        PretrainedEncoder.load(folders["bert"])


# --- the hub -------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(folders, tmp_path, monkeypatch):
    """The library's cache as a download leaves it, and no network."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    place = tmp_path / "models--somebody--tiny-bert"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(folders["bert"], place / "snapshots" / COMMIT))


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_model_by_hub_id_is_named_with_its_commit(cache, folders, revision):
    encoder = PretrainedEncoder.load("somebody/tiny-bert", revision=revision)
    assert encoder.name == f"somebody/tiny-bert@{COMMIT}"
    assert digest(encoder.fingerprint) == fingerprint(folders["bert"])


def test_saved_by_hub_id_it_is_loaded_by_commit(cache, tmp_path):
    save_encoder(PretrainedEncoder.load("somebody/tiny-bert"), tmp_path / "text")
    (cache.parents[1] / "refs" / "main").unlink()  # as if the branch had moved on
    assert load_encoder(tmp_path / "text").name == f"somebody/tiny-bert@{COMMIT}"


def test_what_the_hub_does_not_have_is_said(cache):
    with pytest.raises(BundleError, match="nobody/nothing: neither a folder here nor to be had from the hub"):
        PretrainedEncoder.load("nobody/nothing")


def test_of_a_hub_id_with_pickled_weights_it_is_said_what_to_fetch(cache):
    (cache / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"download pytorch_model.bin of somebody/tiny-bert into a folder"):
        PretrainedEncoder.load("somebody/tiny-bert")


def test_a_pickle_is_not_even_downloaded(cache, monkeypatch):
    import huggingface_hub

    asked = {}

    def snapshot_download(name, revision, allow_patterns):
        asked.update(name=name, allow=allow_patterns)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    PretrainedEncoder.load("somebody/tiny-bert")
    names = [
        "pytorch_model.bin",
        "training_args.bin",
        "tf_model.h5",
        "modeling_own.py",
        "model.ckpt",
        "w.pkl",
    ]
    assert not any(fnmatch(name, pattern) for name in names for pattern in asked["allow"])
    assert all(any(fnmatch(path.name, pattern) for pattern in asked["allow"]) for path in cache.iterdir())


def test_loading_is_silent(folders, capfd):
    PretrainedEncoder.load(folders["longformer"]).encode(TEXTS)
    assert capfd.readouterr() == ("", "")
