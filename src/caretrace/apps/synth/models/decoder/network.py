"""A generator that learns by gradients: a small causal model of P(category) · P(code | category, history).

A visit is written code after code in the order of their numbers (`sequences.py` says why). From the hidden state at
the last token the model says, for each category still to come, how likely it is to be the next one *given that none
before it was*: z. Hence

    P(next is category k) = sigmoid(z_k) · product over those passed by of sigmoid(-z_j),

and the end of the visit is what is left. Independent codes are a constant z, a visit that shares a cause is a z that
moves with each code, and every category passed by has been learned from. Impossible categories are passed by with
probability 1, so what they had goes to the others in proportion (it is a conditional probability) and none is lost.
Within the category, a softmax over the codes that remain.

What an earlier visit had decides most of the next: a code's z is shifted and scaled by weights of its own, according
to whether the last visit had it, or only one before (`Memory`). Both start at what is counted in the
training subjects.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caretrace.apps.synth.codes.sequences import CODE, PAD, VISIT, Batch, CodeTables, Records, make_batch
from caretrace.backbones import build_backbone
from caretrace.errors import ConfigError
from caretrace.evaluation.histories import Histories

_KNOT_YEARS = 5.0
_KNOTS = 25  # 0, 5, …, 120 years
NEVER = -1e9  # a logit that means impossible; finite, so that gradients are
_RARE = 0.5  # pseudo-count of what was never seen
_PRIOR = 10.0  # pseudo-count of the mean of all codes
_BLOCK = 500  # subjects counted together


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Size and parts of the model.

    Args:
        backbone: Name of a causal backbone; `transformer` has rotary attention, `mamba` a selective scan.
        d_model: Width.
        n_layers: Layers.
        d_code: Width in which codes of a category are told apart.
        dropout: Probability of dropping a unit.
        n_heads: Attention heads of a transformer.
        memory: Whether weights of its own tell a code that it stood in an earlier visit.
        max_rank: Visits after this many are told apart no further.
    """

    backbone: str = "transformer"
    d_model: int = 128
    n_layers: int = 3
    d_code: int = 32
    dropout: float = 0.1
    n_heads: int = 4
    memory: bool = True
    max_rank: int = 20

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layers", "d_code", "n_heads", "max_rank"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name}: got {getattr(self, name)}, it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout: got {self.dropout}, it must lie in [0, 1)")


@dataclasses.dataclass(frozen=True, eq=False)
class Masks:
    """Who may have what, for some rows.

    Args:
        last: `[row, category]`, last code that may be had; -1 for none.
        code: `[row, code]`.
    """

    last: Tensor
    code: Tensor


class Memory(nn.Module):
    """What it means for a code to have stood in the last visit, or only in an earlier one.

    Args:
        tables: Codes and categories.
    """

    def __init__(self, tables: CodeTables) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2, tables.n_codes))
        self.log_scale = nn.Parameter(torch.zeros(2, tables.n_codes))
        self.code_shift = nn.Parameter(torch.zeros(2, tables.n_codes))
        self.register_buffer("first", torch.from_numpy(tables.first), persistent=False)
        self.register_buffer("last", torch.from_numpy(tables.last), persistent=False)

    @torch.no_grad()
    def start_at(self, histories: Histories, tables: CodeTables) -> None:
        """Set shifts to what codes seen before do to the odds of their category, and of themselves within it."""
        category = torch.from_numpy(tables.category_of)
        count, of_category, of_code = (torch.zeros(2, tables.n_codes) for _ in range(3))
        had_all = torch.zeros(tables.n_codes)
        had_category = torch.zeros(tables.n_categories)
        for first in range(0, len(histories), _BLOCK):
            part = histories.take(np.arange(first, min(first + _BLOCK, len(histories))))
            batch = make_batch(Records(part))
            seen = seen_before(batch, tables.n_codes)
            had = torch.zeros(len(batch.rank), tables.n_codes, dtype=torch.bool)
            had[batch.codes_visit, batch.codes] = True
            named = torch.zeros(len(batch.rank), tables.n_categories, dtype=torch.bool)
            named[batch.codes_visit, category[batch.codes]] = True
            count += seen.sum(0)
            of_category += (seen & named[:, None, category]).sum(0)
            of_code += (seen & had[:, None]).sum(0)
            had_all, had_category = had_all + had.sum(0), had_category + named.sum(0)
        visits = max(1, len(histories.code_count))
        share = (had_all + _RARE) / (had_category[category] + 2 * _RARE)
        for state in range(2):
            again = _drawn_together(of_category[state], count[state])
            itself = _drawn_together(of_code[state], of_category[state])
            self.shift[state] = again - _odds(had_category[category] + _RARE, visits + 2 * _RARE)
            self.code_shift[state] = itself - _odds(share, 1 + 1e-3)

    def recall(self, seen: Tensor, row: Tensor) -> Remembered:
        """What earlier visits say of each category.

        Args:
            seen: `[visit, 2, code]`, 1 where the last visit had a code, or only an earlier one.
            row: `[row]`, visit of each row.
        """
        sums, scales = (
            F.pad((seen * weights).sum(1).cumsum(-1), (1, 0)) for weights in (self.shift, self.log_scale)
        )
        first, end = self.get_buffer("first"), self.get_buffer("last") + 1
        scale = (scales[:, end] - scales[:, first]).exp()
        return Remembered(sums, sums[:, end] - sums[:, first], scale, row)


