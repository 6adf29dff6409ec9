"""The figures the document asked of its model, on held-out windows whose truth is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from caretrace.apps.vitals.document.monitor import DocumentMonitor, only
from caretrace.data.grid import Stretch, cut

ALARMING_RISK = 50.0
DURING = 0.5  # share of a window's steps within an event that makes it one of the event


def document_table(
    model: DocumentMonitor,
    stretches: Sequence[Stretch],
    channels: tuple[str, ...],
    labels: Sequence[npt.NDArray[np.bool_]],
) -> dict[str, float]:
    """Separation ratio, embedding variance, accuracy, precision and false-positive rate, by window.

    Windows that lie partly in an event count neither way. The separation ratio is the distance between the mean
    vectors of windows in events and outside over the mean distance of a window from the mean of its kind.

    Args:
        model: Fitted on training subjects.
        stretches: Recordings of held-out subjects.
        channels: Their signals, in order.
        labels: [step] of each, whether it lies within an event.

    Returns:
        The figures, with `windows` and `windows_in_events`; nothing where one kind is missing.
    """
    own = only(stretches, channels, model.config.channels)
    windows = cut(own, dataclasses.replace(model.grid, min_observed=0.0))
    share = np.array([labels[w.stretch][w.start : w.start + model.grid.length].mean() for w in windows])
    kept = (share == 0) | (share >= DURING)
    truth = share[kept] >= DURING
    if not 0 < truth.sum() < truth.size:
        return {}
    vectors = model.embed(own, [w for w, keep in zip(windows, kept, strict=True) if keep])
    middles = {kind: vectors[truth == kind].mean(0) for kind in (True, False)}
    spread = np.mean([np.linalg.norm(v - middles[bool(t)]) for v, t in zip(vectors, truth, strict=True)])
    flagged = model.forest.risk(vectors) >= ALARMING_RISK
    return {
        "separation_ratio": float(np.linalg.norm(middles[True] - middles[False]) / max(float(spread), 1e-9)),
        "embedding_variance": float(vectors.var(0).mean()),
        "accuracy": float((flagged == truth).mean()),
        "precision": float((flagged & truth).sum() / flagged.sum()) if flagged.any() else 0.0,
        "false_positive_rate": float((flagged & ~truth).sum() / (~truth).sum()),
        "recall": float((flagged & truth).sum() / truth.sum()),
        "windows": float(truth.size),
        "windows_in_events": float(truth.sum()),
    }
