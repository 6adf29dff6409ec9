"""Histories as the document's model reads and writes them, and the grammar of what it writes."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from caretrace.apps.synth.codes.sequences import CodeTables
from caretrace.apps.synth.codes.vocabulary import (
    END,
    PAD,
    SPECIAL,
    START,
    UNKNOWN,
    VISIT,
    VISIT_END,
    Vocabulary,
)
from caretrace.evaluation.histories import Histories, Ints

IGNORED = -100  # label of padding


@dataclasses.dataclass(frozen=True, eq=False)
class NextVisits:
    """Rows of next-visit prediction: every visit of every subject from those before it, and the end.

    Args:
        read: `[row, step]`, `<s>` and the visits before; never the one to be written.
        written: `[row, step]`, what the decoder is fed: `<s>`, then the visit without its last token.
        labels: `[row, step]`, the token after each; `IGNORED` on padding.
        last: `[row, step]`, code written before each step, -1 for none.
        subject: `[row]`.
        age: `[row]`, whole years.
        sex: `[row]`.
    """

    read: Tensor
    written: Tensor
    labels: Tensor
    last: Tensor
    subject: Tensor
    age: Tensor
    sex: Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class PromptBatch:
    """What one step of training reads.

    Args:
        visits: Next-visit prediction.
        broken: `[subject, step]`, corrupted histories.
        whole: `[subject, step]`, the histories.
        kind: `[subject]`, place in `CORRUPTIONS`.
        age: `[subject]`.
        sex: `[subject]`.
    """

    visits: NextVisits
    broken: Tensor
    whole: Tensor
    kind: Tensor
    age: Tensor
    sex: Tensor


class Grammar:
    """Which token may follow.

    Args:
        vocabulary: Codes and categories.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary, self.tables = vocabulary, CodeTables(vocabulary)
        n_categories = len(vocabulary.categories)
        self.n_tokens = vocabulary.n_hierarchical_tokens
        self.category_token = torch.tensor([*range(len(SPECIAL), len(SPECIAL) + n_categories), UNKNOWN])
        first = len(SPECIAL) + n_categories
        self.code_token = torch.tensor([*range(first, first + len(vocabulary.codes)), UNKNOWN])
        self._category_of = torch.from_numpy(self.tables.category_of)

    def may_follow(self, token: Tensor, last: Tensor, place: Tensor, masks: tuple[Tensor, Tensor]) -> Tensor:
        """`[row, token]`.

        Args:
            token: `[row]`, token before.
            last: `[row]`, code before, -1 for none.
            place: `[row]`, steps since `<s>`: categories follow at odd ones, codes at even ones.
            masks: `[row, category]` last code that may be had, `[row, code]` whether it may.
        """
        last_allowed, allowed = masks
        out = torch.zeros(len(token), self.n_tokens, dtype=torch.bool)
        starts = token == START
        out[starts, VISIT] = out[starts, END] = True
        names = ~starts & (place % 2 == 1)  # after <v> or a code
        out[:, self.category_token] |= names[:, None] & (last_allowed > last[:, None])
        out[names & ((last >= 0) | ~out.any(1)), VISIT_END] = True
        codes = ~starts & ~names
        category = torch.where(token == UNKNOWN, self.tables.n_categories - 1, token - len(SPECIAL))
        within = self._category_of[None] == category[:, None]
        later = torch.arange(self.tables.n_codes)[None] > last[:, None]
        out[:, self.code_token] |= codes[:, None] & within & later & allowed
        return out


