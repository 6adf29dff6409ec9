"""Explaining a run: whom, in which words, and under which heading."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.application.explain import as_overrides, explain, put_into_bundle, run_certificate
from caretrace.application.planted import slots
from caretrace.application.predictor import Predictor
from caretrace.application.run import Run
from caretrace.apps import load_application
from caretrace.config import load, to_dict
from caretrace.errors import BundleError, CohortError, ConfigError
from caretrace.explain.certificate import Certificate, Finding
from caretrace.explain.explanation import CREDIT, RISK_WITHOUT, read_explanation
from caretrace.explain.faithfulness import gate
from caretrace.hospital.config import RULES

APPLICATION = load_application("mortality")


@pytest.fixture
def run(tiny_run, tmp_path) -> Run:
    """A copy that may be written to."""
    return Run(shutil.copytree(tiny_run, tmp_path / "run"))


def certificate(run: Run, **config) -> Certificate:
    green = {"recovery": 1.0, "padding": 0.0}
    findings = tuple(
        Finding(rule, 0, 1.0, 9, {"removal": {name: gate(name, value) for name, value in green.items()}})
        for rule in RULES
    )
    return Certificate("mortality", {**run.read()["config"], **config}, {}, tuple(RULES), findings)


def test_the_held_out_subject_with_the_highest_risk_by_default(run: Run) -> None:
    found, folder = explain(APPLICATION, run)
    splits = run.dataset().splits.filter(pl.col(schema.SPLIT) == schema.HELD_OUT)[schema.SUBJECT_ID]
    assert found.subject_id in splits.to_list()
    predicted = pl.read_parquet(run.evaluation / "predictions.parquet")
    assert found.risk == pytest.approx(predicted[schema.PREDICTED_PROBABILITY].max(), abs=1e-6)
    again = read_explanation(folder)
    assert again.to_dict() == found.to_dict()
    assert again.measurements.equals(found.measurements)


def test_measurements_are_the_records_own_rows(run: Run) -> None:
    found, _ = explain(APPLICATION, run, 8)
    record = run.dataset().scan().filter(pl.col(schema.SUBJECT_ID) == 8).collect()
    seen = record.filter(
        pl.col(schema.TIME) <= pl.lit(found.prediction_time).str.to_datetime(),
        pl.col(schema.CODE) != schema.BIRTH,
    )
    keys = [schema.TIME, schema.CODE, schema.NUMERIC_VALUE]
    near = found.measurements.select(keys).with_columns(pl.col(schema.TIME).dt.round("1m"))
    wanted = seen.select(keys).with_columns(pl.col(schema.TIME).dt.round("1m"))
    assert near.sort(keys).rows() == wanted.cast(near.schema).sort(keys).rows()
    assert found.top(3)[CREDIT].abs().is_sorted(descending=True)
    assert found.outcome in (True, False)


def test_the_risk_without_a_measurement_is_the_risk_of_the_record_without_it(run: Run) -> None:
    found, _ = explain(APPLICATION, run, 8)
    predictor = Predictor.from_pretrained(APPLICATION, run.bundle)
    frame = pl.read_parquet(run.labels / schema.LABELS_FILE).filter(pl.col(schema.SUBJECT_ID) == 8)
    inputs = APPLICATION.collect(run.dataset(), frame, None, lambda *_: None)
    rows = slots(inputs, predictor.preprocessor.max_measurements).with_row_index("slot")
    for place in (0, len(rows) // 2, len(rows) - 1):
        timed = pl.col("hours_before").is_not_null() & (pl.col(schema.CODE) != schema.BIRTH)
        kept = inputs.measurements.with_columns(_n=pl.when(timed).then(timed.cum_sum() - 1))
        without = kept.filter(pl.col("_n").is_null() | (pl.col("_n") != place)).drop("_n")
        risk = predictor.risks(type(inputs)(inputs.labels, without))[0]
        assert found.measurements[RISK_WITHOUT][place] == pytest.approx(risk, abs=1e-5)


@pytest.mark.parametrize("method", ["ablation", "integrated_gradients", "gradient_shap", "pooling"])
def test_every_method_the_model_has(run: Run, method: str) -> None:
    found, folder = explain(APPLICATION, run, 8, method=method)
    assert "not importance" in found.heading
    assert folder.name.endswith(method)
    assert np.isfinite(found.measurements[CREDIT].to_numpy()).all()


def test_what_cannot_be_explained(run: Run) -> None:
    with pytest.raises(CohortError, match="subject 999 has no label in this run's cohort"):
        explain(APPLICATION, run, 999)
    with pytest.raises(ConfigError, match="did you mean 'removal'"):
        explain(APPLICATION, run, method="remova")
    with pytest.raises(ConfigError, match="no rollout attention to draw; it has"):
        explain(APPLICATION, run, method="rollout")


def test_a_certificate_travels_in_the_bundle(run: Run) -> None:
    put_into_bundle(certificate(run), run.bundle)
    found, _ = explain(APPLICATION, run, 8)
    assert found.certified
    assert found.heading.endswith("(certified on planted truth)")
    predictor = Predictor.from_pretrained(APPLICATION, run.bundle)
    predictor.save_pretrained(run.path / "copy")
    assert (run.path / "copy" / "certificate.json").is_file()
    put_into_bundle(certificate(run), run.bundle)  # again: no harm
    (run.bundle / "certificate.json").write_text("{}")
    with pytest.raises(BundleError, match="SHA-256 differs"):
        Predictor.from_pretrained(APPLICATION, run.bundle)


def test_a_certificate_of_another_configuration_certifies_nothing(run: Run) -> None:
    put_into_bundle(certificate(run, backbone="lstm"), run.bundle)
    predictor = Predictor.from_pretrained(APPLICATION, run.bundle)
    assert (
        run_certificate(run, predictor)
        .heading("removal")
        .endswith("(not importance: never judged on planted truth)")
    )
    put_into_bundle(certificate(run, training={"members": 50}), run.bundle)
    predictor = Predictor.from_pretrained(APPLICATION, run.bundle)
    assert run_certificate(run, predictor).certified("removal"), "how long it was trained is another matter"


def test_overrides_say_what_the_configuration_said(run: Run) -> None:
    stored = run.read()["config"]
    found = load(APPLICATION.config_class, None, as_overrides(stored))
    assert json.loads(json.dumps(to_dict(found))) == stored