@dataclasses.dataclass(frozen=True, eq=False)
class Remembered:
    """What earlier visits say.

    Args:
        sums: `[visit, code + 1]`, shifts of the codes before each one, summed.
        shift: `[visit, category]`.
        scale: `[visit, category]`.
        row: `[row]`, visit of each row.
    """

    sums: Tensor
    shift: Tensor
    scale: Tensor
    row: Tensor


class DecoderModel(nn.Module):
    """A generator of histories; `log_likelihood` is exact under it.

    Args:
        config: Size and parts.
        tables: Codes and categories.
        marks: Number of values of each mark of a visit.
        n_conditions: Numbers known of a subject beside age and sex.
    """

    def __init__(
        self, config: DecoderConfig, tables: CodeTables, marks: tuple[int, ...] = (), n_conditions: int = 0
    ) -> None:
        super().__init__()
        self.config, self.tables, self.n_marks, self.n_conditions = config, tables, marks, n_conditions
        d, codes, categories = config.d_model, tables.n_codes, tables.n_categories
        extra = {"n_heads": config.n_heads} if config.backbone == "transformer" else {}
        self.backbone = build_backbone(
            config.backbone, d_model=d, n_layers=config.n_layers, dropout=config.dropout, **extra
        )
        self.person = nn.Linear(2 * _KNOTS + n_conditions, d)
        self.wide = nn.Linear(2 * _KNOTS + n_conditions, categories, bias=False)
        self.kind = nn.Embedding(3, d)
        self.rank = nn.Embedding(config.max_rank + 1, d)
        self.mark = nn.ModuleList(nn.Embedding(n, d) for n in marks)
        self.code = nn.Embedding(codes, d)
        self.category = nn.Embedding(categories, d)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(d, d)
        self.next_category = nn.Linear(d, categories)
        self.again = nn.Embedding(codes, d)
        self.again_bias = nn.Parameter(torch.zeros(codes))
        self.narrow = nn.Linear(d, config.d_code)
        self.narrow_category = nn.Embedding(categories, config.d_code)
        self.code_out = nn.Embedding(codes, config.d_code)
        self.code_bias = nn.Parameter(torch.zeros(codes))
        self.stop = nn.Linear(d, 1)
        self.stop_bias = nn.Parameter(torch.zeros(config.max_rank + 1))
        self.mark_out = nn.ModuleList(nn.Linear(d, n) for n in marks)
        self.memory = Memory(tables) if config.memory else None
        self.register_buffer("empty_visits", torch.tensor(False))
        self.register_buffer("empty_histories", torch.tensor(False))
        for name in ("category_of", "last", "members"):
            self.register_buffer(f"code_{name}", torch.from_numpy(getattr(tables, name)), persistent=False)
        self._small_start()

    def _small_start(self) -> None:
        """Begin at the marginals (`start_at`): what is added to them begins near nothing."""
        for part in (self.kind, self.rank, self.code, self.category, self.code_out, *self.mark):
            nn.init.normal_(part.weight, std=0.05)
        for part in (self.again, self.narrow_category):
            nn.init.zeros_(part.weight)
        for layer in (self.wide, self.next_category, self.stop, *self.mark_out):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def start_at(self, histories: Histories) -> None:
        """Set biases to the marginals of training subjects, and whether empty visits and histories occur."""
        tables, visits = self.tables, max(1, len(histories.code_count))
        category = tables.category_of[histories.code]
        key = histories.token_visit * tables.n_categories + category
        first = np.concatenate([[True], key[1:] != key[:-1]])[: len(key)]
        had = np.bincount(category[first], minlength=tables.n_categories)
        self.next_category.bias.copy_(_logit(had, visits))
        count = np.bincount(histories.code, minlength=tables.n_codes)
        self.code_bias.copy_(torch.from_numpy(np.log(count + _RARE)))
        more = np.bincount(histories.code[:-1][~first[1:]], minlength=tables.n_codes) if len(key) else count
        self.again_bias.copy_(_logit(more, count))
        rank = np.minimum(histories.visit_rank + 1, self.config.max_rank)
        ended = histories.visit_rank + 1 == histories.visit_count[histories.visit_subject]
        n = np.bincount(rank, minlength=self.config.max_rank + 1)
        self.stop_bias.copy_(_logit(np.bincount(rank, ended, minlength=len(n)), n))
        self.stop_bias[0] = float(_logit(np.array((histories.visit_count == 0).sum()), len(histories)))
        if self.memory is not None:
            self.memory.start_at(histories, tables)
        self.get_buffer("empty_visits").fill_(bool((histories.code_count == 0).any()))
        self.get_buffer("empty_histories").fill_(bool((histories.visit_count == 0).any()))

    def features(self, age: Tensor, sex: Tensor, conditions: Tensor) -> Tensor:
        """`[subject, feature]`: age between knots of five years, apart for each sex, and the conditions."""
        knots = torch.arange(_KNOTS, device=age.device) * _KNOT_YEARS
        hat = (1 - (age[:, None] - knots).abs() / _KNOT_YEARS).clamp(min=0)
        by_sex = torch.stack([hat * (sex == s)[:, None] for s in (0, 1)], 1).flatten(1)
        return torch.cat([by_sex, conditions.to(hat.dtype)], 1)

    def embed(self, kind: Tensor, code: Tensor, rank: Tensor, marks: Tensor, person: Tensor) -> Tensor:
        """Token vectors; the arguments share their leading axes, `marks` and `person` have one more.

        Args:
            kind: PREFIX, VISIT, CODE or PAD.
            code: Number of the code; read where there is one.
            rank: Rank of the visit; read at VISIT.
            marks: Of the visit; read at VISIT.
            person: Of the subject, from `person_of`.
        """
        hidden = self.kind(kind.clamp(max=CODE)) + person
        of_code = self.code(code) + self.category(self._of("category_of")[code])
        of_visit = self.rank(rank.clamp(max=self.config.max_rank))
        for number, table in enumerate(self.mark):
            of_visit = of_visit + table(marks[..., number])
        hidden = hidden + of_code * (kind == CODE)[..., None] + of_visit * (kind == VISIT)[..., None]
        return self.dropout(hidden)

    def finish(self, hidden: Tensor) -> Tensor:
        """What the heads read, from hidden states of the backbone."""
        return hidden + F.gelu(self.out(self.dropout(hidden)))

    def next_logits(
        self,
        hidden: Tensor,
        wide: Tensor,
        last: Tensor,
        remembered: Remembered | None,
        end: Tensor | None = None,
    ) -> Tensor:
        """Z of each category, very negative where it cannot be next.

        Args:
            hidden: `[row, d_model]`, from `finish`.
            wide: `[row, category]`, what age, sex and conditions say by themselves.
            last: `[row]`, code before, -1 for none.
            remembered: What earlier visits say; None without memory.
            end: `[row]`, last code that the category of `last` can have here; None for its last code.
        """
        base = self.next_category(hidden) + wide
        bias = self.next_category.bias
        code = last.clamp(min=0)
        current = torch.where(last >= 0, self._of("category_of")[code], -1)
        here = current.clamp(min=0)[:, None]
        again = self.again_bias[code] + (hidden * self.again(code)).sum(-1)
        if remembered is not None:
            row, sums = remembered.row, remembered.sums
            base = bias + (base - bias) * remembered.scale[row] + remembered.shift[row]
            again = again + sums[row, self._of("last")[here[:, 0]] + 1] - sums[row, code + 1]
        again = again.masked_fill(code >= (self._of("last")[here[:, 0]] if end is None else end), NEVER)
        number = torch.arange(base.shape[1], device=base.device)
        base = base.masked_fill(number < current[:, None], NEVER)
        return torch.where((number == here) & (last >= 0)[:, None], again[:, None], base)

    def code_logits(self, hidden: Tensor, category: Tensor, last: Tensor, seen: Tensor | None) -> Tensor:
        """`[row, member]`: logits of the codes of each row's category; very negative where none is, or it is past.

        Args:
            hidden: `[row, d_model]`.
            category: `[row]`.
            last: `[row]`, code before, -1 for none.
            seen: `[row, 2, member]`, whether the last, or only an earlier visit had each code of the category.
        """
        members = self._of("members")[category]
        code = members.clamp(min=0)
        narrow = F.gelu(self.narrow(hidden) + self.narrow_category(category))
        logits = self.code_bias[code] + torch.einsum("rd,rmd->rm", narrow, self.code_out(code))
        if seen is not None and self.memory is not None:
            logits = logits + (self.memory.code_shift[:, code].transpose(0, 1) * seen).sum(1)
        return logits.masked_fill((members < 0) | (members <= last[:, None]), NEVER)

    def stop_logit(self, hidden: Tensor, rank: Tensor) -> Tensor:
        """`[row]`: logit of the history being over after so many visits."""
        return self.stop(hidden)[:, 0] + self.stop_bias[rank.clamp(max=self.config.max_rank)]

    def mark_logits(self, hidden: Tensor, number: int, marks: Tensor) -> Tensor:
        """`[row, value]` of mark `number`, given the marks before it."""
        for earlier in range(number):
            hidden = hidden + self.mark[earlier](marks[:, earlier])
        return self.mark_out[number](hidden)

    def forward(self, batch: Batch, masks: Masks | None = None) -> dict[str, Tensor]:
        """Log-probabilities of what is there, nats.

        Args:
            batch: Sequences.
            masks: `[subject, …]`; without them nothing is impossible.

        Returns:
            `category` and `code` per row of `next_*`, `stop` and `marks` per row of `turn_*`.
        """
        features = self.features(batch.age, batch.sex, batch.conditions)
        person = self.person(features)
        rank = batch.rank[batch.visit] if len(batch.rank) else batch.visit
        marks = batch.marks[batch.visit] if self.n_marks and len(batch.rank) else batch.visit[..., None]
        tokens = self.embed(batch.kind, batch.code, rank, marks, person[:, None])
        hidden = self.finish(self.backbone(tokens, batch.kind == PAD)).flatten(0, 1)
        return {**self._next(batch, hidden, features, masks), **self._turn(batch, hidden)}

    def _next(self, batch: Batch, hidden: Tensor, features: Tensor, masks: Masks | None) -> dict[str, Tensor]:
        at, visit, last, code = batch.next_place, batch.next_visit, batch.next_last, batch.next_code
        subject, here = batch.visit_subject[visit], hidden[at]
        seen = seen_before(batch, self.tables.n_codes) if self.memory is not None else None
        remembered = None
        if self.memory is not None and seen is not None:
            remembered = self.memory.recall(seen.to(here.dtype), visit)
        z = self.next_logits(here, self.wide(features[subject]), last, remembered)
        target = torch.where(code >= 0, self._of("category_of")[code.clamp(min=0)], z.shape[1])
        if masks is not None:
            z = z.masked_fill(masks.last[subject] <= last[:, None], NEVER)
        category = hazard_log_prob(z, target, ~self.get_buffer("empty_visits") & (last < 0))
        rows = torch.nonzero(code >= 0)[:, 0]
        members = self._of("members")[target[rows]]
        seen_members = None
        if seen is not None:
            seen_members = seen[visit[rows]].gather(2, members.clamp(min=0)[:, None].expand(-1, 2, -1))
        logits = self.code_logits(here[rows], target[rows], last[rows], seen_members)
        if masks is not None:
            may = masks.code[subject[rows]].gather(1, members.clamp(min=0))
            logits = logits.masked_fill(~may, NEVER)
        place = (code[rows] - members[:, 0])[:, None]
        within = logits.log_softmax(1).gather(1, place)[:, 0]
        within = within.masked_fill(logits.gather(1, place)[:, 0] <= NEVER / 2, -torch.inf)
        return {"category": category, "code": torch.zeros_like(category).index_copy(0, rows, within)}

    def _turn(self, batch: Batch, hidden: Tensor) -> dict[str, Tensor]:
        here, goes_on = hidden[batch.turn_place], batch.turn_visit >= 0
        logit = self.stop_logit(here, batch.turn_rank)
        stop = torch.where(goes_on, F.logsigmoid(-logit), F.logsigmoid(logit))
        certain = (batch.turn_rank == 0) & ~self.get_buffer("empty_histories")
        sure = torch.where(goes_on, torch.zeros_like(stop), torch.full_like(stop, -torch.inf))
        stop = torch.where(certain, sure, stop)
        marks = torch.zeros_like(stop)
        rows = torch.nonzero(goes_on)[:, 0]
        for number in range(len(self.n_marks)):
            given = batch.marks[batch.turn_visit[rows]]
            found = self.mark_logits(here[rows], number, given).log_softmax(1)
            marks = marks.index_add(0, rows, found.gather(1, given[:, number, None])[:, 0])
        return {"stop": stop, "marks": marks}

    def per_subject(self, batch: Batch, parts: dict[str, Tensor]) -> Tensor:
        """`[subject]`: log-probability of each history, nats, from the parts of `forward`."""
        total = torch.zeros(len(batch.age), dtype=parts["stop"].dtype, device=batch.age.device)
        next_subject = torch.div(batch.next_place, batch.width, rounding_mode="floor")
        turn_subject = torch.div(batch.turn_place, batch.width, rounding_mode="floor")
        total = total.index_add(0, next_subject, parts["category"] + parts["code"])
        return total.index_add(0, turn_subject, parts["stop"] + parts["marks"])

    def loss(self, batch: Batch) -> Tensor:
        """Mean negative log-likelihood per subject, nats; nothing is masked as impossible."""
        return -self.per_subject(batch, self(batch)).mean()

    def _of(self, name: Literal["category_of", "last", "members"]) -> Tensor:
        return self.get_buffer(f"code_{name}")