def next_visits(h: Histories, vocabulary: Vocabulary, max_positions: int) -> NextVisits:
    """Every visit of every subject as a row, and a row for the end of each history; codes must be sorted."""
    tables = CodeTables(vocabulary)
    n_categories = len(vocabulary.categories)
    category = np.append(len(SPECIAL) + np.arange(n_categories), UNKNOWN)[tables.category_of]
    token = np.append(len(SPECIAL) + n_categories + np.arange(len(vocabulary.codes)), UNKNOWN)
    whose, reads, written, labels, last = [], [], [], [], []
    for subject, visits in enumerate(visit_lists(h)):
        context: list[list[int]] = []
        for visit in [*visits, None]:
            whose.append(subject)
            reads.append(_read(context, max_positions))
            if visit is None:
                line, before = [START, END], [-1]
            else:
                pairs = [t for code in visit for t in (int(category[code]), int(token[code]))]
                line = [START, VISIT, *pairs, VISIT_END]
                before = [-1, -1, *(b for code in [-1, *visit] for b in (code, code))][1:][: len(line) - 1]
                context.append([VISIT, *pairs, VISIT_END])
            written.append(np.array(line[:-1]))
            labels.append(np.array(line[1:]))
            last.append(np.array(before))
    rows = torch.tensor(whose, dtype=torch.int64)
    return NextVisits(
        read=padded(reads, PAD),
        written=padded(written, PAD),
        labels=padded(labels, IGNORED),
        last=padded(last, -1),
        subject=rows,
        age=torch.from_numpy(h.age)[rows],
        sex=torch.from_numpy(h.sex)[rows],
    )


def count_pairs(h: Histories, tables: CodeTables, least: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of different categories in a visit that at least `least` visits have: first, second, how many."""
    from scipy.sparse import csr_array, triu

    key = np.unique(h.token_visit * tables.n_categories + tables.category_of[h.code])
    rows, columns = key // tables.n_categories, key % tables.n_categories
    shape = (len(h.code_count), tables.n_categories)
    had = csr_array((np.ones(len(key)), (rows, columns)), shape=shape)
    both = triu(had.T @ had, k=1).tocoo()
    kept = both.data >= least
    first, second, count = both.row[kept], both.col[kept], both.data[kept]
    return (
        torch.from_numpy(first.astype(np.int64)),
        torch.from_numpy(second.astype(np.int64)),
        torch.from_numpy(count).float(),
    )


def visit_lists(h: Histories) -> list[list[list[int]]]:
    """Visits of each subject, as lists of codes."""
    visits = (
        [part.tolist() for part in np.split(h.code, np.cumsum(h.code_count)[:-1])]
        if len(h.code_count)
        else []
    )
    ends = np.cumsum(h.visit_count)
    return [visits[end - n : end] for end, n in zip(ends, h.visit_count, strict=True)]


def from_visit_lists(visits: list[list[list[int]]], age: Ints, n_codes: int) -> Histories:
    """Histories of lists of visits, each a list of codes; nobody's sex is known."""
    flat = [np.array(visit, np.int64) for each in visits for visit in each]
    return Histories(
        age=age,
        sex=np.zeros(len(age), np.int64),
        visit_count=np.array([len(each) for each in visits], np.int64),
        code_count=np.array([len(visit) for visit in flat], np.int64),
        code=np.concatenate([np.zeros(0, np.int64), *flat]),
        n_codes=n_codes,
    )


def what_is_read(h: Histories, vocabulary: Vocabulary, max_positions: int) -> Tensor:
    """`[subject, step]`: what the encoder reads to write the visit after these."""
    tokens = vocabulary.encode(h, hierarchical=True)
    ends = np.cumsum(tokens.length)
    lines = []
    for end, n in zip(ends, tokens.length, strict=True):
        line = tokens.token[end - n : end - 1]  # without </s>
        context = np.split(line[1:], np.flatnonzero(line[1:] == VISIT))[1:]
        lines.append(_read([part.tolist() for part in context], max_positions))
    return padded(lines, PAD)


def _read(context: list[list[int]], most: int) -> Ints:
    """`<s>` and the latest visits that fit."""
    kept: list[list[int]] = []
    room = most - 1
    for visit in reversed(context):
        room -= len(visit)
        if room < 0:
            break
        kept.insert(0, visit)
    return np.array([START, *(token for visit in kept for token in visit)], np.int64)


def padded(lines: list[Ints], fill: int) -> Tensor:
    """`[line, place]`, filled on the right."""
    out = np.full((len(lines), max((len(line) for line in lines), default=1)), fill, np.int64)
    for row, line in enumerate(lines):
        out[row, : len(line)] = line
    return torch.from_numpy(out)
