"""Predictions and explanations over HTTP are those of the verbs."""

import datetime as dt
import io
import shutil

import numpy as np
import polars as pl
import pytest
from sqlalchemy.exc import OperationalError

from caretrace import schema
from caretrace.application.answering import RiskRun
from caretrace.application.explain import put_into_bundle
from caretrace.application.run import Run
from caretrace.apps.mortality.application import APPLICATION
from caretrace.dataset import Dataset
from caretrace.explain.certificate import Certificate, Finding
from caretrace.explain.faithfulness import gate
from caretrace.hospital.config import RULES
from caretrace.serve.risks import OLD_HOURS
from caretrace.serve.store.risks import read_risks
from caretrace.serve.store.store import Store

PARQUET = "application/vnd.apache.parquet"


@pytest.fixture
def client(serving, tiny_run):
    return serving((tiny_run,)).client


@pytest.fixture(scope="module")
def judged(tiny_run):
    return pl.read_parquet(tiny_run / "evaluation" / "predictions.parquet")


def posted(tiny_dataset, subjects, time):
    rows = Dataset(tiny_dataset).scan().filter(pl.col(schema.SUBJECT_ID).is_in(subjects)).collect()
    events = [
        {**row, schema.TIME: None if row[schema.TIME] is None else row[schema.TIME].isoformat() + "Z"}
        for row in rows.to_dicts()
    ]
    return rows, {"events": events, "prediction_time": time.isoformat() + "Z"}


def test_a_record_that_is_sent_has_the_risk_of_evaluate(client, judged, tiny_dataset):
    """Everything of the record is sent; what is later than the prediction must not count."""
    for label in judged.head(6).to_dicts():
        rows, body = posted(tiny_dataset, [label[schema.SUBJECT_ID]], label[schema.PREDICTION_TIME])
        answer = client.post("/predict/mortality", json=body)
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["predictions"]
        assert found["risk"] == pytest.approx(label[schema.PREDICTED_PROBABILITY], abs=1e-6)
        assert found["low"] < found["risk"] < found["high"]
        assert answer.json()["unknown_codes"] == 0
        buffer = io.BytesIO()
        rows.sample(fraction=1, shuffle=True, seed=1).write_parquet(buffer)
        again = client.post(
            "/predict/mortality",
            params={"prediction_time": body["prediction_time"]},
            content=buffer.getvalue(),
            headers={"content-type": PARQUET},
        )
        assert again.json() == answer.json()


def test_several_subjects_at_once_and_each_in_the_audit(serving, tiny_run, tiny_dataset, judged):
    service = serving((tiny_run,))
    some = judged.head(5)[schema.SUBJECT_ID].to_list()
    _, body = posted(tiny_dataset, some, judged[schema.PREDICTION_TIME][0])
    found = service.client.post("/predict/mortality?bundle=tiny", json=body).json()["predictions"]
    assert [each["subject_id"] for each in found] == sorted(some)
    assert sorted(each["subject_id"] for each in service.audit()) == sorted(some)


def test_a_code_nobody_knows_is_counted(client):
    body = {
        "events": [
            {"subject_id": 1, "time": "2020-01-01T00:00:00Z", "code": "LAB//never seen", "numeric_value": 1}
        ],
        "prediction_time": "2020-01-02T00:00:00+02:00",
    }
    answer = client.post("/predict/mortality", json=body).json()
    assert (answer["measurements"], answer["unknown_codes"]) == (1, 1)
    assert answer["predictions"][0]["prediction_time"] == "2020-01-01T22:00:00Z"


