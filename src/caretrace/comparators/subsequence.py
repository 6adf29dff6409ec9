"""Anomalies of windows: Sub-PCA, Sub-LOF, Sub-IForest and KShapeAD, as the benchmark TSB-AD defines them.

Liu and Paparrizos 2024, "The Elephant in the Room: Towards A Reliable Time-Series Anomaly Detection Benchmark",
https://github.com/TheDatumOrg/TSB-AD. There a method is fitted to the series it then scores, and a window's score
stands at its middle. On a ward it can know neither the rest of the recording nor the next half window: ours learn from
windows of training subjects, and a score stands at the last step of its window.

A window of several channels is one long vector; KShapeAD compares channel by channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

from caretrace.errors import CohortError, ConfigError, unknown_name

FloatArray = npt.NDArray[np.float32]
Method = Literal["sub-pca", "sub-lof", "sub-iforest", "kshape-ad"]
METHODS: tuple[Method, ...] = ("sub-pca", "sub-lof", "sub-iforest", "kshape-ad")
MOST_WINDOWS = 2000  # training windows, drawn at random: LOF compares every window with all of them
_AT_ONCE = 8192  # windows scored together
_NEIGHBOURS = 20
_TREES = 100
_CLUSTERS, _ROUNDS = 6, 10
_SPARE = 1e-9


class WindowModel(Protocol):
    """What scores windows of shape [window, channel, step]; higher is stranger."""

    def fit(self, windows: FloatArray) -> None:
        """Learn what is usual."""
        ...

    def score(self, windows: FloatArray) -> npt.NDArray[np.float64]:
        """How strange each window is, [window]."""
        ...


class Subsequence:
    """A method on windows, from recordings to a score per step.

    Args:
        method: One of `METHODS`.
        length: Steps of a window.
        seed: Of the draw of training windows and of the method.

    Raises:
        ConfigError: No such method, or windows shorter than two steps.
    """

    def __init__(self, method: str, length: int, seed: int = 0) -> None:
        if length < 2:
            raise ConfigError(f"subsequence: got windows of {length} steps; give at least 2")
        self.method, self.length, self._seed = method, length, seed
        self._model = _model(method, seed)
        self._mean = self._sd = np.zeros(0, np.float32)

    def fit(self, recordings: Sequence[FloatArray]) -> Subsequence:
        """Learn from recordings of training subjects.

        Args:
            recordings: Each [channel, step] in the channels' units; NaN where nothing was measured.

        Raises:
            CohortError: No recording is as long as a window.
        """
        together = np.concatenate(recordings, axis=1)
        self._mean, self._sd = np.nanmean(together, axis=1), np.nanstd(together, axis=1) + _SPARE
        rng = np.random.default_rng(self._seed)
        places = [
            (number, start)
            for number, values in enumerate(recordings)
            for start in range(0, values.shape[1] - self.length + 1, max(1, self.length // 2))
        ]
        if not places:
            raise CohortError(
                f"{self.method}: no recording has {self.length} steps; use longer ones or a smaller window"
            )
        chosen = rng.choice(len(places), min(MOST_WINDOWS, len(places)), replace=False)
        ready = {number: self._ready(recordings[number]) for number in {places[i][0] for i in chosen}}
        windows = [
            ready[number][:, start : start + self.length] for number, start in (places[i] for i in chosen)
        ]
        self._model.fit(np.stack(windows).astype(np.float32))
        return self

    def score(self, recording: FloatArray) -> npt.NDArray[np.float64]:
        """How strange the window that ends at each step is, [step]; before the first window, as that one.

        Args:
            recording: [channel, step], as in `fit`.
        """
        steps = recording.shape[1]
        ready = self._ready(recording)
        if steps < self.length:  # too short for a window: its first value is taken to have stood before
            ready = np.pad(ready, ((0, 0), (self.length - steps, 0)), mode="edge")
        windows = np.moveaxis(np.lib.stride_tricks.sliding_window_view(ready, self.length, axis=1), 0, 1)
        parts = [
            self._model.score(np.ascontiguousarray(windows[low : low + _AT_ONCE]))
            for low in range(0, len(windows), _AT_ONCE)
        ]
        scores = np.concatenate(parts)
        return np.concatenate([np.full(max(0, steps - len(scores)), scores[0]), scores])[:steps]

    def _ready(self, recording: FloatArray) -> FloatArray:
        """Standardised; what is missing is as last seen, and the mean before that."""
        scaled = (recording - self._mean[:, None]) / self._sd[:, None]
        known = ~np.isnan(scaled)
        latest = np.maximum.accumulate(np.where(known, np.arange(scaled.shape[1]), -1), axis=1)
        held = np.take_along_axis(scaled, np.maximum(latest, 0), axis=1)
        return np.where(latest >= 0, held, 0.0).astype(np.float32)


def _model(method: str, seed: int) -> WindowModel:
    if method not in METHODS:
        raise ConfigError(unknown_name("method on windows", method, METHODS))
    if method == "sub-pca":
        return _Components()
    if method == "sub-lof":
        return _Neighbours()
    return _Forest(seed) if method == "sub-iforest" else _Shapes(seed)


class _Components:
    """Distances to the principal axes, each divided by its share of the variance, summed (as PyOD's PCA)."""

    def fit(self, windows: FloatArray) -> None:
        flat = windows.reshape(len(windows), -1)
        self._mean, self._sd = flat.mean(0), flat.std(0) + _SPARE
        pca = PCA(n_components=min(flat.shape), svd_solver="full").fit((flat - self._mean) / self._sd)
        kept = pca.explained_variance_ratio_ > _SPARE
        self._axes, self._share = pca.components_[kept], pca.explained_variance_ratio_[kept]

    def score(self, windows: FloatArray) -> npt.NDArray[np.float64]:
        flat = (windows.reshape(len(windows), -1) - self._mean) / self._sd
        return np.asarray((cdist(flat, self._axes) / self._share).sum(1), np.float64)


class _Neighbours:
    """Local outlier factor (Breunig et al. 2000) among training windows."""

    def fit(self, windows: FloatArray) -> None:
        count = min(_NEIGHBOURS, len(windows) - 1)
        self._model = LocalOutlierFactor(n_neighbors=count, novelty=True)
        self._model.fit(windows.reshape(len(windows), -1))

    def score(self, windows: FloatArray) -> npt.NDArray[np.float64]:
        return np.asarray(-self._model.score_samples(windows.reshape(len(windows), -1)), np.float64)


class _Forest:
    """Isolation forest (Liu et al. 2008)."""

    def __init__(self, seed: int) -> None:
        self._model = IsolationForest(n_estimators=_TREES, random_state=seed)

    def fit(self, windows: FloatArray) -> None:
        self._model.fit(windows.reshape(len(windows), -1))

    def score(self, windows: FloatArray) -> npt.NDArray[np.float64]:
        return np.asarray(-self._model.score_samples(windows.reshape(len(windows), -1)), np.float64)


class _Shapes:
    """k-Shape centroids (Paparrizos and Gravano 2015) and the weighted distance to them (NormA, SAND).

    The distance is one minus the highest normalised cross-correlation over all shifts. A centroid weighs more the more
    windows it has and the nearer it is to the others; a strange window is far from what weighs.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def fit(self, windows: FloatArray) -> None:
        shapes = _standardised(windows)
        count = min(_CLUSTERS, len(shapes))
        member = self._rng.integers(0, count, len(shapes))
        self._centres = np.zeros((count, *shapes.shape[1:]), np.float32)
        for _ in range(_ROUNDS):
            for cluster in range(count):
                own = shapes[member == cluster]
                if len(own):
                    self._centres[cluster] = _centre(own, self._centres[cluster])
            closest = _apart(shapes, self._centres).argmin(1)
            if (closest == member).all():
                break
            member = closest
        size = np.bincount(member, minlength=count) / len(shapes)
        between = _apart(self._centres, self._centres).sum(1) + _SPARE
        weight = size**2 / between
        self._weight = weight / weight.sum()

    def score(self, windows: FloatArray) -> npt.NDArray[np.float64]:
        return np.asarray(_apart(_standardised(windows), self._centres) @ self._weight, np.float64)


def _standardised(windows: FloatArray) -> FloatArray:
    """Each channel of each window to mean 0 and standard deviation 1; one that stands still becomes 0."""
    centred = windows - windows.mean(-1, keepdims=True)
    spread = centred.std(-1, keepdims=True)
    return np.where(spread > 1e-6, centred / np.maximum(spread, 1e-6), 0.0).astype(np.float32)


def _correlations(windows: FloatArray, centre: FloatArray) -> FloatArray:
    """Normalised cross-correlation with a centre at every shift, [window, channel, shift]."""
    length = windows.shape[-1]
    width = 1 << (2 * length - 1).bit_length()
    spectrum = np.fft.rfft(windows, width) * np.conj(np.fft.rfft(centre, width))
    product = np.fft.irfft(spectrum, width)
    product = np.concatenate([product[..., -(length - 1) :], product[..., :length]], -1)
    norm = np.linalg.norm(windows, axis=-1) * np.linalg.norm(centre, axis=-1)
    return np.asarray(product / np.maximum(norm, _SPARE)[..., None], np.float32)


def _apart(windows: FloatArray, centres: FloatArray) -> npt.NDArray[np.float64]:
    """Shape-based distance, mean over channels, [window, centre]."""
    columns = [1 - _correlations(windows, centre).max(-1).mean(1) for centre in centres]
    return np.stack(columns, 1).astype(np.float64)


def _centre(own: FloatArray, before: FloatArray) -> FloatArray:
    """Shape that is nearest to a cluster's windows once they are shifted to the centre before, per channel."""
    length = own.shape[-1]
    best = _correlations(own, before).argmax(-1) - (length - 1)
    if not before.any():
        best = np.zeros_like(best)
    place = np.arange(length) + best[..., None]
    inside = (place >= 0) & (place < length)
    aligned = np.where(inside, np.take_along_axis(own, np.clip(place, 0, length - 1), -1), 0.0)
    centre = np.empty(own.shape[1:], np.float32)
    middle = np.eye(length) - 1 / length
    for channel in range(own.shape[1]):
        rows = aligned[:, channel].astype(np.float64)
        _, vectors = np.linalg.eigh(middle @ (rows.T @ rows) @ middle)
        axis = vectors[:, -1]
        if np.linalg.norm(rows[0] - axis) > np.linalg.norm(rows[0] + axis):
            axis = -axis
        centre[channel] = axis
    return _standardised(centre[None])[0]
