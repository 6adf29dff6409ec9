"""The selective scan: one literal form, and faster ones that give the same."""

from functools import partial

from caretrace.backbones.scan.literal import literal_scan as selective_scan
from caretrace.backbones.scan.mixing import MixingWeights, composed_mix

mix = partial(composed_mix, selective_scan)

__all__ = ["MixingWeights", "mix", "selective_scan"]
