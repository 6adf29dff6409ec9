"""Vital signs, ward, alarms and events over HTTP, without a server."""

import math
import time

import pytest

from .live.small import model

FIELDS = ("subject_id", "time", "channel", "value")


def sample(**changed):
    return {"subject_id": 7, "time": time.time(), "channel": "hr", "value": 82.0, **changed}


def post(service, samples, batch_id="b1", who=None, **more):
    return service.ask("POST", "/vitals", who, json={"batch_id": batch_id, "samples": samples, **more})


def until(test, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := test()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


@pytest.fixture
def service(serving):
    started = serving()
    until(lambda: started.ask("GET", "/ready").status_code == 200)
    return started


def test_a_batch_that_is_sent_again_gets_the_same_answer(service):
    samples = [sample(), sample(channel="spo2", value=97)]
    first, again = post(service, samples), post(service, samples)
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert first.json() == {"batch_id": "b1", "accepted": 2}
    assert (first.headers.get("caretrace-duplicate"), again.headers["caretrace-duplicate"]) == (None, "true")
    other = post(service, [sample(value=99)])
    assert other.status_code == 409
    assert "came before with other samples" in other.json()["detail"]


def test_rows_and_columns_are_the_same_batch(service):
    rows = [sample(time=1_700_000_000.0 + n, value=80 + n) for n in range(3)]
    columns = {name: [row[name] for row in rows] for name in FIELDS}
    assert post(service, rows).status_code == 200
    again = service.ask("POST", "/vitals", json={"batch_id": "b1", **columns})
    assert again.headers["caretrace-duplicate"] == "true"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"value": math.nan}, "value"),
        ({"value": math.inf}, "value"),
        ({"value": 1e300}, "samples[1].value: got inf"),
        ({"value": "82"}, "samples[1].value: got '82'"),
        ({"value": None}, "samples[1].value: got None"),
        ({"value": True}, "samples[1].value: got True"),
        ({"subject_id": 1.5}, "samples[1].subject_id: got 1.5"),
        ({"subject_id": 2**63}, "samples[1].subject_id: got 9223372036854775808"),
        ({"subject_id": "7 OR 1=1"}, "samples[1].subject_id: got '7 OR 1=1'"),
        ({"channel": "herat"}, "samples[1].channel: unknown channel 'herat'"),
        ({"channel": 3}, "samples[1].channel: unknown channel"),
        (
            {"time": "2026-01-31T08:00:00"},
            "samples[1].time: got '2026-01-31T08:00:00'; give ISO 8601 with its zone",
        ),
        ({"time": "yesterday"}, "samples[1].time"),
        ({"time": -5}, "samples[1].time: got -5; give a time from 1970"),
        ({"time": 1e11}, "samples[1].time"),
        ({"unit": "bpm"}, "samples[1].unit: no such field"),
    ],
)
def test_what_is_wrong_is_named_with_field_and_row(service, changed, said):
    import json

    body = json.dumps({"batch_id": "b1", "samples": [sample(), sample(**changed)]})
    answer = service.ask("POST", "/vitals", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert said in str(answer.json()["detail"])
    assert service.client.app.state.store.log.last == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "give an object"),
        (b"{", "not JSON"),
        (b'{"batch_id": "b"}', "subject_id: missing"),
        (b'{"batch_id": "b", "samples": []}', "at least one"),
        (b'{"batch_id": 5, "samples": [1]}', "batch_id: missing or no text"),
        (
            b'{"batch_id": "a b", "samples": [{"subject_id": 1, "time": 1, "channel": "hr", "value": 1}]}',
            "batch_id",
        ),
        (b'{"batch_id": "b", "samples": [1]}', "samples[0]: no object"),
        (b'{"batch_id": "b", "samples": [{}]}', "samples[0].channel: missing"),
        (b'{"batch_id": "b", "sample": []}', "sample: no such field"),
        (
            b'{"batch_id":"b","subject_id":[1,2],"time":[1],"channel":["hr"],"value":[1]}',
            "time: 1 entries for 2",
        ),
    ],
)
def test_a_body_that_is_no_batch_is_told_why(service, body, said):
    answer = service.ask("POST", "/vitals", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert said in str(answer.json()["detail"])


def test_samples_from_the_future_are_refused(service):
    answer = post(service, [sample(), sample(time=time.time() + 3600)])
    assert answer.status_code == 422
    assert "samples[1].time" in answer.json()["detail"]
    assert "set the monitor's clock" in answer.json()["detail"]


def test_the_ward_shows_who_lies_where_and_the_last_values(service):
    post(service, [sample(), sample(channel="spo2", value=97.1), sample(subject_id=8)])
    placed = service.ask("PUT", "/beds/7", json={"bed": "A-03", "ward": "A"})
    assert placed.json() == {"subject_id": 7, "bed": "A-03", "ward": "A"}
    [bed] = until(lambda: [b for b in service.ask("GET", "/ward?ward=A").json()["beds"] if b["values"]])
    assert bed["values"] == {"hr": 82.0, "spo2": 97.1}
    assert (bed["state"], bed["units"]["spo2"], bed["age_seconds"] < 60) == ("quiet", "%", True)
    assert service.ask("GET", "/wards").json() == [
        {"ward": "A", "beds": 1},
        {"ward": "unassigned", "beds": 1},
    ]
    assert service.ask("GET", "/beds/7").json()["channels"][0] == {
        "name": "hr",
        "unit": "bpm",
        "normal": [51, 90],
    }
    assert service.ask("GET", "/beds/99").status_code == 404
    assert service.ask("GET", "/beds/7;DROP").status_code == 422
    assert service.ask("GET", f"/beds/{2**64}").status_code == 422
    assert service.ask("GET", "/beds/7?hours=nan").status_code == 422


def test_who_is_bound_to_a_ward_sees_and_sends_for_that_ward_alone(serving):
    service = serving(roles=("clinician", "admin"), wards={"clinician": ["A"]})
    until(lambda: service.ask("GET", "/ready").status_code == 200)
    assert post(service, [sample(), sample(subject_id=8)], who="admin").status_code == 200
    service.ask("PUT", "/beds/7", "admin", json={"bed": "A-1", "ward": "A"})
    service.ask("PUT", "/beds/8", "admin", json={"bed": "B-1", "ward": "B"})
    assert [b["subject_id"] for b in service.ask("GET", "/ward", "clinician").json()["beds"]] == [7]
    assert service.ask("GET", "/wards", "clinician").json() == [{"ward": "A", "beds": 1}]
    for path in ("/beds/8", "/ward?ward=B", "/stream?ward=B"):
        assert service.ask("GET", path, "clinician").status_code == 404
    assert post(service, [sample(subject_id=8)], "b2", who="clinician").status_code == 404
    assert post(service, [sample(subject_id=9)], "b3", who="clinician").status_code == 404
    assert post(service, [sample()], "b4", who="clinician").status_code == 200
    assert service.ask("PUT", "/beds/8", "clinician", json={"ward": "A"}).status_code == 404
    denied = [entry for entry in service.audit() if entry["outcome"] == "denied"]
    assert {8, 9} <= {entry["subject_id"] for entry in denied}


def test_alarms_are_answered_over_http_with_who_and_why(serving, monkeypatch):
    monkeypatch.setattr("caretrace.serve.live.hub.without_model", lambda: model({"sudden": -9.0}))
    service = serving(roles=("clinician", "viewer"))
    until(lambda: service.ask("GET", "/ready", "viewer").status_code == 200)
    start = time.time() - 100
    samples = [
        sample(time=start + n, channel=c, value=v)
        for n in range(60)
        for c, v in (("hr", 80 + n % 7), ("spo2", 97))
    ]
    assert post(service, samples, who="clinician").status_code == 200

    def sudden():
        found = service.ask("GET", "/alarms?state=active", "viewer").json()["alarms"]
        return [alarm for alarm in found if alarm["reason"] == "sudden"]

    [alarm] = until(sudden)
    path = f"/alarms/{alarm['id']}"
    assert service.ask("POST", f"{path}/acknowledge", "viewer", json={"why": "seen"}).status_code == 403
    assert service.ask("POST", f"{path}/acknowledge", "clinician", json={"why": ""}).status_code == 422
    done = service.ask("POST", f"{path}/acknowledge", "clinician", json={"why": "seen, <b>é</b>"}).json()
    assert (done["state"], done["by"], done["why"]) == ("acknowledged", "clinician", "seen, <b>é</b>")
    assert service.ask("POST", f"{path}/acknowledge", "clinician", json={"why": "again"}).status_code == 409
    slept = service.ask(
        "POST", f"{path}/snooze", "clinician", json={"minutes": 15, "why": "back soon"}
    ).json()
    assert slept["snoozed_until"].endswith("Z")
    history = service.ask("GET", f"{path}/history", "viewer").json()["history"]
    assert [(h["state"], h["who"]) for h in history] == [
        ("active", None),
        ("acknowledged", "clinician"),
        ("snoozed", "clinician"),
    ]
    found = service.ask("GET", path, "viewer").json()["reproduction"]
    assert found["reproduced"] is True
    assert found["samples"]
    assert service.ask("GET", "/alarms/0000", "viewer").status_code == 404
    assert service.ask("GET", "/alarms/1%27OR", "viewer").status_code == 422
    assert service.ask("GET", "/alarms?since=2020-01-01T00:00:00", "viewer").status_code == 422
    later = service.ask("GET", "/alarms?since=2220-01-01T00:00:00Z", "viewer")
    assert later.json() == {"alarms": []}


def test_alarms_go_on_and_are_answered_when_the_audit_cannot_be_written(serving, monkeypatch):
    monkeypatch.setattr("caretrace.serve.live.hub.without_model", lambda: model({"sudden": -9.0}))
    service = serving()
    until(lambda: service.ask("GET", "/ready").status_code == 200)

    def full(*_, must=True, **__):
        from caretrace.errors import ResourceError

        if must:
            raise ResourceError("no space left")

    monkeypatch.setattr(service.client.app.state.audit, "append", full)
    start = time.time() - 100
    assert post(service, [sample(time=start + n, value=80 + n % 7) for n in range(60)]).status_code == 200
    hub = service.client.app.state.hub
    alarm = until(lambda: [a for a in hub._ward.lifecycle.of_subject(7) if a.state == "active"])[0]
    assert service.ask("GET", "/beds/7").status_code == 503

    def acknowledged():
        """Nobody is told of an alarm before it is on the disk, where it may still be on its way."""
        done = service.ask("POST", f"/alarms/{alarm.id}/acknowledge", json={"why": "seen"})
        return [done] if done.status_code != 404 else []

    done = until(acknowledged)[0]
    assert (done.status_code, done.json()["state"]) == (200, "acknowledged")


def test_too_much_is_answered_503_with_when_to_come_back(service, monkeypatch):
    monkeypatch.setattr(type(service.client.app.state.store.writer), "waiting", property(lambda _: 10_000))
    answer = post(service, [sample()])
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
