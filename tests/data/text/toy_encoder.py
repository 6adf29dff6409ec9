"""An encoder for tests: vectors that depend on the text, nothing learned, nothing loaded. Needs no pytest."""

import zlib

import numpy as np


class ToyEncoder:
    """Random vectors, seeded by the text."""

    def __init__(self, *, seed=0, width=8, longest=10**9, bad=None):
        self.seed, self.width, self.longest = seed, width, longest
        self.bad = bad or {}
        self.seen, self.truncated = [], 0

    name = "toy"

    @property
    def fingerprint(self):
        return {"kind": "toy", "seed": self.seed, "width": self.width}

    def encode(self, texts):
        self.seen += texts
        self.truncated += sum(len(text) > self.longest for text in texts)
        vectors = np.empty((len(texts), self.width), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = np.random.default_rng([self.seed, zlib.crc32(text.encode())]).normal(
                size=self.width
            )
            vectors[row, 0] = self.bad.get(text, vectors[row, 0])
        return vectors
