"""An encoder in a folder, so that a bundle can embed the texts of subjects it has never seen.

The offline encoder is stored whole. Of a pretrained one, hundreds of megabytes that others publish, only its
name is stored, with a fingerprint that makes sure that it is still the same when it is loaded again.
"""

from __future__ import annotations

from pathlib import Path

from caretrace.data.text.encoder import TextEncoder, digest
from caretrace.data.text.pretrained import PretrainedEncoder
from caretrace.data.text.tfidf import KIND, TfidfEncoder
from caretrace.errors import BundleError, unknown_name
from caretrace.files import read_json, write_json

_PRETRAINED = "pretrained"


def save_encoder(encoder: TextEncoder, folder: Path) -> None:
    """Write what `load_encoder` needs: JSON, and safetensors for what was fitted.

    Args:
        encoder: An encoder of this package.
        folder: Folder, made if it is not there.

    Raises:
        TypeError: The encoder is of another kind.
    """
    if isinstance(encoder, TfidfEncoder):
        encoder.save(folder)
    elif isinstance(encoder, PretrainedEncoder):
        folder.mkdir(parents=True, exist_ok=True)
        stored = {
            "kind": _PRETRAINED,
            "name": encoder.source.name,
            "revision": encoder.source.revision,
            "pooling": encoder.pooling,
            "max_length": encoder.max_length,
            "digest": digest(encoder.fingerprint),
        }
        write_json(folder / "encoder.json", stored)
    else:
        raise TypeError(f"{type(encoder).__name__}: only TfidfEncoder and PretrainedEncoder can be saved")


def load_encoder(folder: Path, *, model: str | Path | None = None, device: str = "cpu") -> TextEncoder:
    """Read what `save_encoder` wrote.

    Args:
        folder: Folder with `encoder.json`.
        model: Folder or hub id of a pretrained model that has moved since.
        device: Where torch computes; the offline encoder does not use it.

    Raises:
        BundleError: A file is missing or damaged, or the pretrained model is not the one that was saved.
        ConfigError: The extra `text` is missing.
    """
    path = folder / "encoder.json"
    try:
        stored = read_json(path)
        kind = stored["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BundleError(f"{path}: no text encoder, or a damaged one; copy the folder again") from None
    if kind == KIND:
        return TfidfEncoder.load(folder)
    if kind != _PRETRAINED:
        raise BundleError(f"{path}: " + unknown_name("kind of text encoder", str(kind), (KIND, _PRETRAINED)))
    encoder = PretrainedEncoder.load(
        model or stored["name"],
        revision=None if model else stored["revision"],
        pooling=stored["pooling"],
        max_length=stored["max_length"],
        device=device,
    )
    if digest(encoder.fingerprint) != stored["digest"]:
        raise BundleError(
            f"{encoder.name} is not the text encoder that {path} was written with: its files have changed, and so have "
            "its vectors; name the old model with `model=`, or train again"
        )
    return encoder
