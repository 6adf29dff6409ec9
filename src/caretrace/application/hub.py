"""Bundles on the Hugging Face hub. They hold safetensors and JSON, so fetching one runs no code of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from caretrace.errors import BundleError, ConfigError
from caretrace.training.bundle import read_bundle


def fetch(repo_id: str, revision: str | None = None) -> Path:
    """Download a bundle and return its folder.

    Args:
        repo_id: `owner/name`.
        revision: Branch, tag or commit; the newest by default.

    Raises:
        BundleError: It cannot be had.
        ConfigError: The extra `hub` is not installed.
    """
    hub = _library()
    try:
        return Path(hub.snapshot_download(repo_id, revision=revision))
    except (OSError, ValueError) as error:  # the library's own errors are all of these kinds
        raise BundleError(
            f"{repo_id}: neither a folder here nor a bundle on the hub ({type(error).__name__}); check the name, "
            "the network and your access"
        ) from None


def push(folder: Path, repo_id: str, *, private: bool = True) -> str:
    """Upload a bundle and return its address. Nothing of a subject is in a bundle, but check your data's terms.

    Args:
        folder: A bundle; it is read and checked first.
        repo_id: `owner/name`; made if it is not there.
        private: Whether a repository that is made is private.

    Raises:
        BundleError: The folder is no bundle, or is damaged.
        ConfigError: The extra `hub` is not installed.
    """
    bundle = read_bundle(folder)
    hub = _library()
    hub.create_repo(repo_id, private=private, exist_ok=True)
    return str(
        hub.upload_folder(
            repo_id=repo_id, folder_path=str(folder), commit_message=f"{bundle.application} bundle"
        )
    )


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError("the hub needs one more package: pip install 'caretrace[hub]'") from None
    return huggingface_hub
