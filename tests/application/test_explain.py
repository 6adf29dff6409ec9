"""Explaining a run: whom, in which words, and under which heading."""

import json
import shutil
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.application.explain import as_overrides, explain, put_into_bundle, run_certificate
from caretrace.application.predictor import Predictor
from caretrace.application.run import Run
from caretrace.application.surroundings import this_stay
from caretrace.apps import load_application
from caretrace.config import load, to_dict
from caretrace.errors import BundleError, CohortError, ConfigError
from caretrace.explain.certificate import Certificate, Finding
from caretrace.explain.explanation import CREDIT, RISK_WITHOUT, read_explanation
from caretrace.explain.faithfulness import gate
from caretrace.explain.surroundings import read_surroundings
from caretrace.hospital.config import RULES
from caretrace.report import render_run_report

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
    rows = predictor.preprocessor.kept(inputs).with_row_index("slot")
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


def test_a_page_and_its_figures_lie_beside_the_explanation(run: Run) -> None:
    found, folder = explain(APPLICATION, run, 8)
    around = read_surroundings(folder)
    assert around is not None
    assert f"Subject {found.subject_id}" in (folder / "explanation.html").read_text()
    predicted = pl.read_parquet(run.evaluation / "predictions.parquet")
    assert around.compared is not None
    assert around.compared["mean_risk"] == pytest.approx(predicted[schema.PREDICTED_PROBABILITY].mean())
    course = around.trajectory
    assert course["risk"][-1] == pytest.approx(found.risk, abs=1e-6)
    assert course["hours_since_admission"].is_sorted()
    assert around.low is not None
    assert around.high is not None
    assert around.low <= found.risk <= around.high


def test_groups_are_removed_together(run: Run) -> None:
    found, folder = explain(APPLICATION, run, 8)
    around = read_surroundings(folder)
    assert around is not None
    assert {row["event_type"]: pytest.approx(row["credit"]) for row in around.types} == found.types
    rows = {name: sum(row["measurements"] for row in part) for name, part in
            {"types": around.types, "windows": around.windows, "both": around.types_over_time}.items()}  # fmt: skip
    assert set(rows.values()) == {len(found.measurements)}
    predictor = Predictor.from_pretrained(APPLICATION, run.bundle)
    frame = pl.read_parquet(run.labels / schema.LABELS_FILE).filter(pl.col(schema.SUBJECT_ID) == 8)
    inputs = APPLICATION.collect(run.dataset(), frame, None, lambda *_: None)
    row = around.windows[0]
    low, high = row["window"] * around.window_hours, (row["window"] + 1) * around.window_hours
    last = row["window"] == around.n_windows
    hours = pl.col("hours_before")
    inside = (hours >= low) & (pl.lit(last) | (hours < high)) & (pl.col(schema.CODE) != schema.BIRTH)
    kept = inputs.measurements.filter(hours.is_null() | ~inside)
    assert len(inputs.measurements) - len(kept) == row["measurements"]
    assert row["risk_without"] == pytest.approx(
        predictor.risks(type(inputs)(inputs.labels, kept))[0], abs=1e-5
    )


def test_pairs_and_features_over_the_stay_add_up_to_what_removal_says(run: Run) -> None:
    found, folder = explain(APPLICATION, run, 8)
    around = read_surroundings(folder)
    assert around is not None
    credit = found.measurements[CREDIT]
    for pair in around.interactions:
        assert (pair["alone"], pair["other_alone"]) == pytest.approx(
            (credit[pair["first"]], credit[pair["second"]])
        )
    strength = [abs(pair["together"]) for pair in around.interactions]
    assert strength == sorted(strength, reverse=True)
    assert around.evolution["hours_earlier"][-1] == 0.0
    lengths = {len(row["credit"]) for row in around.evolution["codes"]}
    assert lengths == {len(around.evolution["hours_earlier"])}


def test_heads_are_measured_once_per_bundle(run: Run) -> None:
    explain(APPLICATION, run, 8)
    path = run.path / "explain" / "heads.json"
    first = json.loads(path.read_text())
    members, heads = len(Predictor.from_pretrained(APPLICATION, run.bundle).members), 4
    assert [(row["member"], row["head"]) for row in first["heads"]] == [
        (member, head) for member in range(members) for head in range(heads)
    ]
    assert {each["what"] for row in first["heads"] for each in row["follows"]} == {
        "time",
        "event type",
        "severity",
    }
    assert first["layers"] == [], "a GRU has no attention between steps"
    path.write_text(json.dumps({**first, "records": -1}))
    explain(APPLICATION, run, 8)
    assert json.loads(path.read_text())["records"] == -1, "read again, not measured again"
    path.write_text(json.dumps({**first, "records": -1, "bundle": "another"}))
    explain(APPLICATION, run, 8)
    assert json.loads(path.read_text()) == first


def test_a_page_made_again_says_what_the_certificate_says_by_now(run: Run) -> None:
    _, folder = explain(APPLICATION, run, 8)
    assert "never judged on planted truth" in (folder / "explanation.html").read_text()
    put_into_bundle(certificate(run), run.bundle)
    render_run_report(run.path)
    page = (folder / "explanation.html").read_text()
    assert "(certified on planted truth)" in page
    assert "../../report.html" in page
    assert f"explain/{folder.name}/explanation.html" in (run.path / "report.html").read_text()


def test_the_trajectory_is_that_of_the_stay_which_is_explained() -> None:
    """An earlier stay of the same subject, and what came after the prediction, are left out."""
    hours = [-500, 1, 4, 24, 30]
    admission = datetime(2024, 1, 1)  # noqa: DTZ001 - MEDS times are naive UTC
    times = [admission + timedelta(hours=hour) for hour in hours]
    risks = pl.DataFrame({schema.PREDICTION_TIME: times[::-1], "hour": hours[::-1]})
    assert this_stay(risks, times[3].isoformat(), 24.0)["hour"].to_list() == [1, 4, 24]
    assert this_stay(risks, times[3].isoformat(), float("nan"))["hour"].to_list() == [-500, 1, 4, 24]
