"""Every format reads back to the same subjects, and says that they are synthetic."""

import dataclasses
import json

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from caretrace import schema
from caretrace.apps.synth.codes.sequences import Records
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.export import FORMATS, read_subjects, write_subjects
from caretrace.apps.synth.export.tables import FLAG, tables_of
from caretrace.apps.synth.models.counting import CountGenerator
from caretrace.apps.synth.models.generator import Request, iter_chunks
from caretrace.apps.synth.task import collect_histories
from caretrace.apps.synth.training import SynthConfig, load, train
from caretrace.dataset import Dataset
from caretrace.errors import BundleError, ConfigError, InputError, OutputExistsError
from caretrace.evaluation.histories import Histories, join

VOCABULARY = Vocabulary.of(["0085", "25000", "4019", "4280", "E8120", "V270"])


@pytest.fixture(scope="module")
def generator():
    rng = np.random.default_rng(0)
    visits = rng.integers(1, 4, 200)
    sizes = rng.integers(1, 4, int(visits.sum()))
    codes = [rng.choice(VOCABULARY.n_codes, size, replace=False) for size in sizes]  # <unk> among them
    h = Histories(
        rng.integers(0, 95, 200),
        rng.integers(0, 2, 200),
        visits,
        sizes,
        np.concatenate(codes),
        VOCABULARY.n_codes,
    )
    return CountGenerator.fit(Records(h), VOCABULARY, "n-gram")


def drawn(generator, request):
    return join([records.histories for _, records in iter_chunks(generator, request)])


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_reads_back_to_the_same_subjects(kind, generator, tmp_path, monkeypatch):
    monkeypatch.setattr("caretrace.apps.synth.models.generator.CHUNK", 40)  # several chunks
    request = Request(100, seed=3)
    told = []
    counts = write_subjects(generator, request, tmp_path / "out", kind, progress=lambda *p: told.append(p))
    written, read = drawn(generator, request), read_subjects(tmp_path / "out", kind, VOCABULARY)
    for name in ("age", "sex", "visit_count", "code_count", "code"):
        np.testing.assert_array_equal(getattr(written, name), getattr(read, name), err_msg=name)
    assert counts["subjects"] == 100
    assert counts["visits"] == len(written.code_count)
    assert counts["diagnoses"] == len(written.code)
    assert told == [(40, 100), (80, 100), (100, 100)]
    assert (tmp_path / "out" / "SYNTHETIC.txt").exists()


def test_every_file_says_that_it_is_synthetic(generator, tmp_path):
    for kind in FORMATS:
        write_subjects(generator, Request(5), tmp_path / kind, kind)
        for path in (p for p in (tmp_path / kind).rglob("*") if p.is_file()):
            if path.suffix == ".parquet":
                assert pq.read_schema(path).metadata[b"synthetic"] == b"true", path
            else:
                assert "synthetic" in path.read_text().lower() or "HTEST" in path.read_text(), path


@pytest.mark.parametrize(
    ("kind", "file", "old", "new"),
    [
        ("mimic-iii", "ADMISSIONS.csv", ",true", ",false"),
        ("omop", "PERSON.csv", FLAG, "real"),
        ("fhir", "bundles.ndjson", "HTEST", "TREAT"),
        ("meds", "metadata/dataset.json", '"synthetic": true', '"synthetic": false'),
    ],
)
def test_what_does_not_say_so_is_not_read(generator, tmp_path, kind, file, old, new):
    write_subjects(generator, Request(5), tmp_path / "out", kind)
    path = tmp_path / "out" / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=r"synthetic|SYNTHETIC"):
        read_subjects(tmp_path / "out", kind, VOCABULARY)


def test_the_same_seed_writes_the_same_bytes_and_more_repeats_the_first(generator, tmp_path):
    for name, n in (("a", 20), ("b", 20), ("more", 30)):
        write_subjects(generator, Request(n, seed=1), tmp_path / name, "mimic-iii")
    for file in ("PATIENTS.csv", "ADMISSIONS.csv", "DIAGNOSES_ICD.csv"):
        first = (tmp_path / "a" / file).read_bytes()
        assert first == (tmp_path / "b" / file).read_bytes()
        assert (tmp_path / "more" / file).read_bytes().startswith(first)


def test_dates_fit_each_other(generator):
    subject, records = next(iter_chunks(generator, Request(200, seed=2)))
    tables = tables_of(subject, records, VOCABULARY, 2)
    visits = tables.visits.join(tables.people, on=schema.SUBJECT_ID)
    assert (visits["birth"] < visits["admit"]).all()
    assert (visits["admit"] < visits["discharge"]).all()
    gap = visits.with_columns(g=pl.col("admit") - pl.col("discharge").shift().over(schema.SUBJECT_ID))["g"]
    assert (gap.drop_nulls().dt.total_hours() >= 23).all()
    empty = Records(dataclasses.replace(records.histories.take([0]), visit_count=[0], code_count=[], code=[]))
    with pytest.raises(InputError, match="0 to 0 visits"):
        tables_of(subject[:1], empty, VOCABULARY, 0)


