"""Predictions and explanations over HTTP are those of the verbs."""

import datetime as dt
import io

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.application.answering import RiskRun
from caretrace.application.run import Run
from caretrace.apps.mortality.application import APPLICATION
from caretrace.dataset import Dataset

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
    import shutil

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
