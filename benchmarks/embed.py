"""Event texts through a Longformer into the embedding store, beside one text at a time and a .npy per text.

    caretrace bench embed
    caretrace bench embed -- --data FOLDER
    caretrace bench embed -- --dataset MEDS

The texts are those of the MIMIC-IV demo below FOLDER (by default `$CARETRACE_DATA`), ingested on the spot, or of
any dataset that was ingested already; with neither, of the sample that comes with the source, which is too small
for its speed to say much. The Longformer has random weights and the window of Clinical-Longformer, 512 tokens;
its tokenizer is trained on the texts themselves, some of them.

The other way is what the document did: the model's own forward pass for every text, batch size 1, no padding of
ours, and one .npy per text in float32. It does as many texts as fit in `--peer-seconds`, drawn at random from
those that we do; its texts per second are taken for all of them, nothing else is extrapolated. One process,
`--threads` threads; processor time is said too, for a machine that is not left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from cases import Case, run, say

from caretrace import schema
from caretrace.data.text import (
    EmbeddingStore,
    PretrainedEncoder,
    TextEncoder,
    embed_dataset,
    fill,
    fit_on_training,
)
from caretrace.data.text.events import has_text
from caretrace.dataset import Dataset
from caretrace.ingest import ingest, source_mapping

WINDOW = 512
MAX_LENGTH = 4096
PEER = "one text at a time"
# Texts for the wide model, whose size is that of Clinical-Longformer.
WIDE_TEXTS = 300
LOOK_UP = 1 << 15  # rows of one look-up: a batch of 32 stays of 1,000 events
LOOK_UP_SECONDS = 2.0


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("CARETRACE_DATA")
    made.add_argument(
        "--data", type=Path, default=data, help="folder with mimic-iv-demo-2.2; $CARETRACE_DATA"
    )
    made.add_argument("--dataset", type=Path, help="a dataset that is ingested already, instead")
    made.add_argument("--layers", type=int, default=2, help="layers of the small Longformer")
    made.add_argument("--width", type=int, default=64, help="its width")
    made.add_argument("--wide", action="store_true", help="also a model of the size of Clinical-Longformer")
    made.add_argument("--peer-seconds", type=float, default=20.0, help="time that the other way gets")
    made.add_argument("--threads", type=int, default=1, help="more do not help so small a model")
    return made


def bench(options: argparse.Namespace) -> list[Case]:
    """Every case, in turn."""
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="bench-embed-") as scratch:
        work = Path(scratch)
        dataset, what = _dataset(options, work)
        texts = _texts(dataset)
        say(
            f"{len(texts):,} distinct texts of {what}, {np.mean([len(text) for text in texts]):.0f} characters each"
        )
        folder = longformer(work / "small", texts, layers=options.layers, width=options.width)
        small = PretrainedEncoder.load(folder)
        cases = _embed(small, folder, texts, what, options.peer_seconds, work / "small-out")
        cases.append(_look_up(dataset, small, work / "small-out" / "store"))
        if options.wide:
            folder = longformer(work / "wide", texts, layers=12, width=768)
            some = sorted(np.random.default_rng(1).permutation(texts)[:WIDE_TEXTS].tolist())
            wide = PretrainedEncoder.load(folder)
            cases += _embed(wide, folder, some, what, options.peer_seconds, work / "wide-out")
        cases.append(_wide_look_up(work / "look-up"))
        cases.append(_offline(dataset, work / "offline", len(texts)))
        return cases


def longformer(folder: Path, texts: list[str], *, layers: int, width: int) -> Path:
    """A Longformer with random weights and a byte-level BPE trained on some of the texts, in `folder`."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    folder.mkdir()
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts[:: max(1, len(texts) // 5000)], trainer)
    bpe.model.save(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": MAX_LENGTH}))
    config = transformers.LongformerConfig(
        vocab_size=bpe.get_vocab_size(),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        attention_window=[WINDOW] * layers,
        max_position_embeddings=MAX_LENGTH + 2,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
        initializer_range=1.6 / width**0.5,  # less, untrained, gives all texts one vector; more is chaotic
    )
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    transformers.LongformerModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def one_at_a_time(folder: Path, texts: list[str], out: Path, seconds: float) -> tuple[int, float, float]:
    """The document's way, for a while.

    Args:
        folder: The model.
        texts: Texts, in the order to do them.
        out: Folder for the .npy files, named by the text's hash.
        seconds: When to stop.

    Returns:
        Texts done, and the seconds that took, by the clock and of processor time, loading not counted.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    model = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    out.mkdir(parents=True)
    watch = Stopwatch()
    for done, text in enumerate(texts):
        if watch.seconds > seconds:
            return done, watch.seconds, watch.processor_seconds
        path = out / name_of(text)
        if path.exists():
            continue
        tokens = tokenizer(text, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        attention = torch.zeros_like(tokens["input_ids"])
        attention[:, 0] = 1
        with torch.no_grad():
            hidden = model(**tokens, global_attention_mask=attention).last_hidden_state
        np.save(path, hidden[0, 0].numpy())
    return len(texts), watch.seconds, watch.processor_seconds


class Stopwatch:
    """Seconds since it was made; on a busy machine the processor's say more than the clock's."""

    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._clock

    @property
    def processor_seconds(self) -> float:
        return time.process_time() - self._processor


def name_of(text: str) -> str:
    """File of a text in the document's cache."""
    return hashlib.sha256(text.encode()).hexdigest() + ".npy"


def _embed(
    encoder: PretrainedEncoder, folder: Path, texts: list[str], what: str, seconds: float, out: Path
) -> list[Case]:
    """All texts our way, some of them the other way, and how far the two are apart."""
    shape = _shape(encoder)
    watch = Stopwatch()
    filled = fill(out / "store", encoder, texts)
    ours, ours_processor = filled.new / watch.seconds, filled.new / watch.processor_seconds
    drawn = [texts[row] for row in np.random.default_rng(0).permutation(len(texts))]
    done, took, processor = one_at_a_time(folder, drawn, out / "npy", seconds)
    theirs, theirs_processor = done / took, done / processor
    say(f"{shape}: {filled.new:,} texts at {ours:,.0f}/s, {PEER} {done:,} at {theirs:,.1f}/s")
    say(f"by processor time {ours_processor:,.0f}/s, {theirs_processor:,.1f}/s")
    case = f"{filled.new:,} texts of {what} through {shape}; peer on {done:,} of them"
    lowest = _lowest_cosine(EmbeddingStore.open(out / "store", encoder), drawn[:done], out / "npy")
    return [
        Case(case, "texts/s", ours, {PEER: theirs}, {PEER: ours / theirs}),
        Case(
            f"the same by processor time, {shape}",
            "texts/s",
            ours_processor,
            {PEER: theirs_processor},
            {PEER: ours_processor / theirs_processor},
        ),
        Case(f"lowest cosine of {done:,} stored vectors to the peer's float32, {shape}", "cosine", lowest),
    ]


def _lowest_cosine(store: EmbeddingStore, texts: list[str], files: Path) -> float:
    """Of what is stored to what the peer wrote."""
    exact = np.stack([np.load(files / name_of(text)) for text in texts])
    others = _cosine(exact, np.roll(exact, 1, axis=0))
    say(
        f"cosine of one text to another, by which the next figure must be judged: median {np.median(others):.3f}"
    )
    return float(_cosine(exact, store.look_up(store.find(texts))).min())


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def _shape(encoder: PretrainedEncoder) -> str:
    config: Any = encoder._model.config
    return f"a Longformer of {config.num_hidden_layers} layers, {config.hidden_size} wide, window {WINDOW}"


def _look_up(dataset: Dataset, encoder: TextEncoder, store: Path) -> Case:
    """Warm look-ups of the dataset's own events, in their order: ids → vectors."""
    texts = dataset.scan().select(schema.TEXT_VALUE).collect().to_series()
    began = time.perf_counter()
    embedded = embed_dataset(dataset, encoder, store)
    opened = time.perf_counter() - began
    began = time.perf_counter()
    ids = embedded.ids(texts)
    numbered = time.perf_counter() - began
    say(f"opened and checked in {opened:.2f} s; {len(ids):,} events numbered in {numbered:.2f} s")
    rate = _rate(EmbeddingStore.open(store, encoder), ids[ids >= 0])
    return Case(f"warm look-ups, {encoder.width} wide, rows of the events in turn", "rows/s", rate)


def _wide_look_up(folder: Path, rows: int = 200_000, width: int = 768) -> Case:
    """Warm look-ups in random order, as wide as Clinical-Longformer's vectors."""
    encoder = _Random(width)
    fill(folder, encoder, [str(number) for number in range(rows)])
    ids = np.random.default_rng(0).integers(0, rows, 10 * rows)
    rate = _rate(EmbeddingStore.open(folder, encoder), ids)
    return Case(f"warm look-ups, {width} wide, {rows:,} random vectors, in random order", "rows/s", rate)


class _Random:
    """Vectors of any kind, to fill a store with."""

    name = "random"
    truncated = 0

    def __init__(self, width: int) -> None:
        self.width, self.fingerprint = width, {"kind": "random", "width": width}
        self._rng = np.random.default_rng(0)

    def encode(self, texts: list[str]) -> np.ndarray:
        return self._rng.normal(size=(len(texts), self.width)).astype(np.float32)


def _rate(store: EmbeddingStore, ids: np.ndarray) -> float:
    """Rows per second, in batches into a buffer that is used again, once every page has been read."""
    out = np.empty((LOOK_UP, store.width), dtype=np.float16)
    batches = [ids[start : start + LOOK_UP] for start in range(0, len(ids), LOOK_UP)]

    def once() -> None:
        for batch in batches:
            store.look_up(batch, out=out[: len(batch)])

    once()  # reads every page
    rounds, began = 0, time.perf_counter()
    while time.perf_counter() - began < LOOK_UP_SECONDS:
        once()
        rounds += 1
    return rounds * len(ids) / (time.perf_counter() - began)


def _offline(dataset: Dataset, store: Path, n_texts: int) -> Case:
    """The encoder that needs no download: fitted, then the same texts."""
    began = time.perf_counter()
    encoder = fit_on_training(dataset)
    fitted = time.perf_counter() - began
    began = time.perf_counter()
    embed_dataset(dataset, encoder, store)
    return Case(
        f"the same texts by TF-IDF and SVD, {encoder.width} wide, fitted in {fitted:.1f} s before",
        "texts/s",
        n_texts / (time.perf_counter() - began),
    )


def _dataset(options: argparse.Namespace, work: Path) -> tuple[Dataset, str]:
    if options.dataset:
        return Dataset(options.dataset), options.dataset.name
    raw, what = source_mapping("mimic-iv").folder / "sample" / "raw", "the sample of mimic-iv"
    if options.data:
        raw, what = Path(options.data) / "mimic-iv-demo-2.2", "the MIMIC-IV demo"
    say(f"ingesting {what}")
    ingest("mimic-iv", raw, work / "meds")
    return Dataset(work / "meds"), what


def _texts(dataset: Dataset) -> list[str]:
    found = dataset.scan().filter(has_text()).select(pl.col(schema.TEXT_VALUE).unique()).collect()
    return found.to_series().sort().to_list()


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda options: options.threads))
