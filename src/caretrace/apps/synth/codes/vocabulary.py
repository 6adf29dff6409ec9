r"""Histories as tokens and back: one code is one token, and the structure of visits survives any round trip.

    <s>  <v> 17 203 <\\v>  <v> <\\v>  </s>            flat: codes from 7 on
    <s>  <v> 9 17 12 203 <\\v>  </s>                 by category: its category before each code

Flat, the codes follow the seven special tokens; by category, the categories follow these, and then the codes. Within
a visit codes stand in increasing order, because a visit is a set. `<unk>` is a code like any other to a `Histories`:
its last one, so that arrays and tokens hold the same.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from caretrace.apps.synth.codes import icd9
from caretrace.errors import BundleError, InputError
from caretrace.evaluation.histories import Histories, Ints, ranges

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<v>", "<\\v>", "<mask>")
START, PAD, END, UNKNOWN, VISIT, VISIT_END, MASK = range(7)


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
    """Token sequences of many subjects, one after the other.

    Args:
        token: `[token]`.
        length: `[subject]`, tokens of each.
    """

    token: Ints
    length: Ints

    def padded(self, most: int | None = None) -> Ints:
        """`[subject, position]`, `<pad>` on the right; longer sequences are cut to `most`."""
        width = int(self.length.max(initial=0)) if most is None else most
        out = np.full((len(self.length), width), PAD, np.int64)
        row, column = np.repeat(np.arange(len(self.length)), self.length), ranges(self.length)
        fits = column < width
        out[row[fits], column[fits]] = self.token[fits]
        return out


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """Codes, their categories, and the tokens of both.

    Args:
        codes: In the order of their numbers; `<unk>` is not among them.
        categories: In the order of their numbers.
        category_of: `[code]`, number of the category of each code.
    """

    codes: tuple[str, ...]
    categories: tuple[str, ...]
    category_of: NDArray[np.int64]

    @classmethod
    def of(cls, codes: Sequence[str]) -> Self:
        """Vocabulary of these codes, sorted by category, then by code, each once.

        The category of an ICD-9-CM code is its first three digits (V and two, E and three); of anything else, the
        code itself.
        """
        by_code = {code: _category(code) for code in codes}
        ordered = sorted(by_code, key=lambda code: (by_code[code], code))
        categories = sorted(set(by_code.values()))
        places = {name: place for place, name in enumerate(categories)}
        return cls(
            codes=tuple(ordered),
            categories=tuple(categories),
            category_of=np.array([places[by_code[code]] for code in ordered], np.int64),
        )

    @property
    def n_codes(self) -> int:
        """Codes of a `Histories`: ours, and `<unk>` as the last."""
        return len(self.codes) + 1

    @property
    def normal_codes(self) -> tuple[str, ...]:
        """`[code, <unk> last]`: as `icd9` writes them; what is no ICD-9-CM code, and `<unk>`, as it stands."""
        return (*(_normal(code) for code in self.codes), SPECIAL[UNKNOWN])

    @property
    def n_tokens(self) -> int:
        """Flat: special tokens and codes."""
        return len(SPECIAL) + len(self.codes)

    @property
    def n_hierarchical_tokens(self) -> int:
        """By category: special tokens, categories and codes."""
        return len(SPECIAL) + len(self.categories) + len(self.codes)

    @functools.cached_property
    def number(self) -> dict[str, int]:
        """Number of each code."""
        return {code: place for place, code in enumerate(self.codes)}

    def name(self, token: int, hierarchical: bool = False) -> str:
        """What a token says."""
        names = (*SPECIAL, *(self.categories if hierarchical else ()), *self.codes)
        return names[token]

    def encode(self, histories: Histories, hierarchical: bool = False) -> Tokens:
        """Token sequences; a code twice in a visit is written once.

        Args:
            histories: Of this vocabulary (`n_codes`).
            hierarchical: Write the category before each code (`<unk>` before `<unk>`).

        Raises:
            InputError: Histories of another vocabulary.
        """
        if histories.n_codes != self.n_codes:
            raise InputError(
                f"histories of {histories.n_codes} codes, vocabulary of {self.n_codes} with <unk>; "
                "read both from the same dataset"
            )
        clean = histories.with_codes_sorted()
        wide = 2 if hierarchical else 1
        in_visit = wide * clean.code_count + 2
        in_subject = 2 + np.bincount(clean.visit_subject, in_visit, len(clean)).astype(np.int64)
        token = np.empty(int(in_subject.sum()), np.int64)
        ends = np.cumsum(in_subject)
        token[ends - in_subject], token[ends - 1] = START, END
        # Before a visit stand one <s> per subject so far, one </s> per subject done, and all earlier visits.
        first = np.cumsum(in_visit) - in_visit + 2 * clean.visit_subject + 1
        token[first], token[first + in_visit - 1] = VISIT, VISIT_END
        places = first[clean.token_visit] + 1 + wide * ranges(clean.code_count)
        if hierarchical:
            token[places] = self._category_tokens[clean.code]
        token[places + wide - 1] = self._code_tokens(hierarchical)[clean.code]
        return Tokens(token, in_subject)

    def decode(self, tokens: Tokens, age: Ints, sex: Ints, hierarchical: bool = False) -> Histories:
        """The histories that were encoded, exactly.

        Args:
            tokens: `<pad>` at the end of a subject is skipped.
            age: `[subject]`, whole years.
            sex: `[subject]`, 0 or 1.
            hierarchical: Whether categories stand before the codes.

        Raises:
            InputError: A sequence that no history has; the message names subject and position.
        """
        padding = tokens.token == PAD
        subject = np.repeat(np.arange(len(tokens.length)), tokens.length)
        token, whose, place = tokens.token[~padding], subject[~padding], ranges(tokens.length)[~padding]
        kind = self._kinds(token, hierarchical)
        before = np.concatenate([[END], kind[:-1]]) if len(kind) else kind
        wrong = ~_MAY_FOLLOW[hierarchical][before, kind]
        new = np.concatenate([[True], whose[1:] != whose[:-1]]) if len(whose) else np.zeros(0, bool)
        wrong |= (token == START) != new
        if hierarchical:
            codes = np.flatnonzero((kind == _CODE) & ~wrong)
            belongs = self._category_tokens[self._code_of(token[codes], hierarchical)]
            wrong[codes[belongs != token[codes - 1]]] = True
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"subject {whose[at]}, position {place[at]}: {self.name(int(token[at]), hierarchical)} cannot stand "
                "there; a history is <s>, visits of the form <v> codes <\\v>, and </s>"
            )
        unfinished = np.setdiff1d(np.arange(len(tokens.length)), whose[token == END])
        if len(unfinished):
            raise InputError(f"subject {unfinished[0]}: no </s>; give whole sequences")
        is_code, visit = kind == _CODE, np.cumsum(token == VISIT) - 1
        return Histories(
            age=age,
            sex=sex,
            visit_count=np.bincount(whose[token == VISIT], minlength=len(tokens.length)),
            code_count=np.bincount(visit[is_code], minlength=int((token == VISIT).sum())),
            code=self._code_of(token[is_code], hierarchical),
            n_codes=self.n_codes,
        )

    def save(self, path: Path) -> None:
        """Write as JSON."""
        text = json.dumps({"special": SPECIAL, "codes": self.codes, "categories": self.categories,
                           "category_of": self.category_of.tolist()}, indent=0)  # fmt: skip
        path.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BundleError: Not a vocabulary, or one with other special tokens.
        """
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            found = cls(
                tuple(stored["codes"]), tuple(stored["categories"]), np.array(stored["category_of"], np.int64)
            )
            special = tuple(stored["special"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path}: not a vocabulary ({error}); train again") from None
        if special != SPECIAL or len(found.codes) != len(found.category_of):
            raise BundleError(f"{path}: special tokens {special}, expected {SPECIAL}; train again")
        return found

    def _first_code(self, hierarchical: bool) -> int:
        return len(SPECIAL) + (len(self.categories) if hierarchical else 0)

    def _code_tokens(self, hierarchical: bool) -> Ints:
        """`[code, <unk> last]`: token of each code of a `Histories`."""
        return np.append(self._first_code(hierarchical) + np.arange(len(self.codes)), UNKNOWN)

    @functools.cached_property
    def _category_tokens(self) -> Ints:
        return np.append(len(SPECIAL) + self.category_of, UNKNOWN)

    def _code_of(self, token: Ints, hierarchical: bool) -> Ints:
        return np.where(token == UNKNOWN, self.n_codes - 1, token - self._first_code(hierarchical))

    def _kinds(self, token: Ints, hierarchical: bool) -> Ints:
        """`[token]`: START, VISIT, …, or `_CODE`, or `_CATEGORY`."""
        kinds = np.arange(self._first_code(hierarchical) + len(self.codes))
        kinds[UNKNOWN] = _CODE
        kinds[len(SPECIAL) : self._first_code(hierarchical)] = _CATEGORY
        kinds[self._first_code(hierarchical) :] = _CODE
        found = kinds[token]
        if hierarchical:  # `<unk>` is both; which, its place in the visit says
            place = np.arange(len(token))
            since = place - np.maximum.accumulate(np.where(token == VISIT, place, 0))
            found[(token == UNKNOWN) & (since % 2 == 1)] = _CATEGORY
        return found


_CODE, _CATEGORY = len(SPECIAL), len(SPECIAL) + 1


def _follow(pairs: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    table = np.zeros((len(SPECIAL) + 2, len(SPECIAL) + 2), bool)
    for before, after in pairs:
        table[before, after] = True
    return table


_FRAME = [
    (END, START),
    (START, VISIT),
    (START, END),
    (VISIT, VISIT_END),
    (VISIT_END, VISIT),
    (VISIT_END, END),
]
_MAY_FOLLOW = {
    False: _follow([*_FRAME, (VISIT, _CODE), (_CODE, _CODE), (_CODE, VISIT_END)]),
    True: _follow([*_FRAME, (VISIT, _CATEGORY), (_CATEGORY, _CODE), (_CODE, _CATEGORY), (_CODE, VISIT_END)]),
}


def _normal(code: str) -> str:
    try:
        return icd9.normalise(code)
    except InputError:
        return code


def _category(code: str) -> str:
    normal = _normal(code)
    return icd9.category(normal) if icd9.exists(normal) else code
