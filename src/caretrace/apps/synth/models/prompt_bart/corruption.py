"""Token sequences made worse, for a denoiser to mend (Lewis et al. 2020, BART, section 2.2)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from caretrace.apps.synth.codes.vocabulary import MASK, SPECIAL
from caretrace.evaluation.histories import Ints

Corruption = Literal["infill", "delete", "replace"]
CORRUPTIONS: tuple[Corruption, ...] = ("infill", "delete", "replace")
SPAN_MEAN = 3.0  # tokens, of a Poisson distribution; 0 inserts a mask where nothing is missing
SHARE = 0.15  # of the tokens that are deleted, replaced, or begin a span so that this many are masked


def corrupt(token: Ints, kind: Corruption, n_tokens: int, rng: np.random.Generator) -> Ints:
    r"""A worse copy; `<s>`, `</s>`, `<v>` and `<\v>` stay where they are, so that visits stay visits.

    Args:
        token: `[token]`, one sequence.
        kind: `infill` puts one `<mask>` for each span of Poisson(3) tokens, 15 % of all; `delete` leaves out 15 %;
            `replace` puts a random code or category for 15 %.
        n_tokens: Size of the vocabulary.
        rng: What is random.
    """
    free = token >= len(SPECIAL)
    if kind == "replace":
        hit = free & (rng.random(len(token)) < SHARE)
        out = token.copy()
        out[hit] = rng.integers(len(SPECIAL), n_tokens, int(hit.sum()))
        return out
    if kind == "delete":
        return token[~(free & (rng.random(len(token)) < SHARE))]
    starts = free & (rng.random(len(token)) < SHARE / SPAN_MEAN)
    kept: list[int] = []
    at = 0
    while at < len(token):
        if not starts[at]:
            kept.append(int(token[at]))
            at += 1
            continue
        kept.append(MASK)
        for _ in range(int(rng.poisson(SPAN_MEAN))):
            if at < len(token) and free[at]:
                at += 1
            else:  # a span ends with its visit
                break
        else:
            if at < len(token) and starts[at]:  # a span of nothing: the token stays
                starts[at] = False
    return np.array(kept, np.int64)
