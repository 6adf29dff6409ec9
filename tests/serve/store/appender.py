"""A process that appends to a log others append to: `python appender.py URL NAME COUNT`; prints its answers."""

import asyncio
import json
import random
import sys

import numpy as np

from caretrace.serve.store.columns import Samples
from caretrace.serve.store.log import BatchConflictError, NewBatch
from caretrace.serve.store.store import Store


def batch(name, value):
    return NewBatch(
        name,
        1_700_000_000.0,
        Samples(
            np.arange(3, dtype=np.int64),
            1_700_000_000.0 + np.arange(3),
            np.zeros(3, np.int16),
            np.full(3, value, np.float32),
        ),
    )


async def append(store, name, count, answers):
    """Batches of our own, batches that others send as well, and ids under which others send something else."""
    number = float(sum(map(ord, name)))

    async def one(each):
        try:
            accepted = await store.append(each)
        except BatchConflictError:
            answers[each.batch_id] = "conflict"
        else:
            answers[each.batch_id] = "duplicate" if accepted.duplicate else "new"

    order = list(range(count))
    random.Random(name).shuffle(order)
    for first in range(0, count, 20):
        numbers = order[first : first + 20]
        batches = [batch(f"{name}-{n}", number) for n in numbers]
        batches += [batch(f"same-{n}", 1.0) for n in numbers] + [batch(f"odd-{n}", number) for n in numbers]
        await asyncio.gather(*map(one, batches))


if __name__ == "__main__":
    url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    store, answers = Store(url, shared=True, owner=False), {}
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(append(store, name, count, answers))
    store.close()
    print(json.dumps(answers))
