"""A Longformer's attention window, made as small as the texts of a batch allow.

A Longformer pads every batch to a multiple of its window (512 tokens in Clinical-Longformer), so a text of
12 tokens costs as much as one of 512. A token sees half a window to either side: where the longest text of a
batch is not longer than that, every token sees every other, and a smaller window that still reaches across the
text gives the same numbers. Beltagy et al. 2020, arXiv:2004.05150.
"""

from __future__ import annotations

from typing import Any


class AttentionWindow:
    """Sets the window of a `transformers` Longformer.

    Args:
        model: Any model; one without such windows is left alone.
    """

    def __init__(self, model: Any) -> None:
        self._config = model.config
        self._layers = _windowed_layers(model)
        self._own = [2 * layer.one_sided_attn_window_size for layer in self._layers]
        # Tokens that all see each other in every layer.
        self._reach = min(self._own, default=0) // 2 + 1

    def padded(self, length: int) -> int:
        """Tokens that a text of `length` tokens costs: the next multiple of the window, if there is one."""
        if not self._layers:
            return length
        window = max(self._windows(length))
        return -(-length // window) * window

    def fit(self, length: int) -> None:
        """Set the windows for a batch whose longest text has `length` tokens, special tokens included."""
        if not self._layers:
            return
        windows = self._windows(length)
        self._config.attention_window = windows  # says how far the model pads
        for layer, window in zip(self._layers, windows, strict=True):
            layer.one_sided_attn_window_size = window // 2

    def _windows(self, length: int) -> list[int]:
        if length > self._reach:
            return self._own
        return [2 * max(1, length - 1)] * len(self._own)


def _windowed_layers(model: Any) -> list[Any]:
    """The self-attention of every layer; none if the model is another, or keeps its windows elsewhere."""
    if getattr(model.config, "model_type", None) != "longformer":
        return []
    layers = [layer.attention.self for layer in model.encoder.layer]
    known = all(hasattr(layer, "one_sided_attn_window_size") for layer in layers)
    return layers if known else []
