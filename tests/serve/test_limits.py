"""What bounds a request before any route sees it."""

import asyncio
import json
import threading
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretrace.serve.app import create_app
from caretrace.serve.limits.address import odd_path, odd_request_id
from caretrace.serve.limits.body import not_a_number, too_deep
from caretrace.serve.limits.rate import MOST_CALLERS, Rate
from caretrace.serve.settings import Limits, ServeSettings

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\a', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=30,
)


def depth(value):
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(values, st.integers(1, 6))
def test_depth_is_that_of_a_reader(value, most):
    assert too_deep(json.dumps(value).encode(), most) == (depth(value) > most)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 40 + b"]" * 40])
def test_deep_nesting_is_seen_even_where_it_is_no_json(body):
    assert too_deep(body, 32)


@given(values)
def test_json_without_nan_has_none(value):
    assert not_a_number(json.dumps(value).encode()) is None


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"samples": [{"value": 1}, {"value": NaN}]}', ["samples", 1, "value"]),
        (b"[1, -Infinity]", [1]),
        (b"NaN", []),
        (b'{"text": "NaN"}', None),
        (b'{"text": "Infinity", "x": Infinity}', ["x"]),
        (b"{NaN", None),  # no JSON: the reader says so
    ],
)
def test_nan_is_found_where_it_stands(body, where):
    assert not_a_number(body) == where


def test_a_rate_lets_a_burst_pass_and_then_so_many_a_second():
    rate = Rate(per_second=10, burst=5)
    assert [rate.wait("a", 0.0) for _ in range(5)] == [0] * 5
    assert rate.wait("a", 0.0) == pytest.approx(0.1)
    assert rate.wait("b", 0.0) == 0
    assert rate.wait("a", 0.1) == 0
    assert rate.wait("a", 0.1) > 0
    assert sum(rate.wait("a", 1 + n / 100) == 0 for n in range(100)) == pytest.approx(14, abs=2)


def test_many_callers_cost_bounded_memory():
    rate = Rate(1, 1)
    for number in range(MOST_CALLERS + 100):
        rate.wait(str(number), 0.0)
    assert len(rate._buckets) == MOST_CALLERS


ODD = [
    "/predict/../etc/passwd", "/predict/..", "/predict/%2e%2e", "/predict/%2E%2e/x", "/predict/..%2fetc", "//proc",
    "/predict//proc/self", "/predict/%2fproc", "/predict/a%23b", "/predict/a%3Fb", "/predict/%252e%252e",
    "/predict/%25252e%25252e", "/predict/a%00", "/predict/a%0d%0aX", "/predict/a%5c..", "/predict/.", "/predict/./x",
]  # fmt: skip


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return create_app(ServeSettings((), tmp_path_factory.mktemp("bare")))


def status_of(app, path):
    """The answer to an address that is sent as it is; clients tidy it up."""
    sent = []
    scope = {
        "type": "http", "method": "POST", "path": unquote(path), "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")], "scheme": "http", "client": ("127.0.0.1", 1), "http_version": "1.1",
        "server": ("127.0.0.1", 8000), "root_path": "",
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"]


@pytest.mark.parametrize("path", ODD)
def test_an_odd_path_is_400(bare, path):
    assert odd_path(path.encode())
    assert status_of(bare, path) == 400


def test_a_path_that_is_not_odd_is_not_400(bare):
    assert status_of(bare, "/predict/mortality") == 404


@pytest.mark.parametrize("path", ["/", "/predict/mortality", "/a.b/c..d", "/js/main.js", "/b/%C3%A4"])
def test_an_ordinary_path_is_let_through(path):
    assert not odd_path(path.encode())


@pytest.mark.parametrize(
    "value", [b"a\nb", b"a\rb", b"a%0ab"[:3] + b"\x00", b"", b"x" * 65, b"a b", "ä".encode()]
)
def test_a_request_id_that_could_forge_a_log_is_400(serving, value):
    assert odd_request_id(value)
    assert serving().client.get("/bundles", headers={"x-request-id": value}).status_code == 400


