"""One suite over every source: its sample gives exactly the expected measurements, and a valid dataset."""

from pathlib import Path

import meds
import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml

from caretrace import schema
from caretrace.dataset import Dataset
from caretrace.files import read_json
from caretrace.ingest import Source, ingest, source_mapping, sources
from caretrace.ingest.splits import position

PREDICATES = {
    "hospital_admission",
    "hospital_discharge",
    "icu_admission",
    "death",
    "hospital_death",
}


@pytest.fixture(scope="module", params=[source.name for source in sources()])
def source(request: pytest.FixtureRequest) -> Source:
    return next(source for source in sources() if source.name == request.param)


@pytest.fixture(scope="module")
def dataset(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp(source.name) / "dataset"
    ingest(source.name, source.folder / "sample" / "raw", out, subjects_per_file=1)
    return out


def test_the_sample_gives_the_expected_measurements(source: Source, dataset: Path) -> None:
    expected = pl.read_csv(source.folder / "sample" / "expected.csv", infer_schema=False)
    codes = pl.read_parquet(dataset / schema.CODES_FILE).select("code", "unit", "event_type")
    found = (
        pl.concat(
            pl.read_parquet(path).with_columns(split=pl.lit(path.parent.name))
            for path in sorted((dataset / "data").rglob("*.parquet"))
        )
        .sort("subject_id", maintain_order=True)
        .join(codes, on="code", how="left", maintain_order="left")
        .with_columns(pl.col("time").dt.to_string("%Y-%m-%d %H:%M:%S"))
        .select(expected.columns)
        .with_columns(pl.all().cast(pl.String))
    )
    for have, want in zip(found.rows(), expected.rows(), strict=False):
        assert have == want
    assert found.height == expected.height


def test_the_dataset_is_valid_meds(dataset: Path) -> None:
    for path in (dataset / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        meds.DataSchema.validate(table)
        assert meds.DataSchema.align(table).equals(table)
    meds.CodeMetadataSchema.validate(pq.read_table(dataset / schema.CODES_FILE))
    meds.SubjectSplitSchema.validate(pq.read_table(dataset / schema.SPLITS_FILE))
    meds.DatasetMetadataSchema.validate(read_json(dataset / schema.DATASET_FILE))


def test_what_the_meds_validator_does_not_check(dataset: Path) -> None:
    splits = dict(pl.read_parquet(dataset / schema.SPLITS_FILE).rows())
    assert len(splits) == Dataset(dataset).splits.height
    seen: set[int] = set()
    for path in sorted((dataset / "data").rglob("*.parquet")):
        table = pl.read_parquet(path)
        subjects = table["subject_id"].rle().struct.field("value").to_list()
        assert len(subjects) == len(set(subjects)), "a subject is not contiguous"
        assert not seen.intersection(subjects), "a subject stands in two files"
        seen.update(subjects)
        assert {splits[subject] for subject in subjects} <= {path.parent.name}
        for _, rows in table.group_by("subject_id", maintain_order=True):
            times = rows["time"].to_list()
            static = [time for time in times if time is None]
            assert times[: len(static)] == static, "static measurements come first"
            assert times[len(static) :] == sorted(times[len(static) :])
        assert (table["code"].str.len_chars() > 0).all()
        assert not table["code"].str.contains(r"^//|//$|////").any(), "a code with an empty part"
        assert table["numeric_value"].drop_nulls().is_finite().all()
    codes = Dataset(dataset).codes
    assert codes["code"].is_unique().all()
    counted = dict(codes.select("code", "count").rows())
    found = dict(Dataset(dataset).scan().group_by("code").len().collect().rows())
    assert counted == found


def test_every_row_is_accounted_for(source: Source, dataset: Path) -> None:
    quality = read_json(dataset / schema.QUALITY_FILE)
    quarantined = 0
    for name, table in quality["tables"].items():
        assert table["rows_read"] == table["rows_loaded"] + table["rows_quarantined"], name
        assert table["rows_quarantined"] == sum(table["quarantined"].values())
        assert "no_event" not in table["flags"], f"{name}: rows without an event and without a reason"
        for flag in table["flags"].values():
            assert len(flag["meaning"]) > 10
        path = dataset / schema.QUARANTINE_DIR / f"{name}.parquet"
        kept = pl.read_parquet(path) if path.exists() else None
        assert (0 if kept is None else kept.height) == table["rows_quarantined"]
        quarantined += table["rows_quarantined"]
    assert quality["rows_quarantined"] == quarantined
    assert quality["unknown_files"] == []
    assert quality["events"] == sum(len(pl.read_parquet(p)) for p in (dataset / "data").rglob("*.parquet"))


def test_every_mapped_event_is_in_the_sample(source: Source, dataset: Path) -> None:
    """A mapping line that the sample never exercises is a line nobody has tested."""
    quality = read_json(dataset / schema.QUALITY_FILE)
    silent = [
        name for name, table in source_mapping(source.name).tables.items()
        if table.events and not quality["tables"].get(name, {"events": 0})["events"]
    ]  # fmt: skip
    assert silent == []


def test_predicates_speak_of_codes_that_exist(source: Source, dataset: Path) -> None:
    content = yaml.safe_load((source.folder / "predicates.yaml").read_text())
    predicates, cannot_say = content["predicates"], content.get("cannot_say", {})
    assert set(content) <= {"predicates", "cannot_say"}
    assert set(predicates) | set(cannot_say) >= PREDICATES, "say what it means here, or why nobody can know"
    assert not set(predicates) & set(cannot_say)
    assert all(len(reason) > 10 for reason in cannot_say.values())
    assert Dataset(dataset).cannot_say == cannot_say
    assert Dataset(dataset).predicates == predicates
    codes = Dataset(dataset).codes["code"]
    # A predicate that no code can meet would silently censor nothing. Vital signs have their canonical code wherever a
    # file has them at all, and a sample need not have all of them.
    for name, predicate in predicates.items():
        if predicate["code"] == {"regex": f"^VITAL//{name}//.*"}:
            continue
        if isinstance(predicate["code"], dict):
            assert codes.str.contains(predicate["code"]["regex"]).any(), name
        elif isinstance(predicate["code"], str):
            assert predicate["code"] in codes.to_list(), name


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes(source: Source, dataset: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    ingest(source.name, source.folder / "sample" / "raw", again, subjects_per_file=1)
    files = sorted(path.relative_to(dataset) for path in dataset.rglob("*.parquet"))
    assert files == sorted(path.relative_to(again) for path in again.rglob("*.parquet"))
    for path in files:
        assert (dataset / path).read_bytes() == (again / path).read_bytes(), path


def test_hash_splits_ignore_the_official_ones(source: Source, dataset: Path, tmp_path: Path) -> None:
    hashed = dataset
    if source_mapping(source.name).official_splits:
        hashed = tmp_path / "hashed"
        ingest(source.name, source.folder / "sample" / "raw", hashed, splits="hash")
    for subject, split in pl.read_parquet(hashed / schema.SPLITS_FILE).rows():
        where = position(subject)
        assert split == ("train" if where < 0.7 else "tuning" if where < 0.85 else "held_out")


def test_the_folder_is_complete(source: Source) -> None:
    for name in ("events.yaml", "predicates.yaml", "README.md", "sample/raw", "sample/expected.csv"):
        assert (source.folder / name).exists(), name
    for text in (source.title, source.summary, source.licence, source.url):
        assert text
