"""Event texts → vectors: encoders, and the store that keeps what they gave.

`fit_on_training` or `PretrainedEncoder.load` make an encoder, `embed_dataset` embeds each distinct text of a
dataset once, ever; what it gives has a `matrix` with a row per text, and the row of each event's text (`ids`).
"""

from caretrace.data.text.encoder import TextEncoder
from caretrace.data.text.events import EmbeddedTexts, embed_dataset, embed_texts
from caretrace.data.text.filling import Filled, fill
from caretrace.data.text.pretrained import PretrainedEncoder
from caretrace.data.text.reader import TextReader
from caretrace.data.text.saved import load_encoder, save_encoder
from caretrace.data.text.store import EmbeddingStore
from caretrace.data.text.tfidf import TfidfEncoder, fit_on_inputs, fit_on_training

__all__ = [
    "EmbeddedTexts",
    "EmbeddingStore",
    "Filled",
    "PretrainedEncoder",
    "TextEncoder",
    "TextReader",
    "TfidfEncoder",
    "embed_dataset",
    "embed_texts",
    "fill",
    "fit_on_inputs",
    "fit_on_training",
    "load_encoder",
    "save_encoder",
]