def test_a_request_id_is_given_back(serving):
    answer = serving().client.get("/bundles", headers={"x-request-id": "abc-1.2:3"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "abc-1.2:3")


def test_sql_in_an_id_is_422(serving):
    client = serving().client
    for path in (
        "/subjects/1%20OR%201=1/timeline",
        "/subjects/1;DROP TABLE alarms/timeline",
        "/jobs/' OR ''='",
        "/bundles/a'--/card",
        "/audit?after=1%20UNION%20SELECT",
        "/subjects/99999999999999999999/timeline",
    ):
        assert client.get(path).status_code == 422, path


def test_nan_is_422_naming_the_field(serving, tiny_run):
    client = serving((tiny_run,)).client
    body = (
        b'{"events": [{"subject_id": 1, "code": "a", "numeric_value": NaN}], "prediction_time": "2020-01-01"}'
    )
    for text in (body, body.replace(b"NaN", b"-Infinity"), body.replace(b"NaN", b"1e999")):
        answer = client.post("/predict/mortality", content=text, headers={"content-type": "application/json"})
        assert answer.status_code == 422, text
        assert answer.json()["detail"][0]["loc"] == ["body", "events", 0, "numeric_value"]


@pytest.mark.parametrize("value", [b"1e999", b"-1e999", b"NaN"])
def test_an_infinity_in_a_field_is_422_and_not_repeated(serving, value):
    answer = serving().client.post(
        "/generate", content=b'{"n": ' + value + b"}", headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "n"]
    assert "input" not in answer.json()["detail"][0]


def test_deep_nesting_is_400(serving):
    client = serving().client
    for body in (b"[" * 2000 + b"]" * 2000, b'{"a":' * 2000 + b"1" + b"}" * 2000):
        for path in ("/explain", "/generate", "/session", "/vitals"):
            answer = client.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 400, path


def test_a_large_body_is_413_whether_or_not_it_says_so(serving):
    client = serving(limits=Limits(body_bytes=1000)).client
    assert client.post("/session", content=b" " * 1001).status_code == 413
    read = []

    def parts():
        for _ in range(1000):
            read.append(1)
            yield b" " * 1000

    answer = client.post("/session", content=parts())
    assert answer.status_code == 413
    assert client.post("/session", content=b" " * 1000).status_code == 422


def test_a_flood_is_429_and_says_when_to_come_back(serving):
    service = serving(roles=("viewer", "admin"), limits=Limits(requests_per_second=5, burst=10))
    status = [service.ask("GET", "/bundles", "viewer").status_code for _ in range(30)]
    assert status[:10] == [200] * 10
    assert status.count(429) >= 15
    refused = service.ask("GET", "/bundles", "viewer")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert service.ask("GET", "/bundles", "admin").status_code == 200  # nobody else suffers
    assert [service.client.get("/health").status_code for _ in range(30)] == [200] * 30


def test_guessing_tokens_is_slow(serving):
    service = serving(roles=("viewer",), limits=Limits(unknown_per_second=5, unknown_burst=10))
    status = [
        service.client.get("/bundles", headers={"authorization": f"Bearer caretrace_{n}"}).status_code
        for n in range(30)
    ]
    assert status.count(401) <= 12
    assert set(status) == {401, 429}
    assert service.ask("GET", "/bundles", "viewer").status_code == 200


def test_nobody_unknown_may_fill_the_memory(serving):
    service = serving(roles=("viewer",), limits=Limits(unknown_bytes=100))
    assert service.client.post("/generate", content=b" " * 101).status_code == 413
    assert service.client.post("/generate", content=b" " * 100).status_code == 401
    assert service.ask("POST", "/generate", "viewer", content=b" " * 101).status_code == 403


def test_too_much_at_once_is_503_and_says_when_to_come_back(serving):
    service = serving(limits=Limits(in_flight=2))
    app = service.client.app
    entered, leave = threading.Semaphore(0), threading.Event()

    @app.get("/slow")
    async def slow():
        entered.release()
        await asyncio.to_thread(leave.wait, 20)
        return {}

    app.router.routes.insert(0, app.router.routes.pop())  # before the page, which answers everything else
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(service.client.get("/slow").status_code)) for _ in "ab"
    ]
    try:
        for each in threads:
            each.start()
        for _ in threads:
            assert entered.acquire(timeout=60)
        refused = service.client.get("/bundles")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert service.client.get("/health").status_code == 200
    finally:
        leave.set()
        for each in threads:
            each.join()
    assert found == [200, 200]
    assert service.client.get("/bundles").status_code == 200


def test_every_answer_has_a_strict_policy(serving):
    client = serving().client
    for answer in (
        client.get("/health"),
        client.get("/nothing-here"),
        client.post("/generate", content=b"{"),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_fault_of_ours_is_500_without_its_text(serving, caplog):
    service = serving()
    app = service.client.app

    @app.get("/fault")
    async def fault():
        raise RuntimeError("subject 987654321012 has a secret")

    app.router.routes.insert(0, app.router.routes.pop())
    answer = service.client.get("/fault")
    assert answer.status_code == 500
    assert "987654321012" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text
    assert service.client.get("/health").status_code == 200


def test_the_log_names_routes_and_no_subjects(serving, tiny_run, caplog):
    service = serving((tiny_run,), roles=("admin",))
    with caplog.at_level("INFO"):
        service.ask("GET", "/subjects/987654321012/timeline", "admin")
        service.ask("POST", "/explain", "admin", json={"subject_id": 987654321012})
    assert "/subjects/{subject_id}/timeline" in caplog.text
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("caretrace"))
    assert "987654321012" not in ours
    assert service.tokens["admin"] not in caplog.text
    assert "987654321012" not in service.client.get("/metrics").text
