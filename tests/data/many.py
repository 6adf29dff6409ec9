"""Random samples, all different, some without measurements."""

import numpy as np

from caretrace.data.samples import Samples


def many(n: int, longest: int = 6, seed: int = 0, unknown_codes: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest + 1, n)
    m = int(lengths.sum())
    return Samples(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        code=rng.integers(1, 500, m),
        numeric_value=rng.random(m).astype(np.float32),
        numeric_mask=rng.random(m) < 0.5,
        event_type=rng.integers(0, 9, m),
        time_hours=-rng.random(m).astype(np.float32),
        static=rng.random((n, 3)).astype(np.float32),
        outcomes=(np.arange(n) % 2).astype(np.float32),
        unknown_codes=unknown_codes,
    )
