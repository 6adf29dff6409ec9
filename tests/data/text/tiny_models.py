"""Tiny encoders with random weights, saved the way their big sisters are: no download, real loading code."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

WORDS = """heparin sodium 5000 units sc lactate 4.2 mmol/l abnormal norepinephrine mcg kg min dose rate changed
blood culture positive for staph aureus coag oxacillin resistant vancomycin one gram iv every twelve hours chest
x ray shows bilateral infiltrates the patient was extubated this morning and is breathing room air"""
TEXTS = [
    "Lactate: 4.2 mmol/L abnormal",
    "Heparin Sodium, 5000 units SC",
    "",
    "Blood culture: positive for STAPH AUREUS COAG +, oxacillin resistant. " * 3,
    "x",
    "Norepinephrine 0.05 mcg/kg/min; dose rate changed",
    "Väsopressin — 0.04 u/min",
    "the patient was extubated this morning and is breathing room air " * 12,
]


def longformer(
    folder: Path, *, window: int | Sequence[int] = 32, max_length: int = 256, layers: int = 2
) -> Path:
    """Like yikuan8/Clinical-Longformer: vocab.json and merges.txt, positions counted from the padding id on."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator(
        [WORDS],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bpe.model.save(str(folder))
    config = transformers.LongformerConfig(
        vocab_size=bpe.get_vocab_size(),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        attention_window=list(window) if isinstance(window, Sequence) else [window] * layers,
        max_position_embeddings=max_length + 2,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.5,
        type_vocab_size=1,
    )
    torch.manual_seed(0)
    # The published one is a masked language model; its base has the prefix `longformer.`.
    transformers.LongformerForMaskedLM(config).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": max_length}))
    return folder


def modernbert(folder: Path) -> Path:
    """Like thomas-sounack/BioClinical-ModernBERT-base: one tokenizer.json."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    bpe = Tokenizer(models.BPE(unk_token="[UNK]"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        [WORDS],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bpe.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
    )
    config = transformers.ModernBertConfig(
        vocab_size=bpe.get_vocab_size(),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=128,
        local_attention=16,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
    )
    torch.manual_seed(0)
    transformers.ModernBertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def bert(folder: Path) -> Path:
    """Like ncbi/MedCPT-Query-Encoder: WordPiece."""
    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer()
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words.train_from_iterator(
        [WORDS],
        trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False),
    )
    folder.mkdir(parents=True, exist_ok=True)
    words.model.save(str(folder))
    config = transformers.BertConfig(
        vocab_size=words.get_vocab_size(),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": 64, "tokenizer_class": "BertTokenizer"})
    )
    return folder
