"""Codes to numbers, by hand."""

import polars as pl

from caretrace.data.vocabulary import PAD, UNKNOWN, Vocabulary

MEASUREMENTS = pl.DataFrame(
    {"sample": [0, 0, 0, 1, 1, 2], "code": ["b", "b", "a", "b", "c", "a"]},
    schema={"sample": pl.UInt32, "code": pl.String},
)


def test_codes_of_enough_samples_get_numbers_in_alphabetical_order():
    assert Vocabulary.fit(MEASUREMENTS, 1).codes == ("a", "b", "c")
    assert Vocabulary.fit(MEASUREMENTS, 2).codes == ("a", "b")  # b: samples 0 and 1, however often in 0
    assert Vocabulary.fit(MEASUREMENTS, 3).codes == ()


def test_numbers_start_after_padding_and_unknown():
    vocabulary = Vocabulary(("a", "b"))
    assert (PAD, UNKNOWN, len(vocabulary)) == (0, 1, 4)
    assert vocabulary.encode(pl.Series(["b", "never seen", "a", "b"])).tolist() == [3, 1, 2, 3]
    assert vocabulary.encode(pl.Series([], dtype=pl.String)).tolist() == []
    assert Vocabulary(()).encode(pl.Series(["a"])).tolist() == [UNKNOWN]


def test_there_and_back():
    vocabulary = Vocabulary.fit(MEASUREMENTS, 1)
    assert Vocabulary.from_dict(vocabulary.to_dict()) == vocabulary