def hazard_log_prob(z: Tensor, target: Tensor, not_empty: Tensor) -> Tensor:
    """Log-probability of the next category, or of none.

    Args:
        z: `[row, category]`, logit of each, given that none before it was next.
        target: `[row]`, category, or the number of categories for none.
        not_empty: `[row]`, True where none is no choice (if anything is possible at all).
    """
    passed = F.logsigmoid(-z)
    number = torch.arange(z.shape[1], device=z.device)
    skipped = (passed * (number < target[:, None])).sum(1)
    chosen = target < z.shape[1]
    logit = z.gather(1, target.clamp(max=z.shape[1] - 1)[:, None])[:, 0]
    out = skipped + torch.where(chosen, F.logsigmoid(logit), torch.zeros_like(skipped))
    out = out.masked_fill(chosen & (logit <= NEVER / 2), -torch.inf)
    none = passed.sum(1)
    something = (z > NEVER / 2).any(1)
    must = not_empty & something
    # log(1 - e^none); where it does not count, a harmless number keeps gradients finite.
    rest = torch.log(-torch.expm1(torch.where(must, none.clamp(max=-1e-7), torch.full_like(none, -1.0))))
    out = torch.where(must, out - rest, out)
    return out.masked_fill(must & ~chosen, -torch.inf)


