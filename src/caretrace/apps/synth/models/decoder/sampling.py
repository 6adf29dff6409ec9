"""Drawing histories from the decoder: many at once, each from random numbers of its own.

Rows of a batch are at different tokens of different subjects; a row whose history is over is given to the next
subject, so the batch stays full. A subject's random numbers are addressed by seed, subject and draw (`noise.py`): the
same seed draws the same subjects whatever the batch size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caretrace.apps.synth.codes.sequences import CODE, PREFIX, VISIT, Records, lengths, make_batch
from caretrace.apps.synth.models.decoder.cache import steps_of
from caretrace.apps.synth.models.decoder.network import NEVER, DecoderModel, Masks, Remembered
from caretrace.apps.synth.models.noise import uniform
from caretrace.errors import ConfigError
from caretrace.evaluation.histories import Bools, Floats, Histories, Ints

DRAWS_A_TOKEN = 64  # addresses per token: category, code, turn, and a draw for each mark
_CATEGORY, _CODE, _STOP, _MARK = range(4)


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How histories are drawn.

    Args:
        temperature: Below 1 sharpens each choice, above 1 flattens it; 1 samples the model itself.
        top_k: Keep the most probable categories and codes of each choice only; 0 keeps all.
        top_p: Keep the smallest set with at least this probability (Holtzman et al. 2020); 1 keeps all.
        rows: Histories drawn at once.
        max_tokens: A history that has as many is ended with its visit, and counted.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    rows: int = 256
    max_tokens: int = 4096

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"temperature: got {self.temperature}, it must be above 0")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p: got {self.top_p}, it must lie in (0, 1]")
        if self.top_k < 0 or self.rows < 1 or self.max_tokens < 2:
            raise ConfigError("top_k must not be negative, rows at least 1, max_tokens at least 2")

    @property
    def plain(self) -> bool:
        """Whether the model itself is sampled."""
        return self.temperature == 1 and self.top_k == 0 and self.top_p == 1


@dataclasses.dataclass(frozen=True, eq=False)
class Wanted:
    """Whose histories to draw.

    Args:
        subject: `[subject]`, address of the random numbers: a number of its own for each.
        age: `[subject]`, whole years.
        sex: `[subject]`.
        conditions: `[subject, condition]`.
        begun: Visits that are known, to be gone on with; None begins with nothing.
    """

    subject: Ints
    age: Ints
    sex: Ints
    conditions: Floats | None = None
    begun: Records | None = None

    def __len__(self) -> int:
        return len(self.subject)


@dataclasses.dataclass(frozen=True, eq=False)
class Sampled:
    """What was drawn, in the order asked for; `cut` counts histories ended at `max_tokens`."""

    records: Records
    cut: int


class Sampler:
    """Draws histories from a model.

    Args:
        model: In evaluation mode.
        config: How.
        seed: Of the sample.
        allowed: `[age, sex, code]` from `CodeTables.allowed`; None for no masks.
    """

    def __init__(
        self, model: DecoderModel, config: SamplingConfig, seed: int, allowed: Bools | None = None
    ) -> None:
        self.model, self.config, self.seed = model, config, seed
        self._device = next(model.parameters()).device
        self._masks: Masks | None = None
        if allowed is not None:
            last = model.tables.last_allowed(allowed)
            self._masks = Masks(*(torch.from_numpy(part).to(self._device) for part in (last, allowed)))

    @torch.no_grad()
    def draw(self, wanted: Wanted) -> Sampled:
        """Draw one history for each subject."""
        if not len(wanted):
            return Sampled(_gathered(wanted, [], self.model), 0)
        rows = _Rows(self, wanted, min(self.config.rows, len(wanted)))
        tokens = list(rows.run())
        return Sampled(_gathered(wanted, tokens, self.model), rows.cut)

    def uniform(self, subject: Tensor, draw: Tensor) -> Tensor:
        """Random numbers at addresses, double precision."""
        found = uniform(self.seed, subject.cpu().numpy(), draw.cpu().numpy())
        return torch.from_numpy(found).to(self._device)

    def of_categories(self, z: Tensor, not_empty: Tensor, draw: Tensor) -> Tensor:
        """`[row]`: the next category, or the number of categories for none."""
        passing = F.logsigmoid(-z.double()).cumsum(1)
        must = not_empty & (z.amax(1) > NEVER / 2)
        all_passed = passing[:, -1].exp() * ~must
        if self.config.plain:  # the first category by which more than the draw of the probability has come
            total = torch.where(must, -torch.expm1(passing[:, -1]), torch.ones_like(draw))
            chosen = (passing >= torch.log1p(-draw * total)[:, None]).sum(1)
            rows = torch.nonzero(must)[:, 0]  # rounding may not reach past the last that is possible
            last = z.shape[1] - 1 - (z[rows] > NEVER / 2).flip(1).byte().argmax(1)
            chosen[rows] = torch.minimum(chosen[rows], last)
            return chosen
        before = F.pad(passing[:, :-1], (1, 0))
        each = (before + F.logsigmoid(z.double())).exp()
        return choose(torch.cat([each, all_passed[:, None]], 1), draw, self.config)


class _Rows:
    """The batch in flight: one history per row.

    Attributes:
        cut: Histories ended at `max_tokens`.
    """

    def __init__(self, sampler: Sampler, wanted: Wanted, rows: int) -> None:
        self._sampler, self._wanted, self._model = sampler, wanted, sampler.model
        self._steps = steps_of(self._model.backbone, rows)
        device, n_codes = sampler._device, self._model.tables.n_codes
        self.cut = 0
        self._queue = 0
        self._whose = self._ints(rows) - 1  # place in `wanted`; -1 for an idle row
        self._step, self._rank, self._last = self._ints(rows), self._ints(rows), self._ints(rows)
        self._kind, self._code = self._ints(rows), self._ints(rows)
        self._marks = self._ints(rows, max(1, len(self._model.n_marks)))
        self._seen = torch.zeros(rows, 3, n_codes, dtype=torch.bool, device=device)  # last, earlier, now
        self._subject = torch.from_numpy(wanted.subject).to(device)
        self._age, self._sex = (torch.from_numpy(part).to(device) for part in (wanted.age, wanted.sex))
        conditions = np.zeros((len(wanted), 0)) if wanted.conditions is None else wanted.conditions
        given = torch.from_numpy(conditions).float().to(device)
        self._features = self._model.features(self._age, self._sex, given)
        self._person = self._model.person(self._features)
        self._wide = torch.zeros(rows, self._model.tables.n_categories, device=device)
        self._pair = torch.arange(2, device=device)[None, :, None]
        self._memory: Remembered | None = None
        if self._model.memory is not None:
            nothing = self._seen[:, :2].to(self._person.dtype)
            self._memory = self._model.memory.recall(nothing, self._whose)
        self._forced, self._n_forced, self._forced_marks = self._begun(wanted)

    def _ints(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.int64, device=self._sampler._device)

    def run(self) -> Iterator[tuple[Ints, Ints, Ints, Ints]]:
        """Token by token: whose, kind, code and marks of what was written."""
        self._refill()
        while True:
            rows = torch.nonzero(self._whose >= 0)[:, 0]
            if not len(rows):
                return
            whose = self._whose[rows]
            tokens = self._model.embed(
                self._kind[rows], self._code[rows], self._rank[rows], self._marks[rows], self._person[whose]
            )
            hidden = self._model.finish(self._steps.step(tokens, rows))
            over = self._advance(rows, whose, hidden)
            self._step[rows] += 1
            kept = ~over
            written = (whose[kept], self._kind[rows[kept]], self._code[rows[kept]], self._marks[rows[kept]])
            yield tuple(part.cpu().numpy() for part in written)  # type: ignore[misc]
            if over.any():
                self._whose[rows[over]] = -1
                self._steps.release(rows[over])
                self._refill()

    def _advance(self, rows: Tensor, whose: Tensor, hidden: Tensor) -> Tensor:
        """Decide on the next token of each row; True where the history is over."""
        at, forced = self._step[rows], self._n_forced[whose]
        given = at + 1 < forced
        in_visit = (self._kind[rows] != PREFIX) & (at + 1 > forced)
        turning = ~given & ~in_visit
        if in_visit.any():
            place = torch.nonzero(in_visit)[:, 0]
            ended = self._write_code(rows[place], whose[place], hidden[place])
            turning[place[ended]] = True
        over = torch.zeros_like(turning)
        if turning.any():
            place = torch.nonzero(turning)[:, 0]
            over[place] = self._turn(rows[place], whose[place], hidden[place])
        if given.any():
            self._copy(rows[given], whose[given])
        long = turning & ~over & (at + 2 > self._sampler.config.max_tokens)  # never within a visit
        self.cut += int(long.sum())
        return over | long

    def _write_code(self, rows: Tensor, whose: Tensor, hidden: Tensor) -> Tensor:
        """Next code of these rows, or the end of the visit (True)."""
        model, sampler, last = self._model, self._sampler, self._last[rows]
        remembered = None
        if self._memory is not None:
            remembered = dataclasses.replace(self._memory, row=rows)
        masks, end = sampler._masks, None
        age, sex = self._age[whose], self._sex[whose]
        if (
            masks is not None
        ):  # categories that are closed altogether were closed in `_refill` and `_remember`
            end = masks.last[age, sex, model.get_buffer("code_category_of")[last.clamp(min=0)]]
        z = model.next_logits(hidden, self._wide[rows], last, remembered, end)
        not_empty = ~model.get_buffer("empty_visits") & (last < 0)
        category = sampler.of_categories(z, not_empty, self._draw(rows, whose, _CATEGORY))
        ended = category == z.shape[1]
        on = torch.nonzero(~ended)[:, 0]
        if len(on):
            members = model.get_buffer("code_members")[category[on]]
            logits = model.code_logits(
                hidden[on], category[on], last[on],
                self._seen[rows[on, None, None], self._pair, members.clamp(min=0)[:, None]],
            )  # fmt: skip
            if masks is not None:
                may = masks.code[age[on, None], sex[on, None], members.clamp(min=0)]
                logits = logits.masked_fill(~may, NEVER)
            place = choose(logits.double().softmax(1), self._draw(rows[on], whose[on], _CODE), sampler.config)
            self._put_code(rows[on], members.gather(1, place[:, None])[:, 0])
        return ended

    def _turn(self, rows: Tensor, whose: Tensor, hidden: Tensor) -> Tensor:
        """Another visit in these rows, or the end of the history (True)."""
        model, sampler = self._model, self._sampler
        visits = torch.where(self._kind[rows] == PREFIX, 0, self._rank[rows] + 1)
        stop = model.stop_logit(hidden, visits).double().sigmoid()
        stop = stop.masked_fill((visits == 0) & ~model.get_buffer("empty_histories"), 0.0)
        if sampler.config.temperature != 1:
            pair = torch.stack([1 - stop, stop], 1) ** (1 / sampler.config.temperature)
            stop = pair[:, 1] / pair.sum(1)
        over = self._draw(rows, whose, _STOP) < stop
        on = torch.nonzero(~over)[:, 0]
        marks = self._marks[rows[on]]
        for number in range(len(model.n_marks)):
            probability = model.mark_logits(hidden[on], number, marks).double().softmax(1)
            marks[:, number] = choose(
                probability, self._draw(rows[on], whose[on], _MARK + number), sampler.config
            )
        self._put_visit(rows[on], visits[on], marks)
        return over

    def _draw(self, rows: Tensor, whose: Tensor, what: int) -> Tensor:
        return self._sampler.uniform(self._subject[whose], self._step[rows] * DRAWS_A_TOKEN + what)

    def _put_code(self, rows: Tensor, code: Tensor) -> None:
        self._kind[rows], self._code[rows], self._last[rows] = CODE, code, code
        self._seen[rows, 2, code] = True

    def _put_visit(self, rows: Tensor, rank: Tensor, marks: Tensor) -> None:
        now, last, earlier = (self._seen[rows, part] for part in (2, 0, 1))
        self._seen[rows, 1] = (earlier | last) & ~now
        self._seen[rows, 0] = now
        self._seen[rows, 2] = False
        self._kind[rows], self._code[rows], self._last[rows], self._rank[rows] = VISIT, 0, -1, rank
        self._marks[rows] = marks
        if self._memory is not None:
            self._remember(rows)

    def _remember(self, rows: Tensor) -> None:
        """What earlier visits say changes with each visit, not with each code."""
        assert self._model.memory is not None
        assert self._memory is not None
        found = self._model.memory.recall(self._seen[rows, :2].to(self._person.dtype), rows)
        self._memory.sums[rows], self._memory.scale[rows] = found.sums, found.scale
        self._memory.shift[rows] = self._closed(found.shift, self._whose[rows])

    def _closed(self, logits: Tensor, whose: Tensor) -> Tensor:
        """Logits `[row, category]`, very negative where masks leave a person no code of a category."""
        masks = self._sampler._masks
        if masks is None:
            return logits
        return logits.masked_fill(masks.last[self._age[whose], self._sex[whose]] < 0, NEVER)

    def _copy(self, rows: Tensor, whose: Tensor) -> None:
        """The next token of a history that is begun."""
        at = self._step[rows] + 1
        kind, code = (self._forced[part, whose, at] for part in (0, 1))
        is_code = kind == CODE
        self._put_code(rows[is_code], code[is_code])
        new = rows[~is_code]
        rank = torch.where(self._kind[new] == PREFIX, 0, self._rank[new] + 1)
        self._put_visit(new, rank, self._forced_marks[whose[~is_code], at[~is_code]])

    def _refill(self) -> None:
        """Give idle rows to subjects that wait."""
        idle = torch.nonzero(self._whose < 0)[:, 0]
        if not self._steps.can_restart and len(idle) < len(self._whose):
            return
        idle = idle[: len(self._wanted) - self._queue]
        if not len(idle):
            return
        self._whose[idle] = torch.arange(self._queue, self._queue + len(idle), device=idle.device)
        self._queue += len(idle)
        self._steps.restart(idle)
        for state in (self._step, self._rank, self._code, self._marks, self._seen):
            state[idle] = 0
        self._kind[idle], self._last[idle] = PREFIX, -1
        whose = self._whose[idle]
        self._wide[idle] = self._model.wide(self._features[whose])
        if self._memory is None:
            self._wide[idle] = self._closed(self._wide[idle], whose)

    def _begun(self, wanted: Wanted) -> tuple[Tensor, Tensor, Tensor]:
        """`[2, subject, step]` kinds and codes, `[subject]` their number, and `[subject, step, mark]`."""
        subjects, wide = len(wanted), self._marks.shape[1]
        if wanted.begun is None:
            return self._ints(2, subjects, 1), self._ints(subjects) + 1, self._ints(subjects, 1, wide)
        batch = make_batch(wanted.begun.sorted())
        count = lengths(wanted.begun.sorted().histories)
        marks = torch.zeros(*batch.kind.shape, wide, dtype=torch.int64)
        if self._model.n_marks and len(batch.rank):
            marks = batch.marks[batch.visit]
        device = self._person.device
        forced = torch.stack([batch.kind, batch.code]).to(device)
        return forced, torch.from_numpy(count).to(device), marks.to(device)


def _gathered(wanted: Wanted, tokens: list[tuple[Ints, Ints, Ints, Ints]], model: DecoderModel) -> Records:
    """Tokens in the order they were written, as histories in the order asked for."""
    empty = np.zeros(0, np.int64)
    whose, kind, code = (np.concatenate([empty, *(step[part] for step in tokens)]) for part in range(3))
    order = np.argsort(whose, kind="stable")
    whose, kind, code = whose[order], kind[order], code[order]
    is_visit = kind == VISIT
    visit = np.cumsum(is_visit) - 1
    histories = Histories(
        age=wanted.age,
        sex=wanted.sex,
        visit_count=np.bincount(whose[is_visit], minlength=len(wanted)),
        code_count=np.bincount(visit[~is_visit], minlength=int(is_visit.sum())),
        code=code[~is_visit],
        n_codes=model.tables.n_codes,
    )
    marks = None
    if model.n_marks:
        marks = np.concatenate([np.zeros((0, len(model.n_marks)), np.int64), *(step[3] for step in tokens)])
        marks = marks[order][is_visit]
    return Records(histories, marks, wanted.conditions)


def choose(probability: Tensor, draw: Tensor, config: SamplingConfig) -> Tensor:
    """`[row]`: a choice among `[row, option]`, after temperature, top-k and top-p."""
    weight = probability.double()
    if config.temperature != 1:
        weight = (weight / weight.amax(1, keepdim=True)) ** (1 / config.temperature)
    if config.top_k and config.top_k < weight.shape[1]:
        least = weight.topk(config.top_k, 1).values[:, -1:]
        weight = weight * (weight >= least)
    if config.top_p < 1:
        ordered, place = weight.sort(1, descending=True)
        before = ordered.cumsum(1) - ordered
        kept = before < config.top_p * ordered.sum(1, keepdim=True)
        weight = weight * torch.zeros_like(weight).scatter(1, place, kept.double())
    reach = weight.cumsum(1)
    chosen = (reach <= (draw * reach[:, -1])[:, None]).sum(1)
    last = weight.shape[1] - 1 - (weight > 0).flip(1).int().argmax(1)
    return torch.minimum(chosen, last)  # rounding may not reach past the last that is possible
