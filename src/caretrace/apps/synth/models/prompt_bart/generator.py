r"""The document's model as a generator: what it learns from, its exact likelihood, and how it is sampled.

A history is written visit by visit, each from those before it: `<v> category code category code <\v>`, or `</s>`.
What can follow is fixed by grammar (a code of the category just named, later than the last), so codes of a visit come
in the order of their numbers and each history has one way of being written: its likelihood is exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caretrace.apps.synth.codes import icd9
from caretrace.apps.synth.codes.sequences import CodeTables, Records
from caretrace.apps.synth.codes.vocabulary import (
    END,
    PAD,
    START,
    VISIT_END,
    Vocabulary,
)
from caretrace.apps.synth.models.decoder.sampling import SamplingConfig, Wanted, choose
from caretrace.apps.synth.models.fitting import FitConfig, batches, fit
from caretrace.apps.synth.models.generator import Demographics
from caretrace.apps.synth.models.noise import uniform
from caretrace.apps.synth.models.prompt_bart.corruption import CORRUPTIONS, Corruption, corrupt
from caretrace.apps.synth.models.prompt_bart.network import (
    PromptBart,
    PromptBartConfig,
    load_bart,
    pair_divergence,
    sizes_of,
)
from caretrace.apps.synth.models.prompt_bart.tokens import (
    IGNORED,
    Grammar,
    NextVisits,
    PromptBatch,
    count_pairs,
    from_visit_lists,
    next_visits,
    padded,
    visit_lists,
    what_is_read,
)
from caretrace.config import from_dict, to_dict
from caretrace.errors import ConfigError
from caretrace.evaluation.histories import Bools, Floats, Histories, Ints

_VISITS_MOST = 200
_TOKENS = 2048


class PromptBartLearner:
    """Batches and losses of the document's model.

    Args:
        model: The model.
        vocabulary: Its codes.
        train: Training subjects, for the counts of pairs; None leaves that loss out.
    """

    def __init__(self, model: PromptBart, vocabulary: Vocabulary, train: Histories | None = None) -> None:
        self.model, self.grammar = model, Grammar(vocabulary)
        tables = self.grammar.tables
        self._all = (torch.from_numpy(tables.last), torch.ones(tables.n_codes, dtype=torch.bool))
        self.pairs = count_pairs(train, tables, model.config.pairs_least) if train is not None else None

    def batch(self, records: Records, rng: np.random.Generator) -> PromptBatch:
        """Training batch; codes must be sorted."""
        h, vocabulary = records.histories, self.grammar.vocabulary
        tokens = vocabulary.encode(h, hierarchical=True)
        ends = np.cumsum(tokens.length)
        kinds = rng.integers(0, len(CORRUPTIONS), len(h))
        most = self.model.config.max_positions
        broken = [
            corrupt(tokens.token[end - n : end], CORRUPTIONS[kind], self.grammar.n_tokens, rng)[:most]
            for end, n, kind in zip(ends, tokens.length, kinds, strict=True)
        ]
        return PromptBatch(
            visits=next_visits(h, vocabulary, most),
            broken=padded(broken, PAD),
            whole=torch.from_numpy(tokens.padded(min(most, int(tokens.length.max(initial=1))))),
            kind=torch.from_numpy(kinds),
            age=torch.from_numpy(h.age),
            sex=torch.from_numpy(h.sex),
        )

    def losses(self, batch: PromptBatch) -> dict[str, Tensor]:
        """Each loss without its weight; those with weight 0 are left out."""
        config, model = self.model.config, self.model
        out: dict[str, Tensor] = {}
        if config.weight_next_visit or config.weight_pairs:
            log_p = self.log_probs(batch.visits)
            out["next_visit"] = -self.per_subject(batch.visits, log_p, len(batch.age)).mean()
            if self.pairs is not None and config.weight_pairs:
                presence = self._presence(batch.visits, log_p)
                out["pairs"] = pair_divergence(presence, *self.pairs)
        weights = {kind: getattr(config, f"weight_{kind}") for kind in CORRUPTIONS}
        if any(weights.values()):
            out |= self._mended(batch, weights)
        if config.weight_age or config.weight_sex:
            age, sex = model.guess(batch.whole)
            out["age"] = F.mse_loss(age / 10, batch.age.float() / 10)  # decades: of the size of the others
            out["sex"] = F.binary_cross_entropy_with_logits(sex, batch.sex.float())
        return out

    def loss(self, batch: PromptBatch) -> Tensor:
        """Their weighted sum."""
        found = self.losses(batch)
        return torch.stack([getattr(self.model.config, f"weight_{n}") * v for n, v in found.items()]).sum()

    def tuning_loss(self, records: Records) -> Tensor:
        """Mean negative log-likelihood per subject, nats: the other losses are means to this end."""
        visits = next_visits(records.histories, self.grammar.vocabulary, self.model.config.max_positions)
        return -self.per_subject(visits, self.log_probs(visits), len(records)).mean()

    def log_probs(self, visits: NextVisits, masks: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """`[row, step, token]`: log-probability of each token that the grammar allows, -inf of others.

        Args:
            visits: Rows.
            masks: `[row, category]` and `[row, code]`, as for the grammar; None allows everybody everything.
        """
        model = self.model
        memory = model.encode(visits.read, visits.age, visits.sex)
        logits = model.decode(visits.written, visits.age, visits.sex, memory)
        rows, steps = visits.written.shape
        last_allowed, allowed = masks or (part[None].expand(rows, -1) for part in self._all)
        each = torch.arange(rows).repeat_interleave(steps)
        place = torch.arange(steps).repeat(rows)
        may = self.grammar.may_follow(
            visits.written.flatten(), visits.last.flatten(), place, (last_allowed[each], allowed[each])
        )
        # Where nothing can follow (padding, or after a category that is impossible) anything may.
        may = may | (visits.labels.flatten() == IGNORED)[:, None] | ~may.any(1, keepdim=True)
        # Of nobody is it known that nothing ever happened: a first visit there is.
        first = (visits.read != PAD).sum(1) == 1
        may[first[each] & (place == 0), END] = False
        return logits.masked_fill(~may.view(rows, steps, -1), -torch.inf).log_softmax(-1)

    def per_subject(self, visits: NextVisits, log_p: Tensor, subjects: int) -> Tensor:
        """`[subject]`: log-probability of each history."""
        kept = visits.labels != IGNORED
        found = log_p.gather(2, visits.labels.clamp(min=0)[..., None])[..., 0]
        row = torch.where(kept, found, torch.zeros_like(found)).sum(1)
        return torch.zeros(subjects, dtype=row.dtype).index_add(0, visits.subject, row)

    def _presence(self, visits: NextVisits, log_p: Tensor) -> Tensor:
        """`[visit, category]`: probability that a category is named at some step of each visit."""
        names = (visits.labels != IGNORED) & (torch.arange(log_p.shape[1]) % 2 == 1)
        chance = log_p[..., self.grammar.category_token].exp() * names[..., None]
        rows = names.any(1)
        return -torch.expm1(torch.log1p(-chance[rows].clamp(max=1 - 1e-6)).sum(1))

    def _mended(self, batch: PromptBatch, weights: dict[Corruption, float]) -> dict[str, Tensor]:
        memory = self.model.encode(batch.broken, batch.age, batch.sex)
        logits = self.model.decode(batch.whole[:, :-1], batch.age, batch.sex, memory)
        labels = batch.whole[:, 1:].masked_fill(batch.whole[:, 1:] == PAD, IGNORED)
        each = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none").sum(1)
        return {
            kind: (each * (batch.kind == place)).sum() / len(each)
            for place, kind in enumerate(CORRUPTIONS)
            if weights[kind]
        }


@dataclasses.dataclass(frozen=True, eq=False)
class PromptBartGenerator:
    """A fitted model of the document.

    Args:
        model: In evaluation mode.
        vocabulary: Its codes.
        demographics: Of the training subjects.
        masked: Whether codes impossible at an age or sex are impossible.
    """

    model: PromptBart
    vocabulary: Vocabulary
    demographics: Demographics
    masked: bool = True

    @torch.no_grad()
    def log_likelihood(self, records: Records) -> Floats:
        """`[subject]`: log p(history | age, sex), nats; exact, as the module says."""
        clean, learner = records.sorted(), PromptBartLearner(self.model, self.vocabulary)
        out = np.full(len(clean), -np.inf)
        for subjects in batches(clean, _TOKENS, np.random.default_rng(0)):
            h = clean.histories.take(subjects)
            visits = next_visits(h, self.vocabulary, self.model.config.max_positions)
            log_p = learner.log_probs(visits, self._masks(visits.age.numpy(), visits.sex.numpy()))
            found = learner.per_subject(visits, log_p, len(subjects)).double().numpy()
            out[subjects] = np.where(h.visit_count > 0, found, -np.inf)
        return out

    @torch.no_grad()
    def draw(self, wanted: Wanted, seed: int, config: SamplingConfig) -> Records:
        """One history for each subject wanted."""
        parts = [
            self._drawn(wanted, np.arange(first, min(first + config.rows, len(wanted))), seed, config)
            for first in range(0, len(wanted), config.rows)
        ]
        visits = [visit for part in parts for each in part for visit in each]
        codes = [np.array(visit, np.int64) for visit in visits]
        return Records(
            Histories(
                age=wanted.age,
                sex=wanted.sex,
                visit_count=np.array([len(each) for part in parts for each in part], np.int64),
                code_count=np.array([len(visit) for visit in visits], np.int64),
                code=np.concatenate([np.zeros(0, np.int64), *codes]),
                n_codes=self.vocabulary.n_codes,
            )
        )

    def settings(self) -> dict[str, Any]:
        """What a bundle keeps beside the weights."""
        return {
            "model": to_dict(dataclasses.replace(self.model.config, pretrained="")),
            "masked": self.masked,
        }

    def state(self) -> dict[str, Tensor]:
        """Weights, for a bundle."""
        return dict(self.model.state_dict())

    @classmethod
    def restore(
        cls, config: dict[str, Any], state: dict[str, Tensor], vocabulary: Vocabulary, people: Demographics
    ) -> PromptBartGenerator:
        """From what a bundle kept."""
        model = PromptBart(from_dict(PromptBartConfig, config["model"]), vocabulary.n_hierarchical_tokens)
        model.load_state_dict(state)
        return cls(model.eval(), vocabulary, people, config["masked"])

    def _masks(self, age: Ints, sex: Ints) -> tuple[Tensor, Tensor]:
        tables = CodeTables(self.vocabulary)
        allowed: Bools = tables.allowed(icd9.limits(self.vocabulary.normal_codes) if self.masked else None)
        last = tables.last_allowed(allowed)
        return torch.from_numpy(last[age, sex]), torch.from_numpy(allowed[age, sex])

    def _drawn(self, wanted: Wanted, who: Ints, seed: int, config: SamplingConfig) -> list[list[list[int]]]:
        """Visits of these subjects."""
        if wanted.begun is not None:
            begun = visit_lists(wanted.begun.sorted().histories.take(who))
        else:
            begun = [[] for _ in who]
        alive = np.arange(len(who))
        drawn = np.zeros(len(who), np.int64)  # addresses used so far
        for _ in range(_VISITS_MOST):
            if not len(alive):
                break
            context = self._context([begun[place] for place in alive], wanted.age[who[alive]])
            visits = self._visits(wanted, who[alive], context, drawn[alive], (seed, config))
            for place, visit, used in visits_of(alive, visits):
                drawn[place] += used
                if visit is not None:
                    begun[place].append(visit)
            alive = alive[[visit is not None for visit, _ in visits]]
        return begun

    def _context(self, visits: list[list[list[int]]], age: Ints) -> Tensor:
        h = from_visit_lists(visits, age, self.vocabulary.n_codes)
        return what_is_read(h, self.vocabulary, self.model.config.max_positions)

    def _visits(
        self, wanted: Wanted, who: Ints, read: Tensor, drawn: Ints, how: tuple[int, SamplingConfig]
    ) -> list[tuple[list[int] | None, int]]:
        """Codes of the next visit of each, None if the history is over; and the random numbers used."""
        seed, config = how
        learner = PromptBartLearner(self.model, self.vocabulary)
        age, sex = torch.from_numpy(wanted.age[who]), torch.from_numpy(wanted.sex[who])
        masks = self._masks(wanted.age[who], wanted.sex[who])
        memory = self.model.encode(read, age, sex)
        rows = len(who)
        written, last = torch.full((rows, 1), START), torch.full((rows,), -1)
        codes: list[list[int] | None] = [[] for _ in who]
        over = torch.zeros(rows, dtype=torch.bool)
        used = np.zeros(rows, np.int64)
        first = (read != PAD).sum(1) == 1
        code_of = {int(token): code for code, token in enumerate(learner.grammar.code_token)}
        for step in range(2 * self.vocabulary.n_codes + 2):
            logits = self.model.decode(written, age, sex, memory)[:, -1].double()
            place = torch.full((rows,), step)
            may = learner.grammar.may_follow(written[:, -1], last, place, masks)
            if step == 0:
                may[first, END] = False
            may[over, PAD] = True
            chance = logits.masked_fill(~may, -torch.inf).softmax(-1)
            draw = torch.from_numpy(uniform(seed, wanted.subject[who], drawn + step))
            token = torch.where(over, PAD, choose(chance, draw, config))
            for row in torch.nonzero(~over)[:, 0].tolist():
                used[row] = step + 1
                chosen, mine = int(token[row]), codes[row]
                if chosen == END:
                    codes[row] = None
                elif step >= 2 and step % 2 == 0 and chosen != VISIT_END and mine is not None:
                    mine.append(code_of[chosen])
                    last[row] = code_of[chosen]
            over |= (token == END) | (token == VISIT_END)
            if over.all():
                break
            written = torch.cat([written, token[:, None]], 1)
        return list(zip(codes, used.tolist(), strict=True))


def fit_prompt_bart(
    train: Records,
    tuning: Records,
    vocabulary: Vocabulary,
    config: PromptBartConfig | None = None,
    fitting: FitConfig | None = None,
    progress: Callable[[dict[str, float]], None] = lambda _: None,
) -> tuple[PromptBartGenerator, list[dict[str, float]]]:
    """Fit the document's model.

    Args:
        train: Subjects to learn from, each with a visit; marks and conditions are not modelled.
        tuning: Subjects that say when to stop.
        vocabulary: Of the histories.
        config: Size and losses.
        fitting: How.
        progress: Told after each epoch.

    Raises:
        ConfigError: Subjects without a visit, or visits without a code, which this model cannot write.
    """
    clean, check, chosen = train.sorted(), tuning.sorted(), fitting or FitConfig()
    for part in (clean.histories, check.histories):
        if (part.visit_count == 0).any() or (part.code_count == 0).any():
            raise ConfigError(
                "prompt-bart writes no empty visit and no empty history; leave these subjects out"
            )
    torch.manual_seed(chosen.seed)
    settings = sizes_of(config or PromptBartConfig())
    model = PromptBart(settings, vocabulary.n_hierarchical_tokens)
    if settings.pretrained:
        load_bart(model, settings.pretrained)
    learner = PromptBartLearner(model, vocabulary, clean.histories)
    log = fit(model, learner, clean, check, chosen, progress)
    return PromptBartGenerator(model, vocabulary, Demographics.of(clean.histories)), log


def visits_of(
    alive: Ints, visits: list[tuple[list[int] | None, int]]
) -> list[tuple[int, list[int] | None, int]]:
    """Each subject's place, its next visit and the random numbers used."""
    return [(int(place), visit, used) for place, (visit, used) in zip(alive, visits, strict=True)]
