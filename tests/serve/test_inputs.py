"""Vital signs in the formats of hospitals become the same batches as our own JSON."""

import asyncio
import json
import socket
import threading

import pytest

from caretrace.errors import ConfigError, InputError, ResourceError
from caretrace.serve.inputs.fhir import parse_bundle
from caretrace.serve.inputs.hl7 import parse_oru
from caretrace.serve.inputs.mqtt import Listener, checked
from caretrace.serve.live.intake import OverloadedError
from caretrace.serve.live.samples import CHANNELS, BadSampleError

T = 1_769_846_400.0  # 2026-01-31T08:00:00Z


def quantity(value, code):
    return {"value": value, "system": "http://unitsofmeasure.org", "code": code}


def coded(code):
    return {"coding": [{"system": "http://loinc.org", "code": code}]}


def observation(code="8867-4", value=82, unit="/min", **more):
    made = {
        "resourceType": "Observation",
        "status": "final",
        "code": coded(code),
        "subject": {"reference": "Patient/17"},
        "effectiveDateTime": "2026-01-31T09:00:00+01:00",
        "valueQuantity": quantity(value, unit),
    } | more
    return {name: each for name, each in made.items() if each is not None}


PRESSURE = observation(
    "85354-9",
    valueQuantity=None,
    component=[
        {"code": coded("8480-6"), "valueQuantity": quantity(120, "mm[Hg]")},
        {"code": coded("8462-4"), "valueQuantity": quantity(80, "mm[Hg]")},
    ],
)


def bundle(*observations, **more):
    entries = [{"resource": each} for each in observations]
    return json.dumps(
        {"resourceType": "Bundle", "type": "collection", "id": "b-1", "entry": entries} | more
    ).encode()


def rows(batch):
    return [
        (int(s), float(t), CHANNELS[c], float(v))
        for s, t, c, v in zip(batch.subject, batch.time, batch.channel, batch.value, strict=True)
    ]


def test_a_bundle_becomes_a_batch():
    batch = parse_bundle(bundle(observation(), PRESSURE, observation("8310-5", 98.6, "[degF]")), 100)
    assert batch.batch_id == "fhir:b-1"
    assert rows(batch)[:3] == [(17, T, "hr", 82.0), (17, T, "sbp", 120.0), (17, T, "dbp", 80.0)]
    assert rows(batch)[3][3] == pytest.approx(37.0)


def test_what_is_no_vital_sign_or_was_an_error_is_left_out():
    others = [
        observation("2345-7", 5, "mmol/L"),
        observation(status="entered-in-error"),
        observation(valueQuantity=None),
    ]
    assert len(parse_bundle(bundle(observation(), *others), 100)) == 1
    with pytest.raises(BadSampleError, match="none of 3 is a vital sign"):
        parse_bundle(bundle(*others), 100)


def test_the_same_bundle_is_the_same_batch_even_without_a_name():
    named = parse_bundle(bundle(observation(), identifier={"value": "gateway/7 ü"}), 100)
    again = parse_bundle(bundle(observation(), identifier={"value": "gateway/7 ü"}), 100)
    nameless = json.dumps({k: v for k, v in json.loads(bundle(observation())).items() if k != "id"}).encode()
    assert named.batch_id == again.batch_id != parse_bundle(nameless, 100).batch_id
    assert parse_bundle(nameless, 100).batch_id == parse_bundle(nameless, 100).batch_id


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{}", "send a FHIR R4 Bundle"),
        (b"[1", "send a FHIR R4 Bundle"),
        (bundle(observation(valueQuantity={"value": 98.6})), "temp|hr in 'None'"),
        (bundle(observation("8310-5", 98.6, "/min")), r"entry\[0\].resource.valueQuantity: temp in '/min'"),
        (
            bundle(observation(subject={"reference": "Patient/anna"})),
            "subject.reference: the patient must be named",
        ),
        (bundle(observation(subject=None)), "subject: missing"),
        (bundle(observation(effectiveDateTime="2026-01-31")), "give date, time and zone"),
        (bundle(observation(effectiveDateTime=None)), "give date, time and zone"),
        (bundle(*[observation()] * 3), "at most 2"),
        (bundle(observation(status="guessed", value="x")), "send a FHIR R4 Bundle"),
    ],
)
def test_a_bundle_that_cannot_be_used_says_why(body, told):
    with pytest.raises(BadSampleError, match=told):
        parse_bundle(body, 2)