def test_bundles_are_valid_fhir(generator, tmp_path):
    bundle = pytest.importorskip("fhir.resources.R4B.bundle")
    write_subjects(generator, Request(20), tmp_path / "out", "fhir")
    lines = (tmp_path / "out" / "bundles.ndjson").read_text().splitlines()
    assert len(lines) == 20
    for line in lines:
        found = bundle.Bundle.model_validate_json(line)
        assert len(found.entry) == len(json.loads(line)["entry"])


def test_what_is_wrong_is_said(generator, tmp_path):
    with pytest.raises(ConfigError, match="unknown format 'fihr': did you mean 'fhir'"):
        write_subjects(generator, Request(5), tmp_path / "out", "fihr")
    write_subjects(generator, Request(5), tmp_path / "out", "omop")
    with pytest.raises(OutputExistsError, match="already exists"):
        write_subjects(generator, Request(5), tmp_path / "out", "omop")
    with pytest.raises(InputError, match="not readable"):
        read_subjects(tmp_path, "mimic-iii", VOCABULARY)
    with pytest.raises(InputError, match="code of a diagnosis is not known"):
        read_subjects(tmp_path / "out", "omop", Vocabulary.of(["4019"]))


@pytest.mark.parametrize("model", ["decoder", "gru", "prompt-bart", "n-gram", "marginals"])
def test_a_run_is_trained_stored_and_drawn_from(model, generator, tmp_path):
    from caretrace.apps.synth.models.decoder.network import DecoderConfig
    from caretrace.apps.synth.models.fitting import FitConfig
    from caretrace.apps.synth.models.prompt_bart.network import PromptBartConfig

    write_subjects(generator, Request(120, seed=4), tmp_path / "data", "meds")
    config = SynthConfig(
        model=model,
        decoder=DecoderConfig(d_model=16, n_layers=1, n_heads=2),
        prompt_bart=PromptBartConfig(d_model=16, n_layers=1, n_heads=2, d_feed_forward=16, d_prompt=8),
        fit=FitConfig(epochs=1),
    )
    run = train(Dataset(tmp_path / "data"), config, tmp_path / "run")
    assert run["tuning"]["nats_per_subject"] > 0
    loaded = load(tmp_path / "run")
    test = Records(drawn(generator, Request(10, seed=5)))
    counts = write_subjects(loaded, Request(30, seed=1, age=70, sex=0), tmp_path / "out", "mimic-iii")
    assert counts["subjects"] == 30
    back = read_subjects(tmp_path / "out", "mimic-iii", loaded.vocabulary)
    assert set(back.age.tolist()) == {70}
    assert set(back.sex.tolist()) == {0}
    if loaded.vocabulary.codes == VOCABULARY.codes:
        again = load(tmp_path / "run")
        np.testing.assert_array_equal(loaded.log_likelihood(test), again.log_likelihood(test))
    with pytest.raises(BundleError, match="is not a run"):
        load(tmp_path)


@pytest.mark.parametrize("source", ["mimic-iii", "hospital-histories"])
def test_our_own_sources_read_the_mimic_export(source, tmp_path, monkeypatch):
    """`mimic-iii` asks for all tables of MIMIC-III, so here it is told that it may go without the others."""
    from caretrace.ingest import ingest
    from caretrace.ingest.catalogue import source_mapping

    known = Vocabulary.of(VOCABULARY.codes)
    people = Histories([70, 61, 5], [0, 1, 1], [2, 1, 1], [2, 1, 3, 1], [0, 3, 1, 1, 4, 5, 2], known.n_codes)
    generator = CountGenerator.fit(Records(people), known, "marginals")
    request = Request(60, seed=2)
    write_subjects(generator, request, tmp_path / "raw", "mimic-iii")
    mapping = source_mapping(source)
    written = {"patients", "admissions", "diagnoses_icd"}
    tables = {
        name: dataclasses.replace(table, optional=table.optional or name not in written)
        for name, table in mapping.tables.items()
    }
    assert written <= set(tables)
    monkeypatch.setattr(
        "caretrace.ingest.pipeline.source_mapping", lambda name: dataclasses.replace(mapping, tables=tables)
    )
    ingest(source, tmp_path / "raw", tmp_path / "data")
    read = collect_histories(Dataset(tmp_path / "data"), None, known).histories
    expected = drawn(generator, request)
    assert len(expected.code_count) > 60
    for name in ("age", "sex", "visit_count", "code_count", "code"):
        np.testing.assert_array_equal(getattr(expected, name), getattr(read, name), err_msg=name)