EVENT = {"subject_id": 1, "time": "2020-01-01T00:00:00Z", "code": "LAB//lactate", "numeric_value": 1.0}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"subject_id": 2**63}, "subject_id"), ({"subject_id": "1; DROP"}, "subject_id"), ({"time": "soon"}, "time"),
        ({"numeric_value": 1e300}, "numeric_value"), ({"code": ""}, "code"), ({"code": None}, "code"),
        ({"extra": 1}, "extra"), ({"event_type": "gossip"}, "event_type"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(client, change, where):
    body = {"events": [EVENT, EVENT | change], "prediction_time": "2020-01-02T00:00:00Z"}
    answer = client.post("/predict/mortality", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][:3] == ["body", "events", 1]
    assert where in answer.json()["detail"][0]["loc"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"events": [EVENT], "prediction_time": "2019-01-01T00:00:00Z"}, "at or before prediction_time"),
        ({"events": [EVENT], "prediction_time": "0001-01-01T00:00:00Z"}, "year 1"),
        ({"events": [], "prediction_time": "2020-01-01T00:00:00Z"}, "at least 1"),
        ({"events": [EVENT]}, "required"),
    ],
)
def test_what_cannot_be_predicted_says_why(client, body, told):
    answer = client.post("/predict/mortality", json=body)
    assert answer.status_code == 422
    assert told in answer.text


def table(**columns):
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


T = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times carry no zone


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"PAR1 no table PAR1", "not readable as Parquet"),
        (b"", "not readable as Parquet"),
        (table(subject_id=[1], time=[T]), "column code is missing"),
        (table(subject_id=["x"], time=[T], code=["a"]), "types of MEDS"),
        (table(subject_id=[1], time=[T], code=["a"], numeric_value=[float("nan")]), "NaN or infinities"),
        (table(subject_id=[None], time=[T], code=["a"]), "needs a subject_id"),
    ],
)
def test_a_bad_table_says_why(client, body, told):
    answer = client.post(
        "/predict/mortality?prediction_time=2020-01-02T00:00:00Z",
        content=body,
        headers={"content-type": PARQUET},
    )
    assert answer.status_code == 422
    assert told in answer.text


def test_a_table_that_unpacks_to_a_flood_is_refused_before_it_is_unpacked(client):
    body = table(subject_id=np.ones(1_000_001, np.int64), time=[T] * 1_000_001, code=["a"] * 1_000_001)
    assert len(body) < 2**20
    answer = client.post(
        "/predict/mortality?prediction_time=2020-01-02T00:00:00Z",
        content=body,
        headers={"content-type": PARQUET},
    )
    assert answer.status_code == 422
    assert "at most 1,000,000" in answer.text


@pytest.mark.parametrize("name", ["mortalty", "synth", "vitals"])
def test_what_is_not_served_says_what_is(client, name):
    answer = client.post(f"/predict/{name}", json={})
    assert answer.status_code == 404
    assert {"mortalty": "did you mean 'mortality'", "synth": "POST /generate", "vitals": "POST /vitals"}[
        name
    ] in answer.json()["detail"]
    assert client.post("/predict/mortality?bundle=other", json={}).status_code == 404


def test_an_explanation_is_that_of_the_verb(client, tiny_run, tiny_dataset, judged):
    from caretrace.application.explain import explain

    subject = judged[schema.SUBJECT_ID][0]
    told, _ = explain(APPLICATION, Run(tiny_run), subject)
    answer = client.post("/explain", json={"subject_id": subject})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["risk"] == pytest.approx(told.risk, abs=1e-6)
    assert [each["contribution"] for each in found["events"]] == pytest.approx(
        told.measurements["credit"].to_list()
    )
    assert found["certified"] is False
    assert "not importance" in found["heading"]
    _, body = posted(tiny_dataset, [subject], judged[schema.PREDICTION_TIME][0])
    sent = client.post("/explain", json=body).json()
    assert [each["contribution"] for each in sent["events"]] == pytest.approx(
        told.measurements["credit"].to_list()
    )


