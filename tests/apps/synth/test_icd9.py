"""Codes as people write them, the hierarchy above them, and who may have them."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretrace.apps.synth.codes import icd9
from caretrace.errors import InputError
from caretrace.hospital.histories import catalogue

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("written", "code", "with_dot"),
    [
        ("250.00", "25000", "250.00"),
        ("25000", "25000", "250.00"),
        ("250.6", "2506", "250.6"),
        ("8.5", "0085", "008.5"),  # zeros lost before the dot
        ("38", "038", "038"),
        ("1186", "01186", "011.86"),  # without a dot: no code 118.6, but 011.86
        ("3810", "3810", "381.0"),  # without a dot and both possible: as written
        ("v27.0", "V270", "V27.0"),
        ("V1.5", "V015", "V01.5"),
        (" E812.0 ", "E8120", "E812.0"),
        ("e30", "E030", "E030"),
        ("042", "042", "042"),
    ],
)
def test_codes_are_read_as_they_are_written(written, code, with_dot):
    assert icd9.normalise(written) == code
    assert icd9.dotted(code) == with_dot
    assert icd9.normalise(with_dot) == code


@pytest.mark.parametrize("text", ["", "A10", "25000.1", "250.123", "1234567", "E11.9x", "V123.4", "nan"])
def test_what_is_no_code_is_refused(text):
    with pytest.raises(InputError, match="is no ICD-9-CM code"):
        icd9.normalise(text)


@given(st.sampled_from(sorted(catalogue().codes)))
def test_every_code_of_the_hospital_is_itself_with_and_without_its_dot(code):
    assert icd9.normalise(code) == code
    assert icd9.normalise(icd9.dotted(code)) == code
    assert icd9.normalise(icd9.dotted(code).lstrip("0")) == code
    assert icd9.exists(code)


def test_the_hospital_and_these_tables_agree():
    """Two tables from the same publishers: one shortened and ordered, one whole. Nothing may differ."""
    table = catalogue()
    assert [icd9.ccs(code) for code in table.codes] == table.ccs.tolist()
    ours = icd9.limits(table.codes)
    assert (ours.sexes >= table.sexes).all()  # the hospital's limits are stricter in places, never laxer
    assert (ours.age_first <= table.age_first).all()
    assert (ours.age_last >= table.age_last).all()


@pytest.mark.parametrize(
    ("code", "category", "chapter", "ccs"),
    [
        ("0088", "008", "Infectious and parasitic diseases", 135),
        ("1390", "139", "Infectious and parasitic diseases", 77),  # late effects of encephalitis
        ("1400", "140", "Neoplasms", 11),
        ("42731", "427", "Circulatory system", 106),
        ("250", "250", "Endocrine, nutritional, metabolic and immunity disorders", 50),
        ("V270", "V27", "Factors influencing health status", 196),
        ("E8120", "E812", "External causes of injury and poisoning", 2607),
        ("9999", "999", "Injury and poisoning", 238),
    ],
)
def test_the_hierarchy(code, category, chapter, ccs):
    assert icd9.category(code) == category
    assert icd9.chapter(code) == chapter
    assert icd9.ccs(code) == ccs


def test_all_male_codes_are_known_and_none_is_labelled_otherwise():
    """The prototype had one male-only code, none of 600-608, and called 429.79 atrial fibrillation."""
    for category in ["185", "186", "187", *map(str, range(600, 609))]:
        assert "M" in icd9.edits(category), category
    assert icd9.limits(["185"]).sexes.tolist() == [[False, True]]
    assert icd9.ccs("42731") == 106  # dysrhythmias
    assert icd9.ccs("42979") != 106


def test_a_cut_code_is_limited_where_all_below_it_are():
    assert icd9.edits("634") == {"F", "maternity"}
    assert icd9.edits("6000") == {"M", "adult"}  # retired in 2003, when 600.00 and 600.01 took its place
    assert icd9.edits("V22") == {"F"}
    assert icd9.edits("401") == frozenset()
    limits = icd9.limits(["634", "7742", "401", "not a code"])
    assert limits.age_first.tolist() == [12, 0, 0, 0]
    assert limits.age_last.tolist() == [55, 0, 124, 124]
    assert limits.sexes.all(1).tolist() == [False, True, True, True]


@pytest.mark.data
def test_the_tables_are_the_publishers(caretrace_data, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import synth_tables

    synth_tables.main(caretrace_data / "icd9-tables", tmp_path)
    for name in ("ccs_codes.csv", "mce.csv"):
        shipped = Path(icd9.__file__).with_name("tables") / name
        assert shipped.read_bytes() == (tmp_path / name).read_bytes()
    sys.modules.pop("synth_tables", None)
    sys.modules.pop("histories_table", None)
