from hypothesis import given
from hypothesis import strategies as st

from caretrace import schema
from caretrace.ingest.splits import position, split_of, split_subjects


def test_the_split_of_a_subject_never_changes() -> None:
    # Written down once: if this fails, every dataset ever made would be reshuffled.
    assert [split_of(subject) for subject in (1, 2, 3, 4, 5, 132539)] == EXPECTED


EXPECTED = ["held_out", "held_out", "train", "train", "held_out", "train"]


@given(st.sets(st.integers(-(2**63), 2**63 - 1), min_size=1), st.sets(st.integers(-(2**63), 2**63 - 1)))
def test_more_subjects_move_nobody(some: set[int], more: set[int]) -> None:
    before, after = split_subjects(some), split_subjects(some | more)
    assert all(after[subject] == split for subject, split in before.items())


def test_shares_come_out_as_asked() -> None:
    splits = list(split_subjects(range(20_000)).values())
    for name, share in zip(schema.SPLITS, (0.70, 0.15, 0.15), strict=True):
        assert abs(splits.count(name) / 20_000 - share) < 0.01


def test_one_split_can_take_everybody() -> None:
    assert {split_of(subject, {schema.HELD_OUT: 1.0}) for subject in range(50)} == {schema.HELD_OUT}
    assert all(0 <= position(subject) < 1 for subject in range(50))
