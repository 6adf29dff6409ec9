"""The text encoder of a run: where it lies, and where the vectors are kept.

text/    the encoder, in the run for resuming and in the bundle for predicting
texts/   vectors of the texts met so far; may be removed, they are computed again
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caretrace.data.text import TextReader, load_encoder, save_encoder
from caretrace.files import whole_folder

ENCODER = "text"
STORE = "texts"

Tell = Callable[[int, int], None]


def keep_encoder(reader: TextReader | None, run: Path) -> None:
    """Write the encoder into the run folder, where a resumed run must find it as it was; what is there stays."""
    if reader is not None and not (run / ENCODER).exists():
        with whole_folder(run / ENCODER) as folder:
            save_encoder(reader.encoder, folder)


def kept_reader(reader: TextReader | None, run: Path, config: Any, tell: Tell) -> TextReader | None:
    """The reader of a run that begins, its vectors kept in the run or where the settings say."""
    return None if reader is None else TextReader(reader.encoder, _store(config, run), tell)


def saved_reader(run: Path, config: Any, tell: Tell) -> TextReader | None:
    """The reader of a run that goes on; None where it reads no texts.

    Raises:
        BundleError: The encoder is damaged, or a pretrained one is not what it was.
    """
    if not (run / ENCODER).exists():
        return None
    return TextReader(load_encoder(run / ENCODER), _store(config, run), tell)


def bundle_reader(bundle: Path, config: Any, model: Path | str | None = None) -> TextReader | None:
    """The reader of a bundle; None where its models read no texts.

    Vectors of texts that the run has met already are found beside the bundle, if that is where it still lies.

    Args:
        bundle: The bundle.
        config: Settings of the application.
        model: Folder or hub id of a pretrained encoder that has moved.

    Raises:
        BundleError: The encoder is damaged, or a pretrained one is not what it was.
    """
    if not (bundle / ENCODER).exists():
        return None
    store = _store(config, bundle.parent)
    usable = store.is_dir() and os.access(store, os.W_OK)
    return TextReader(load_encoder(bundle / ENCODER, model=model), store if usable else None)


def _store(config: Any, run: Path) -> Path:
    chosen = getattr(config, "text_store", None)
    return run / STORE if chosen is None else Path(chosen)