@pytest.mark.parametrize(
    "body",
    [{}, {"subject_id": 1, "events": [EVENT], "prediction_time": "2020-01-02"}, {"events": [EVENT]},
     {"subject_id": 1, "method": "rollout"}, {"subject_id": 999_999}],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_422(client, body):
    assert client.post("/explain", json=body).status_code == 422


def test_two_subjects_are_explained_one_at_a_time(client):
    body = {"events": [EVENT, EVENT | {"subject_id": 2}], "prediction_time": "2020-01-02T00:00:00Z"}
    assert "one at a time" in client.post("/explain", json=body).text


def test_subjects_with_the_highest_risks_come_first(client, judged):
    found = client.get("/subjects?limit=5").json()
    top = judged[schema.PREDICTED_PROBABILITY].sort(descending=True).head(5).to_list()
    assert [each["risk"] for each in found] == pytest.approx(top)
    assert all(each["low"] <= each["risk"] <= each["high"] for each in found)


def test_a_timeline_has_events_course_and_what_is_known_of_the_method(client, judged):
    subject = judged[schema.SUBJECT_ID][0]
    found = client.get(f"/subjects/{subject}/timeline").json()
    assert found["subject_id"] == subject
    assert {"time", "code", "words", "value", "unit", "contribution"} <= set(found["events"][0])
    times = [each["time"] for each in found["trajectory"]]
    assert times == sorted(times)
    assert len(times) > 3
    assert found["trajectory"][-1]["risk"] == pytest.approx(found["risk"], abs=1e-6)
    assert found["certified"] is False
    assert found["static"]


def test_a_run_whose_dataset_is_gone_still_predicts_for_what_says_its_types(tiny_run, tmp_path):
    import json

    from caretrace.errors import DatasetError, InputError

    moved = tmp_path / "moved"
    shutil.copytree(tiny_run, moved)
    stored = json.loads((moved / "run.json").read_text())
    (moved / "run.json").write_text(json.dumps(stored | {"dataset": str(tmp_path / "gone")}))
    opened, whole = RiskRun(APPLICATION, Run(moved)), RiskRun(APPLICATION, Run(tiny_run))
    rows = whole.dataset.scan().filter(pl.col(schema.SUBJECT_ID) == 3).collect()
    time = rows[schema.TIME].max()
    with pytest.raises(InputError, match="say event_type"):
        opened.predict(rows, time)
    typed = rows.join(whole.dataset.codes.select(schema.CODE, schema.EVENT_TYPE), on=schema.CODE, how="left")
    assert opened.predict(typed, time) == whole.predict(rows, time)
    with pytest.raises(DatasetError, match="not here"):
        opened.timeline(3)
    assert opened.subjects(3)[0]["low"] is None


def at_bed(service, who=None, subject=1):
    return service.ask("GET", f"/beds/{subject}", who).json()["risk"]


NOW = "2020-01-02T00:00:00Z"


def test_a_risk_is_shown_at_the_bed_only_if_that_was_asked_for_and_stays_after_a_restart(serving, tiny_run):
    service = serving((tiny_run,))
    service.ask("PUT", "/beds/1", json={"ward": "A", "bed": "A-01"})
    body = {"events": [EVENT], "prediction_time": NOW}
    told = service.client.post("/predict/mortality", json=body).json()
    assert told["kept"] is None
    assert at_bed(service) is None
    told = service.client.post("/predict/mortality?keep=true", json=body).json()
    assert told["kept"] == 1
    (found,) = told["predictions"]
    shown = at_bed(service)
    assert {name: shown[name] for name in ("value", "low", "high")} == pytest.approx(
        {"value": found["risk"], "low": found["low"], "high": found["high"]}
    )
    assert (shown["time"], shown["app"], shown["bundle"]) == (NOW, "mortality", tiny_run.name)
    assert shown["old"] is True, "it is a risk of years ago, however lately it was computed"
    assert shown["age_seconds"] > 5 * 365 * 86_400
    (bed,) = service.ask("GET", "/ward").json()["beds"]
    assert bed["risk"]["value"] == shown["value"]
    assert [each["what"] for each in service.audit() if each["what"].startswith("predict")] == [
        "predict mortality",
        "predict and keep mortality",
    ]
    service.client.app.state.hub.store.close()
    with_another = Store(f"sqlite:///{next(service.state.glob('*.db'))}")
    assert with_another.read(read_risks)[1].risk == found["risk"]
    with_another.close()


def test_a_risk_that_is_new_is_not_old_and_grows_so(serving, tiny_run):
    service = serving((tiny_run,))
    now = dt.datetime.now(dt.UTC)
    body = {"events": [EVENT], "prediction_time": now.isoformat()}
    service.ask("PUT", "/beds/1", json={"ward": "A"})
    assert service.client.post("/predict/mortality?keep=true", json=body).json()["kept"] == 1
    assert at_bed(service)["old"] is False
    service.client.app.state.risks._clock = lambda: now.timestamp() + OLD_HOURS * 3600 + 1
    assert at_bed(service)["old"] is True
    ahead = body | {"prediction_time": (now + dt.timedelta(days=1)).isoformat()}
    answer = service.client.post("/predict/mortality?keep=true", json=ahead)
    assert answer.status_code == 422
    assert "ahead of the ward's clock" in answer.text
    assert service.client.post("/predict/mortality", json=ahead).status_code == 200


def test_nobody_keeps_a_risk_of_another_ward_s_patient(serving, tiny_run):
    service = serving(
        (tiny_run,), roles=("viewer", "clinician", "admin"), wards={"clinician": ["B"], "viewer": ["A"]}
    )
    service.ask("PUT", "/beds/1", "admin", json={"ward": "A"})
    body = {"events": [EVENT], "prediction_time": NOW}
    address = "/predict/mortality?keep=true"
    assert service.ask("POST", address, "viewer", json=body).status_code == 403
    assert service.ask("POST", address, "clinician", json=body).status_code == 404
    assert (
        service.audit()[-1] | {"what": "predict and keep mortality", "outcome": "denied"}
        == service.audit()[-1]
    )
    assert at_bed(service, "admin") is None
    assert service.ask("POST", "/predict/mortality", "clinician", json=body).status_code == 200
    service.ask("PUT", "/beds/1", "admin", json={"ward": "B"})
    assert service.ask("POST", address, "clinician", json=body).json()["kept"] == 1
    assert at_bed(service, "clinician")["value"] > 0


def test_where_the_store_cannot_be_read_the_last_risks_are_shown_with_their_age(
    serving, tiny_run, monkeypatch
):
    service = serving((tiny_run,))
    service.ask("PUT", "/beds/1", json={"ward": "A"})
    service.client.post("/predict/mortality?keep=true", json={"events": [EVENT], "prediction_time": NOW})
    (bed,) = service.ask("GET", "/ward").json()["beds"]

    def broken(*_):
        raise OperationalError("select", {}, Exception("gone"))

    monkeypatch.setattr("caretrace.serve.risks.read_risks", broken)
    (again,) = service.ask("GET", "/ward").json()["beds"]
    assert again["risk"]["value"] == bed["risk"]["value"]
    assert again["risk"]["age_seconds"] >= bed["risk"]["age_seconds"]


def planted(config):
    """What a certification of these settings would have found, all green."""
    values = {"recovery": 1.0, "decoy": 0.5, "rule_recovery": 1.0, "rule_decoy": 0.5, "padding": 0.0}
    gates = {"removal": {name: gate(name, value) for name, value in values.items()}}
    findings = tuple(Finding(rule, 0, 0.98, 9, gates) for rule in RULES)
    return Certificate("mortality", config, {"subjects": 600}, RULES, findings)


@pytest.mark.parametrize(("changed", "certified"), [({}, True), ({"d_model": 4096}, False)])
def test_attributions_are_certified_where_the_run_has_a_certificate_of_its_configuration(
    serving, tiny_run, judged, tmp_path, changed, certified
):
    run = tmp_path / "certified"
    shutil.copytree(tiny_run, run)
    config = Run(run).read()["config"]
    put_into_bundle(planted({**config, **changed}), run / "bundle")
    client = serving((run,)).client
    subject = judged[schema.SUBJECT_ID][0]
    found = client.get(f"/subjects/{subject}/timeline").json()
    assert found["certified"] is certified
    assert ("certified on planted truth" in found["heading"]) is certified
    assert (found["judged_on"] is not None) is certified
    other = client.post("/explain", json={"subject_id": subject, "method": "ablation"}).json()
    assert other["certified"] is False, "it was never judged"
    assert client.get("/bundles").status_code == 200, "the bundle is whole"
