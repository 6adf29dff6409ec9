"""A planted toy task, learned in seconds, and scores whose answer is known in closed form.

Code `CAUSE` kills, `DECOY` travels with it, and all the rest is noise. `PAIR` codes matter only together.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn

from caretrace.data.batch import EventBatch, gaps
from caretrace.explain.faithfulness import Case
from caretrace.explain.scores import Score, row

CAUSE, LEAK, N_CODES, N_TYPES = 2, 3, 24, 4
_D = 16


def make(codes: list[list[int]], values: list[list[float]] | None = None, static: int = 2) -> EventBatch:
    """Records with a measurement every hour, the last one at the prediction time."""
    width = max(1, *(len(each) for each in codes))
    code = torch.tensor([each + [0] * (width - len(each)) for each in codes])
    lengths = torch.tensor([len(each) for each in codes])
    padding = torch.arange(width)[None] >= lengths[:, None]
    time = (torch.arange(width)[None] - (lengths[:, None] - 1)).float().masked_fill(padding, 0.0)
    value = torch.zeros(code.shape)
    if values is not None:
        for number, each in enumerate(values):
            value[number, : len(each)] = torch.tensor(each)
    return EventBatch(
        code=code,
        numeric_value=value,
        numeric_mask=~padding & (values is not None),
        text_id=torch.full_like(code, -1),
        event_type=code % N_TYPES,
        time_hours=time,
        time_delta_hours=gaps(time, padding),
        static=torch.zeros(len(codes), static),
        padding_mask=padding,
    )


def planted(count: int, seed: int, leak: bool = False) -> tuple[EventBatch, Tensor]:
    """Random records of 12 to 30 measurements; about half hold the cause, and those die.

    With `leak` a measurement at the end tells the outcome, as a time of death among the inputs would.
    """
    rng = np.random.default_rng(seed)
    records, died = [], []
    for _ in range(count):
        codes = rng.integers(4, N_CODES, rng.integers(12, 30)).tolist()
        dies = bool(rng.random() < 0.5)
        if dies:
            codes[int(rng.integers(len(codes)))] = CAUSE
        if leak and dies:
            codes.append(LEAK)
        records.append(codes)
        died.append(float(dies))
    return make(records), torch.tensor(died)


class Toy(nn.Module):
    """Embedding, one mixing layer, attention pooling, head; every part can be made faulty.

    Args:
        masked: Whether pooling leaves padding out.
        looks: Whether what it attends to is learned; else it is fixed by chance.
    """

    reference = "as many blank measurements"

    def __init__(self, masked: bool = True, looks: bool = True) -> None:
        super().__init__()
        self.masked = masked
        self.register_buffer("fixed", None if looks else torch.randn(N_CODES))
        self.code = nn.Embedding(N_CODES, _D)
        self.mix = nn.Linear(_D, _D)
        self.query = nn.Linear(_D, 1)
        self.head = nn.Sequential(nn.Linear(_D, _D), nn.GELU(), nn.Linear(_D, 1))

    def forward(self, batch: EventBatch) -> Tensor:
        return self.read(self.code(batch.code), batch.padding_mask, batch.code)

    def read(self, embedded: Tensor, padding: Tensor, code: Tensor) -> Tensor:
        hidden = torch.tanh(self.mix(embedded))
        return self.head((self.weights(embedded, padding, code)[..., None] * hidden).sum(1))[:, 0]

    def weights(self, embedded: Tensor, padding: Tensor, code: Tensor) -> Tensor:
        scores = self.query(torch.tanh(self.mix(embedded)))[..., 0]
        if self.fixed is not None:
            scores = self.fixed[code].expand(scores.shape)
        if self.masked:
            scores = scores.masked_fill(padding, -1e9)
        return scores.softmax(1)

    def path(self, sample: EventBatch):
        embedded = self.code(sample.code).detach()

        def score(presence: Tensor, static: Tensor) -> Tensor:
            padding = sample.padding_mask.expand(len(presence), -1)
            return self.read(presence[..., None] * embedded, padding, sample.code)

        return score

    def attention(self, sample: EventBatch) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"pooling": self.weights(self.code(sample.code), sample.padding_mask, sample.code)[0]}


class Seen:
    """A score with its path, seen through another function, such as the sigmoid."""

    def __init__(self, score, through) -> None:
        self.score, self.through, self.reference = score, through, score.reference

    def __call__(self, batch: EventBatch) -> Tensor:
        return self.score(batch)

    def path(self, sample: EventBatch):
        path = self.score.path(sample)
        return lambda presence, static: self.through(path(presence, static))


@functools.cache
def trained(masked: bool = True, leak: bool = False, looks: bool = True) -> Toy:
    """A toy model that is never wrong."""
    torch.manual_seed(0)
    model = Toy(masked, looks)
    batch, died = planted(600, 1, leak)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(batch), died)
        loss.backward()
        optimizer.step()
    return model.eval()


def cases(count: int = 24, leak: bool = False) -> list[Case]:
    """Held-out records with the cause."""
    batch, died = planted(4 * count, 2, leak)
    found = []
    for number in torch.nonzero(died)[:count, 0].tolist():
        sample = row(batch, number)
        codes = sample.code[0].numpy()
        none = np.zeros(len(codes), dtype=bool)
        found.append(Case(sample, codes == CAUSE, none, none))
    return found


def additive(weights: dict[int, float]) -> Score:
    """Each measurement adds the weight of its code; nothing else matters."""

    def score(batch: EventBatch) -> Tensor:
        table = torch.zeros(N_CODES)
        for code, weight in weights.items():
            table[code] = weight
        return (table[batch.code] * ~batch.padding_mask).sum(1)

    return score


def present(batch: EventBatch, code: int) -> Tensor:
    """Whether each record holds a code, as 0 and 1."""
    return ((batch.code == code) & ~batch.padding_mask).any(1).float()
