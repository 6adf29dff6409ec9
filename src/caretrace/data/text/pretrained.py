"""Encoders of the Hugging Face hub, from a folder or by hub id; safetensors only, no code of others."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from caretrace.data.text.longformer import AttentionWindow
from caretrace.errors import BundleError, ConfigError, unknown_name

POOLINGS = ("cls", "mean")
_FORMAT = 1
_TOKENS_PER_BATCH = 4096  # on a CPU more is slower: it leaves the cache
# Trained without a sentence objective on the first token; their authors average.
_MEAN_BY_DEFAULT = {"modernbert"}
# Their positions are counted from the padding id on, so that the first ones are never used.
_OFFSET_POSITIONS = {"camembert", "longformer", "roberta", "xlm-roberta"}
# What decides a vector. Weights and tokenizer; not the model card.
_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "*token*.json",
    "vocab.*",
    "merges.txt",
    "*.model",
)
# The pooler of a masked language model is not used, and often not stored.
_UNUSED = ("pooler.",)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where an encoder comes from.

    Args:
        name: Hub id or folder, as given.
        revision: Commit on the hub; None for a folder.
    """

    name: str
    revision: str | None


class PretrainedEncoder:
    """The last layer of a pretrained model, pooled: one vector per text. Made by `load`.

    Args:
        source: Where it comes from.
        model: A `transformers` model without a head, in evaluation mode.
        tokenizer: Its fast tokenizer.
        pooling: `cls` (the first token) or `mean` (over all tokens that are not padding).
        max_length: Tokens per text, special ones included; what is longer is cut at its end.
        tokens_per_batch: Tokens per forward pass, padding included.
        files: File name → SHA-256 of what was loaded.
    """

    def __init__(
        self,
        source: Source,
        model: Any,
        tokenizer: Any,
        *,
        pooling: str,
        max_length: int,
        tokens_per_batch: int,
        files: Mapping[str, str],
    ) -> None:
        self.source, self.pooling, self.max_length = source, pooling, max_length
        self.tokens_per_batch = tokens_per_batch
        self._model, self._tokenizer, self._files = model, tokenizer, dict(files)
        self._window = AttentionWindow(model)
        self._truncated = 0

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        pooling: str | None = None,
        max_length: int | None = None,
        tokens_per_batch: int = _TOKENS_PER_BATCH,
        device: str = "cpu",
    ) -> PretrainedEncoder:
        """Load a model and its tokenizer.

        Args:
            name: A folder that `save_pretrained` wrote, or a hub id such as `yikuan8/Clinical-Longformer`.
            revision: Branch, tag or commit on the hub; the newest by default.
            pooling: `cls` or `mean`; by default `mean` for ModernBERT and `cls` for everything else.
            max_length: Tokens per text; by default as many as the model can take.
            tokens_per_batch: Tokens per forward pass, padding included; a GPU wants more.
            device: Where torch computes, for example `cpu` or `cuda`.

        Raises:
            ConfigError: The extra `text` is missing, or the model, its pooling or its length cannot be used.
            BundleError: The files are missing, incomplete, damaged, or pickled.
        """
        library = _library()
        if pooling is not None and pooling not in POOLINGS:
            raise ConfigError(unknown_name("pooling", pooling, POOLINGS))
        folder, source = _find(str(name), revision)
        _refuse_pickle(folder, source)
        model, tokenizer = _read(library, folder)
        pooling = pooling or ("mean" if model.config.model_type in _MEAN_BY_DEFAULT else "cls")
        return cls(
            source,
            model.to(device).eval(),
            tokenizer,
            pooling=pooling,
            max_length=_length(model, tokenizer, max_length),
            tokens_per_batch=tokens_per_batch,
            files=_hashes(folder),
        )

    @property
    def name(self) -> str:
        """Hub id and commit, or folder."""
        return self.source.name + (f"@{self.source.revision}" if self.source.revision else "")

    @property
    def width(self) -> int:
        """Numbers per vector."""
        return int(self._model.config.hidden_size)

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Content, not place: the same files in another folder are the same encoder."""
        return {
            "kind": "pretrained",
            "format": _FORMAT,
            "model": self._model.config.model_type,
            "files": self._files,
            "pooling": self.pooling,
            "max_length": self.max_length,
            "width": self.width,
        }

    @property
    def truncated(self) -> int:
        """Texts that had more than `max_length` tokens, since the encoder was loaded."""
        return self._truncated

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """One vector per text, float32 [text, width].

        Texts of like length go together, as many as `tokens_per_batch` allows.
        """
        vectors = np.empty((len(texts), self.width), dtype=np.float32)
        tokens = self._tokens(texts) if len(texts) else []
        for rows in self._batches([len(each) for each in tokens]):
            vectors[rows] = self._forward([tokens[row] for row in rows])
        return vectors

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each text, cut to the longest length."""
        found = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_length,
            return_overflowing_tokens=True,
            return_attention_mask=False,
        )
        pieces: list[list[int]] = found["input_ids"]
        owners = np.asarray(found["overflow_to_sample_mapping"])
        _, first, count = np.unique(owners, return_index=True, return_counts=True)
        self._truncated += int((count > 1).sum())
        return [pieces[row] for row in first]

    def _batches(self, lengths: Sequence[int]) -> Iterator[np.ndarray]:
        """Row numbers per batch, longest texts last, so that a batch is as long as its last text."""
        order = np.argsort(lengths, kind="stable")
        start = 0
        for end, row in enumerate(order):
            if end > start and (end - start + 1) * self._window.padded(lengths[row]) > self.tokens_per_batch:
                yield order[start:end]
                start = end
        if len(order):
            yield order[start:]

    @torch.inference_mode()
    def _forward(self, tokens: list[list[int]]) -> np.ndarray:
        device = self._model.device
        longest = max(map(len, tokens))
        self._window.fit(longest)
        length = self._window.padded(longest)
        ids = torch.full((len(tokens), length), self._tokenizer.pad_token_id)
        mask = torch.zeros((len(tokens), length), dtype=torch.long)
        for row, each in enumerate(tokens):
            ids[row, : len(each)] = torch.tensor(each)
            mask[row, : len(each)] = 1
        ids, mask = ids.to(device), mask.to(device)
        extra = {}
        if self._model.config.model_type == "longformer":
            # The first token sees, and is seen by, the whole text, however long it is.
            extra["global_attention_mask"] = torch.zeros_like(mask)
            extra["global_attention_mask"][:, 0] = 1
        hidden = self._model(input_ids=ids, attention_mask=mask, **extra).last_hidden_state.float()
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return pooled.cpu().numpy()