def seen_before(batch: Batch, n_codes: int) -> Tensor:
    """`[visit, 2, code]`: whether the visit before had each code, or only one before that."""
    visits = len(batch.rank)
    had = torch.zeros(visits + 1, n_codes, dtype=torch.bool, device=batch.rank.device)
    had[batch.codes_visit, batch.codes] = True
    number = torch.arange(visits, device=batch.rank.device)
    last = had[torch.where(batch.rank > 0, number - 1, visits)]
    earlier = torch.zeros_like(last)
    for rank in range(2, int(batch.rank.max()) + 1 if visits else 0):
        at = torch.nonzero(batch.rank == rank)[:, 0]
        earlier[at] = earlier[at - 1] | last[at - 1]
    return torch.stack([last, earlier & ~last], 1)


def _odds(part: Tensor, whole: Tensor | float) -> Tensor:
    return torch.log(part) - torch.log((whole - part).clamp(min=1e-3))


def _drawn_together(part: Tensor, whole: Tensor) -> Tensor:
    """Log odds of each rate, drawn to that of all together as if ten more had been seen."""
    pooled = (part.sum() + _RARE) / (whole.sum() + 2 * _RARE)
    return _odds(part + _PRIOR * pooled, whole + _PRIOR)


def _logit(count: np.ndarray, total: np.ndarray | int) -> Tensor:
    odds = np.log(count + _RARE) - np.log(np.maximum(total - count, 0) + _RARE)
    return torch.from_numpy(np.asarray(odds)).float()
