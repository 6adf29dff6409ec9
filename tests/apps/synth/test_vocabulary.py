"""Every history survives the way to tokens and back; what is no history is refused by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretrace.apps.synth.codes.vocabulary import (
    END,
    MASK,
    PAD,
    SPECIAL,
    START,
    UNKNOWN,
    VISIT,
    VISIT_END,
    Tokens,
    Vocabulary,
)
from caretrace.errors import BundleError, InputError
from caretrace.evaluation.histories import Histories

CODES = ["4019", "4280", "25000", "25001", "V270", "E8120", "0088", "local-17"]
VOCABULARY = Vocabulary.of(CODES)

# Subjects without visits, visits without codes, codes twice in a visit, and <unk> (the last number) included.
subjects = st.lists(
    st.tuples(
        st.integers(0, 120), st.integers(0, 1), st.lists(st.lists(st.integers(0, 8), max_size=6), max_size=5)
    ),
    max_size=8,
)


def histories_of(drawn):
    visits = [visit for _, _, visits in drawn for visit in visits]
    return Histories(
        age=[age for age, _, _ in drawn],
        sex=[sex for _, sex, _ in drawn],
        visit_count=[len(visits) for _, _, visits in drawn],
        code_count=[len(visit) for visit in visits],
        code=[code for visit in visits for code in visit],
        n_codes=VOCABULARY.n_codes,
    )


def equal(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("age", "sex", "visit_count", "code_count", "code")
    )


def test_the_special_tokens_stand_where_they_were_promised():
    assert SPECIAL == ("<s>", "<pad>", "</s>", "<unk>", "<v>", "<\\v>", "<mask>")
    assert tuple(range(7)) == (START, PAD, END, UNKNOWN, VISIT, VISIT_END, MASK)
    assert VOCABULARY.name(7) == VOCABULARY.codes[0]
    assert VOCABULARY.name(7, hierarchical=True) == VOCABULARY.categories[0]
    assert VOCABULARY.n_hierarchical_tokens == 7 + len(VOCABULARY.categories) + len(CODES)


def test_codes_are_grouped_by_category():
    grouped = [
        (VOCABULARY.categories[n], c) for n, c in zip(VOCABULARY.category_of, VOCABULARY.codes, strict=True)
    ]
    assert grouped == [
        ("008", "0088"), ("250", "25000"), ("250", "25001"), ("401", "4019"), ("428", "4280"), ("E812", "E8120"),
        ("V27", "V270"), ("local-17", "local-17"),
    ]  # fmt: skip


def test_a_history_is_written_as_in_the_example():
    one = histories_of([(70, 1, [[4, 2], [], [8]])])
    flat = VOCABULARY.encode(one)
    assert flat.token.tolist() == [
        START,
        VISIT,
        9,
        11,
        VISIT_END,
        VISIT,
        VISIT_END,
        VISIT,
        UNKNOWN,
        VISIT_END,
        END,
    ]
    nested = VOCABULARY.encode(one, hierarchical=True)
    names = [VOCABULARY.name(t, hierarchical=True) for t in nested.token]
    assert names == ["<s>", "<v>", "250", "25001", "428", "4280", "<\\v>", "<v>", "<\\v>", "<v>", "<unk>", "<unk>",
                     "<\\v>", "</s>"]  # fmt: skip


@given(subjects, st.booleans())
def test_any_history_comes_back_exactly(drawn, hierarchical):
    histories = histories_of(drawn)
    tokens = VOCABULARY.encode(histories, hierarchical)
    back = VOCABULARY.decode(tokens, histories.age, histories.sex, hierarchical)
    assert equal(back, histories.with_codes_sorted())
    padded = tokens.padded()
    again = VOCABULARY.decode(
        Tokens(padded.reshape(-1), np.full(len(padded), padded.shape[1])),
        histories.age,
        histories.sex,
        hierarchical,
    )
    assert equal(again, back)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([START, 7, END], "position 1: 0088 cannot stand there"),
        ([START, VISIT, 7, END], r"position 3: </s> cannot stand there"),
        ([START, VISIT, VISIT, VISIT_END, END], "position 2: <v>"),
        ([START, VISIT, MASK, VISIT_END, END], "position 2: <mask>"),
        ([VISIT, VISIT_END, END], "position 0: <v>"),
        ([START, END, START], "position 2: <s>"),
        ([START, VISIT, VISIT_END], "subject 0: no </s>"),
    ],
)
def test_what_is_no_history_is_refused(tokens, message):
    with pytest.raises(InputError, match=message):
        VOCABULARY.decode(Tokens(np.array(tokens), np.array([len(tokens)])), [50], [0])


def test_a_code_under_another_category_is_refused():
    tokens = VOCABULARY.encode(histories_of([(70, 1, [[1]])]), hierarchical=True)
    tokens.token[2] += 1
    with pytest.raises(InputError, match="position 3: 25000 cannot stand there"):
        VOCABULARY.decode(tokens, [70], [1], hierarchical=True)


def test_histories_of_another_vocabulary_are_refused():
    with pytest.raises(InputError, match="histories of 3 codes, vocabulary of 9"):
        VOCABULARY.encode(Histories([1], [0], [1], [1], [0], 3))


def test_it_is_read_as_it_was_saved(tmp_path):
    VOCABULARY.save(tmp_path / "v.json")
    read = Vocabulary.load(tmp_path / "v.json")
    assert read.codes == VOCABULARY.codes
    assert np.array_equal(read.category_of, VOCABULARY.category_of)
    (tmp_path / "v.json").write_text('{"codes": []}')
    with pytest.raises(BundleError, match="not a vocabulary"):
        Vocabulary.load(tmp_path / "v.json")