def _library() -> ModuleType:
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            "text encoders of the Hugging Face hub need one more package: pip install 'caretrace[text]'; "
            "or use the encoder `tfidf`, which needs none"
        ) from None
    return transformers


def _find(name: str, revision: str | None) -> tuple[Path, Source]:
    """The folder with the files; a hub id is downloaded, safetensors and text files only."""
    if Path(name).is_dir():
        return Path(name), Source(name, None)
    if Path(name).exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ConfigError(
            f"{name}: no such folder, and not a hub id; give a folder with config.json and model.safetensors, "
            "or an id such as yikuan8/Clinical-Longformer"
        )
    import huggingface_hub

    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=[*_FILES, "special_tokens_map.json"]
            )
        )
    except (OSError, ValueError) as error:  # the library's own errors are all of these kinds
        raise BundleError(
            f"{name}: neither a folder here nor to be had from the hub ({type(error).__name__}); check the name, "
            "the network and your access, or copy the model's folder here and name that"
        ) from None
    return folder, Source(name, folder.name)  # the hub's cache names a snapshot by its commit


def _refuse_pickle(folder: Path, source: Source) -> None:
    if not (folder / "config.json").is_file():
        raise BundleError(
            f"{folder} holds no model: config.json is missing; name the folder that `save_pretrained` wrote"
        )
    if any(folder.glob("*.safetensors")):
        return
    fetch = (
        "" if source.revision is None else f"download pytorch_model.bin of {source.name} into a folder, then "
    )
    pickled = Path("FOLDER" if source.revision else folder) / "pytorch_model.bin"
    raise BundleError(
        f"{source.name} has no *.safetensors. A pytorch_model.bin is a pickle, which can run code of its author "
        f"when it is read, so we do not; {fetch}convert it once, somewhere you can afford it:\n"
        f'  python -c "import torch; from safetensors.torch import save_file; '
        f"w = torch.load('{pickled}', map_location='cpu', weights_only=True); "
        f"save_file({{k: v.contiguous().clone() for k, v in w.items()}}, "
        f"'{pickled.with_name('model.safetensors')}', metadata={{'format': 'pt'}})\""
    )


def _read(library: ModuleType, folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer, with every weight from the file: a layer left at random would go unseen."""
    from safetensors import SafetensorError

    local: Mapping[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        with _quiet(library):
            model, found = library.AutoModel.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **local
            )
            tokenizer = library.AutoTokenizer.from_pretrained(folder, **local)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, json.JSONDecodeError) as error:
        raise BundleError(
            f"{folder}: not readable as a text encoder ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "it must hold config.json, model.safetensors and the tokenizer's files, all of one model; copy it again"
        ) from None
    missing = sorted(key for key in found["missing_keys"] if not key.startswith(_UNUSED))
    if missing:
        raise BundleError(
            f"{folder}: {len(missing)} weights of the model are not in its safetensors, the first is {missing[0]}; "
            "they would stay random. The weights are of another model than config.json says; copy both again"
        )
    if not getattr(tokenizer, "is_fast", False) or tokenizer.pad_token_id is None:
        raise ConfigError(
            f"{folder}: the tokenizer must be a fast one (tokenizer.json) and have a padding token; save the model "
            "again with such a tokenizer"
        )
    return model, tokenizer


@contextlib.contextmanager
def _quiet(library: ModuleType) -> Iterator[None]:
    """Without the library's own bars and reports; what is wrong, we say."""
    logging = library.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _length(model: Any, tokenizer: Any, asked: int | None) -> int:
    """Tokens per text: what was asked, or the most that positions and tokenizer allow."""
    config = model.config
    most = int(getattr(config, "max_position_embeddings", 0) or tokenizer.model_max_length)
    if config.model_type in _OFFSET_POSITIONS:
        most -= config.pad_token_id + 1
    most = min(most, int(tokenizer.model_max_length))
    if asked is None:
        return most
    least = tokenizer.num_special_tokens_to_add() + 1
    if not least <= asked <= most:
        raise ConfigError(
            f"max_length {asked}: this encoder takes {least} to {most} tokens, special ones included"
        )
    return asked


def _hashes(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted({path for pattern in _FILES for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
