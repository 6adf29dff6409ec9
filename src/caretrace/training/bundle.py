"""The bundle: everything prediction needs, and nothing that can run code.

manifest.json       format version, caretrace version, application, SHA-256 of every other file
config.json         settings of the application
preprocessor.json   vocabulary, value scaling, static features (fitted on training subjects)
calibration.json    recalibration of the logit (fitted on tuning subjects)
model.safetensors   weights of every member of the ensemble
metrics.json        tuning figures
task.yaml           the labels it was trained for
README.md           model card
comparators/        the comparators, fitted on the same split
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from caretrace import __version__
from caretrace.errors import BundleError
from caretrace.files import write_json

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """What is in a bundle folder, read and checked.

    Args:
        application: Name of the application.
        parts: JSON parts by name: `config`, `preprocessor`, `calibration`, `metrics`.
        members: Weights of each member of the ensemble, tensor name → tensor.
        path: Where it was read from.
    """

    application: str
    parts: Mapping[str, Any]
    members: list[dict[str, torch.Tensor]]
    path: Path


def write_bundle(
    folder: Path,
    application: str,
    parts: Mapping[str, Any],
    members: list[dict[str, torch.Tensor]],
    texts: Mapping[str, str],
) -> None:
    """Write a bundle into an existing folder that will be renamed into place.

    Args:
        folder: Target; it may already hold further files (comparators), which the manifest covers too.
        application: Name of the application.
        parts: JSON parts by name.
        members: Weights of each member.
        texts: File name → text, such as the model card and the task.
    """
    for name, value in parts.items():
        write_json(folder / f"{name}.json", value)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    tensors = {
        f"members.{number}.{name}": tensor.detach().cpu().contiguous()
        for number, member in enumerate(members)
        for name, tensor in member.items()
    }
    save_file(tensors, folder / WEIGHTS)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    manifest = {
        "format_version": FORMAT_VERSION,
        "caretrace": __version__,
        "application": application,
        "members": len(members),
        "sha256": {path.relative_to(folder).as_posix(): _sha256(path) for path in files},
    }
    write_json(folder / MANIFEST, manifest)


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle, checking its version and every byte of it.

    Raises:
        BundleError: The folder is no bundle, is damaged, or was written by a newer caretrace.
    """
    manifest = _read_manifest(folder)
    for name, expected in manifest["sha256"].items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing; copy the bundle again or train again")
        if _sha256(path) != expected:
            raise BundleError(
                f"{path} is not what was written (SHA-256 differs); copy the bundle again or train again"
            )
    parts = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in folder.glob("*.json")
        if path.name != MANIFEST and path.name in manifest["sha256"]
    }
    try:
        tensors = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise BundleError(f"{folder / WEIGHTS}: {error}; copy the bundle again or train again") from None
    members: dict[str, dict[str, torch.Tensor]] = {str(number): {} for number in range(manifest["members"])}
    for name, tensor in tensors.items():
        _, number, rest = name.split(".", 2)
        members.setdefault(number, {})[rest] = tensor
    if len(members) != manifest["members"] or not all(members.values()):
        raise BundleError(f"{folder / WEIGHTS} and {MANIFEST} speak of different members; train again")
    return Bundle(manifest["application"], parts, list(members.values()), folder)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{folder} is not a bundle: {MANIFEST} is missing; point at the folder `RUN/bundle` of a training"
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = int(manifest["format_version"])
    except (ValueError, KeyError, TypeError):
        raise _damaged(path) from None
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{folder} has bundle format {version}, this caretrace {__version__} reads up to {FORMAT_VERSION}: "
            f"install caretrace {manifest.get('caretrace', '(newer)')} or later"
        )
    if not {"application", "members", "sha256"} <= manifest.keys():
        raise _damaged(path)
    return manifest


def _damaged(path: Path) -> BundleError:
    return BundleError(f"{path} is damaged; copy the bundle again or train again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