MSH = "MSH|^~\\&|MON|WARD|CT|HOSP|20260131080000+0000||ORU^R01^ORU_R01|{control}|P|2.6"
PID = "PID|||17^^^HOSP"
OBR = "OBR|1|||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM^MDC|||20260131080000+0000"


def obx(code, value, unit, *, kind="NM", status="F", time=""):
    return f"OBX|1|{kind}|{code}||{value}|{unit}|||||{status}|||{time}"


HR = obx(
    "147842^MDC_ECG_HEART_RATE^MDC", "82", "264864^MDC_DIM_BEAT_PER_MIN^MDC", time="20260131080000.5+0000"
)
SPO2 = obx("59408-5^SpO2^LN", "97", "%")


def message(*segments, control="M1"):
    return "\r".join([MSH.format(control=control), *segments]).encode()


def test_a_message_becomes_a_batch():
    batch = parse_oru(b"\x0b" + message(PID, OBR, HR, SPO2) + b"\x1c\r", 100)
    assert batch.batch_id == "hl7:MON:M1"
    assert rows(batch) == [(17, T + 0.5, "hr", 82.0), (17, T, "spo2", 97.0)]
    assert parse_oru(message(PID, OBR, HR, SPO2).replace(b"\r", b"\r\n"), 100).batch_id == batch.batch_id


def test_several_patients_and_what_is_left_out():
    second = PID.replace("17", "18")
    left_out = [obx("1234-5^Other^LN", "1", "%"), obx("59408-5^SpO2^LN", "97", "%", status="X"),
                obx("59408-5^SpO2^LN", "", "%"), obx("59408-5^SpO2^LN", "low", "%", kind="ST")]  # fmt: skip
    batch = parse_oru(message(PID, OBR, SPO2, *left_out, second, OBR, SPO2), 100)
    assert batch.subject.tolist() == [17, 18]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "no HL7 v2 message"),
        (b"\xff\xfe", "no HL7 v2 message"),
        (b"PID|||17", "no HL7 v2 message"),
        (b"MSH", "no HL7 v2 message"),
        (message(PID, OBR, SPO2).replace(b"ORU^R01", b"ADT^A01"), "send ORU"),
        (message(OBR, SPO2), "no PID before it"),
        (message(PID.replace("17", "Anna"), OBR, SPO2), "must be named by the subject_id"),
        (message(PID, OBR.replace("+0000", ""), SPO2), "give time and zone"),
        (message(PID, OBR.replace("20260131", "20261331"), SPO2), "give time and zone"),
        (message(PID, OBR, SPO2.replace("|97|", "|NaN|")), "OBX-5: no number"),
        (message(PID, OBR, obx("8310-5^Temp^LN", "98.6", "")), "temp in 'None'"),
        (message(PID, OBR), "none is a vital sign"),
        (message(PID, OBR, *[SPO2] * 3), "at most 2"),
    ],
)
def test_a_message_that_cannot_be_used_says_why(body, told):
    with pytest.raises(BadSampleError, match=told):
        parse_oru(body, 2)


