import hashlib
import shutil

import polars as pl
import pytest

from caretrace import schema
from caretrace.errors import InputError
from caretrace.ingest import ingest

A, B, C = "00000000000000A1", "00000000000000B2", "00000000000000C3"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The required tables of the sample alone: the optional ones have a hundred columns each."""
    from caretrace.ingest import source_mapping

    folder = tmp_path_factory.mktemp("synpuf") / "raw"
    folder.mkdir()
    raw = source_mapping("desynpuf").folder / "sample" / "raw"
    for path in (*raw.glob("*Beneficiary*"), *raw.glob("*Inpatient*")):
        shutil.copy(path, folder)
    return folder


def events(dataset):
    rows = pl.concat(pl.read_parquet(path) for path in sorted((dataset / "data").rglob("*.parquet")))
    return rows.sort("subject_id", "time", "code")


def number(name):
    """What the hash is by definition: the first 60 bits of MD5."""
    return int(hashlib.md5(name.encode()).hexdigest()[:15], 16)


def test_one_subject_in_three_years_and_its_name(sample, tmp_path):
    quality = ingest("desynpuf", sample, tmp_path / "out")
    assert quality["subjects"] == 3
    names = dict(pl.read_parquet(tmp_path / "out" / "metadata" / "subject_names.parquet").rows())
    assert names == {name: number(name) for name in (A, B, C)}
    rows = events(tmp_path / "out").filter(pl.col("subject_id") == number(A))
    assert rows.filter(pl.col("code") == "MEDS_BIRTH").height == 1
    years = rows.filter(pl.col("code").str.starts_with("STATE//"))["time"].dt.year().to_list()
    assert years == [2008, 2009, 2010]


def test_both_layouts_are_one(sample, tmp_path):
    stacked = tmp_path / "stacked"
    stacked.mkdir()
    for year in (2008, 2009, 2010):
        published = sample / f"DE1_0_{year}_Beneficiary_Summary_File_Sample_1.csv"
        add_sample_column(published, stacked / f"beneficiary_{year}.csv")
    published = sample / "DE1_0_2008_to_2010_Inpatient_Claims_Sample_1.csv"
    add_sample_column(published, stacked / "inpatient_claims.csv")
    one = ingest("desynpuf", sample, tmp_path / "one")
    two = ingest("desynpuf", stacked, tmp_path / "two")
    assert events(tmp_path / "one").equals(events(tmp_path / "two"))
    assert one["rows_read"] == two["rows_read"]


def add_sample_column(source, target):
    header, *lines = source.read_text().splitlines()
    target.write_text("\n".join([f"SAMPLE,{header}", *(f"1,{line}" for line in lines)]) + "\n")


def test_two_samples_side_by_side(sample, tmp_path):
    both = shutil.copytree(sample, tmp_path / "both")
    for path in sorted(both.glob("*Sample_1.csv")):
        text = (
            path.read_text()
            .replace("00000000000000", "11111111111111")
            .replace(",19600000000", ",29600000000")
        )
        (both / path.name.replace("Sample_1", "Sample_20")).write_text(text)
    quality = ingest("desynpuf", both, tmp_path / "out")
    assert quality["subjects"] == 6


def test_inpatient_claims_are_needed(sample, tmp_path):
    folder = shutil.copytree(sample, tmp_path / "less")
    (folder / "DE1_0_2008_to_2010_Inpatient_Claims_Sample_1.csv").unlink()
    with pytest.raises(InputError, match="Inpatient_Claims"):
        ingest("desynpuf", folder, tmp_path / "out")


@pytest.mark.data
@pytest.mark.slow
def test_every_row_of_twelve_samples(caretrace_data, tmp_path):
    quality = ingest("desynpuf", caretrace_data / "cms-desynpuf", tmp_path / "out")
    tables = quality["tables"]
    assert quality["subjects"] == 120_000
    assert tables["beneficiaries"]["rows_read"] == 120_000 + 118_182 + 116_335
    assert tables["inpatient_claims"]["rows_read"] == 68_631
    assert quality["rows_quarantined"] == 0
    assert "no_event" not in tables["beneficiaries"]["flags"]
    assert "no_event" not in tables["inpatient_claims"]["flags"]
    assert tables["inpatient_claims"]["flags"]["second_segment"]["rows"] == 63
    assert quality["views"]["people"]["flags"]["date_only_death"]["rows"] == 5535
    codes = dict(pl.read_parquet(tmp_path / "out" / schema.CODES_FILE).select("code", "count").rows())
    assert codes["HOSPITAL_ADMISSION//UNK"] == codes["HOSPITAL_DISCHARGE//UNK"] == 68_568
    assert codes["MEDS_DEATH"] == 5535
    assert codes["MEDS_BIRTH"] == 120_000
    assert codes["CHRONIC_CONDITION//SP_CHF"] == 104_392
    assert codes["CHRONIC_CONDITION//BENE_ESRD_IND"] == 27_798
    # The first claim of the file, read by hand.
    rows = events(tmp_path / "out").filter(pl.col("subject_id") == number("00016F745862898F"))
    stay = rows.filter(pl.col("time").cast(pl.String).str.starts_with("2009-04-1"))
    assert "DIAGNOSIS//ADMITTING//ICD//9//7866" in stay["code"].to_list()
    assert stay.filter(pl.col("code").str.starts_with("DIAGNOSIS//ICD"))["code"].to_list() == sorted(
        f"DIAGNOSIS//ICD//9//{code}"
        for code in ("1970", "4019", "5853", "7843", "2768", "71590", "2724", "19889", "5849")
    )
    assert str(stay.filter(pl.col("code") == "HOSPITAL_DISCHARGE//UNK")["time"][0]) == "2009-04-18 23:59:59"