def test_all_formats_meet_on_the_ward(serving):
    client = serving().client
    own = {
        "batch_id": "j1",
        "samples": [{"subject_id": 17, "time": "2026-01-31T08:00:00Z", "channel": "hr", "value": 82}],
    }
    assert client.post("/vitals", json=own).json() == {"batch_id": "j1", "accepted": 1}
    sent = client.post(
        "/vitals", content=bundle(observation()), headers={"content-type": "application/fhir+json"}
    )
    assert sent.json() == {"batch_id": "fhir:b-1", "accepted": 1}
    again = client.post(
        "/vitals", content=bundle(observation()), headers={"content-type": "application/fhir+json"}
    )
    assert (again.text, again.status_code) == (sent.text, 200)
    sent = client.post(
        "/vitals", content=message(PID, OBR, SPO2), headers={"content-type": "application/hl7-v2"}
    )
    assert sent.json() == {"batch_id": "hl7:MON:M1", "accepted": 1}
    for kind in ("application/fhir+json", "application/hl7-v2"):
        assert client.post("/vitals", content=b"{]", headers={"content-type": kind}).status_code == 422
    nan = bundle(observation()).replace(b"82", b"NaN")
    answer = client.post("/vitals", content=nan, headers={"content-type": "application/fhir+json"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][-1] == "value"


class Hub:
    """Takes what it is told to take."""

    def __init__(self, *outcomes):
        self.outcomes, self.taken = list(outcomes), []

    async def accept(self, batch):
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        self.taken.append(batch.batch_id)
        return type("Accepted", (), {"duplicate": False})()


class Client:
    """Stands for the broker's client."""

    def __init__(self):
        self.acknowledged = []

    def ack(self, number, _qos):
        self.acknowledged.append(number)


class Message:
    def __init__(self, number, payload):
        self.mid, self.payload, self.qos = number, payload, 1


PAYLOAD = json.dumps(
    {"batch_id": "m1", "subject_id": [1], "time": [T], "channel": ["hr"], "value": [80]}
).encode()


@pytest.mark.parametrize(
    ("outcome", "payload", "acknowledged", "taken"),
    [
        (None, PAYLOAD, True, ["m1"]),
        (ResourceError("disk full"), PAYLOAD, False, []),  # comes again
        (InputError("from the future"), PAYLOAD, True, []),  # would come for ever
        (None, b"no json", True, []),
        (OverloadedError("busy"), PAYLOAD, True, ["m1"]),  # waits, then takes it
    ],
)
def test_a_message_is_acknowledged_once_it_is_stored(outcome, payload, acknowledged, taken):
    hub, client = Hub(*([] if outcome is None else [outcome])), Client()
    listener = Listener("mqtt://broker/ward/a", hub, 100)

    async def run():
        listener._loop = asyncio.get_running_loop()
        await asyncio.to_thread(listener._came, client, None, Message(7, payload))

    asyncio.run(run())
    assert client.acknowledged == ([7] if acknowledged else [])
    assert hub.taken == taken


@pytest.mark.parametrize(
    "address", ["broker/topic", "http://broker/topic", "mqtt://broker", "mqtt:///topic", ""]
)
def test_an_odd_broker_is_refused(address):
    with pytest.raises(ConfigError, match="give mqtt://"):
        checked(address)
    assert checked("mqtts://u:p@h:1/ward/+/vitals")[1] == "ward/+/vitals"
    assert checked("mqtt://h/ward/#")[1] == "ward/#"


class Broker(threading.Thread):
    """As much of MQTT 3.1.1 as one subscriber needs; sends every payload until it is acknowledged."""

    def __init__(self, payloads):
        super().__init__(daemon=True)
        self.payloads, self.acknowledged, self.topics = payloads, [], []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]

    def run(self):
        connection, _ = self.server.accept()
        with connection, self.server, connection.makefile("rb") as file:
            while header := file.read(1):
                length, shift = 0, 0
                while (byte := file.read(1)[0]) & 128:
                    length, shift = length | (byte & 127) << shift, shift + 7
                body = file.read(length | byte << shift)
                kind = header[0] >> 4
                if kind == 1:  # CONNECT
                    connection.sendall(b"\x20\x02\x00\x00")
                elif kind == 8:  # SUBSCRIBE
                    size = int.from_bytes(body[2:4], "big")
                    self.topics.append(body[4 : 4 + size].decode())
                    connection.sendall(b"\x90\x03" + body[:2] + b"\x01")
                    for number, payload in enumerate(self.payloads, start=1):
                        rest = b"\x00\x01t" + number.to_bytes(2, "big") + payload
                        assert len(rest) < 16384
                        size = bytes([len(rest) & 127 | 128, len(rest) >> 7])
                        connection.sendall(b"\x32" + size + rest)
                elif kind == 4:  # PUBACK
                    self.acknowledged.append(int.from_bytes(body[:2], "big"))


def test_a_broker_hears_of_what_is_stored_and_of_nothing_else():
    second = PAYLOAD.replace(b"m1", b"m2")
    broker, hub = Broker([PAYLOAD, second, b"no json"]), Hub(None, ResourceError("disk full"))
    broker.start()

    async def run():
        listener = Listener(f"mqtt://127.0.0.1:{broker.port}/ward/+/vitals", hub, 100)
        listener.start()
        for _ in range(200):
            if len(broker.acknowledged) == 2:
                break
            await asyncio.sleep(0.02)
        await asyncio.to_thread(listener.stop)

    asyncio.run(run())
    broker.join(5)
    assert broker.topics == ["ward/+/vitals"]
    assert hub.taken == ["m1"]
    assert broker.acknowledged == [1, 3]  # the second would come again
