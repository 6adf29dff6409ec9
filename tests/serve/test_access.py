"""Who may do what: every role at every route, and everybody whom no route lets in."""

import time

import pytest
from fastapi.routing import APIRoute

from caretrace.errors import ConfigError
from caretrace.serve.app import create_app
from caretrace.serve.clock import Clock
from caretrace.serve.security import audit as audit_module
from caretrace.serve.security.roles import MATRIX, ROLES
from caretrace.serve.security.tokens import LOOK_SECONDS, Tokens
from caretrace.serve.settings import ServeSettings

# Route → action, or None where nobody is asked who they are. A route that is not here fails a test below.
ROUTES = {
    ("GET", "/health"): None,
    ("GET", "/ready"): None,
    ("GET", "/metrics"): None,
    ("GET", "/docs"): None,
    ("POST", "/session"): None,
    ("DELETE", "/session"): None,
    ("GET", "/me"): "anybody",
    ("GET", "/bundles"): "read",
    ("GET", "/bundles/{name}/card"): "read",
    ("POST", "/predict/{name}"): "predict",
    ("POST", "/explain"): "explain",
    ("POST", "/generate"): "generate",
    ("GET", "/cohort"): "read",
    ("GET", "/jobs/{number}"): "generate",
    ("GET", "/jobs/{number}/result"): "generate",
    ("GET", "/board"): "read",
    ("GET", "/subjects"): "subjects",
    ("GET", "/subjects/{subject_id}/timeline"): "subjects",
    ("GET", "/audit"): "audit",
    ("POST", "/vitals"): "vitals",
    ("GET", "/wards"): "read",
    ("GET", "/ward"): "read",
    ("GET", "/beds/{subject_id}"): "read",
    ("PUT", "/beds/{subject_id}"): "place",
    ("GET", "/alarms"): "read",
    ("GET", "/alarms/{alarm_id}"): "read",
    ("GET", "/alarms/{alarm_id}/history"): "read",
    ("POST", "/alarms/{alarm_id}/acknowledge"): "acknowledge",
    ("POST", "/alarms/{alarm_id}/snooze"): "snooze",
    ("GET", "/stream"): "read",
}
FILLED = {"{name}": "mortality", "{number}": "0" * 16, "{subject_id}": "1", "{alarm_id}": "1"}
ENDLESS = {("GET", "/stream")}


def filled(path):
    for name, value in FILLED.items():
        path = path.replace(name, value)
    return path


def api_routes(router):
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):  # FastAPI keeps included routers whole
            yield from api_routes(route.original_router)


def routes(app):
    return {(method, route.path) for route in api_routes(app) for method in route.methods - {"HEAD"}}


@pytest.fixture
def everybody(serving):
    return serving(roles=ROLES)


def test_every_route_is_in_the_table(everybody):
    assert routes(everybody.client.app) - set(ROUTES) == set()


def test_every_role_at_every_route(everybody):
    """401 without a token everywhere; with one, 403 exactly where the matrix says so."""
    there = routes(everybody.client.app)
    asked = [(route, action) for route, action in ROUTES.items() if action and route in there]
    assert len(asked) > 10
    for (method, path), action in asked:
        body = {} if method in ("POST", "PUT") else None
        assert everybody.ask(method, filled(path), json=body).status_code == 401, (method, path)
        for role in ROLES:
            allowed = action == "anybody" or role in MATRIX[action]
            if allowed and (method, path) in ENDLESS:
                continue
            status = everybody.ask(method, filled(path), role, json=body).status_code
            assert status != 401, (method, path, role)
            assert (status != 403) == allowed, (method, path, role, status)
            assert status < 500 or status == 503, (method, path, role, status)
    denied = [each for each in everybody.audit() if each["outcome"] == "denied"]
    assert {each["who"] for each in denied} >= {"testclient", "viewer", "clinician"}


def test_viewers_read_and_only_admins_see_the_audit():
    """The matrix itself, written a second time so that a slip in it is seen."""
    of = {role: {action for action, roles in MATRIX.items() if role in roles} for role in ROLES}
    assert of["viewer"] == {"read"}
    assert of["admin"] - of["clinician"] == {"audit"}
    assert of["clinician"] > of["viewer"]


@pytest.mark.parametrize(
    "header",
    [
        "Bearer caretrace_wrong", "Bearer ", "Basic dXNlcjpwYXNz", "caretrace_x", "Bearer \xff", "Bearer " + "x" * 5000,
    ],
)  # fmt: skip
def test_a_bad_token_is_401_and_in_the_audit(everybody, header):
    answer = everybody.client.get("/bundles", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    last = everybody.audit()[-1]
    assert (last["outcome"], last["what"]) == ("denied", "enter GET /bundles")
    assert "caretrace_" not in str(everybody.audit())


def changed(service):
    """The tokens as another process changes them."""
    return Tokens(service.state / "tokens.json")


def test_an_expired_token_is_401(serving):
    service = serving(roles=("viewer",))
    wall = [time.time()]
    service.client.app.state.gate.clock = Clock(lambda: wall[0], lambda: 0.0)
    assert service.ask("GET", "/bundles", "viewer").status_code == 200
    wall[0] += 91 * 86_400
    assert service.ask("GET", "/bundles", "viewer").status_code == 401
    wall[0] -= 91 * 86_400
    assert service.ask("GET", "/bundles", "viewer").status_code == 401  # the clock was set back


def test_a_revoked_token_is_401_at_once_and_so_is_its_session(serving):
    service = serving(roles=("viewer", "admin"))
    assert service.client.post("/session", json={"token": service.tokens["viewer"]}).status_code == 200
    assert service.client.get("/me").json()["who"] == "viewer"
    changed(service).revoke("viewer")
    time.sleep(2 * LOOK_SECONDS)
    assert service.ask("GET", "/bundles", "viewer").status_code == 401
    assert service.client.get("/me").status_code == 401


def test_a_session_cookie_is_kept_from_scripts_and_replaying_it_after_the_end_is_401(serving):
    service = serving(roles=("clinician",))
    begun = service.client.post("/session", json={"token": service.tokens["clinician"]})
    cookie = begun.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    kept = service.client.cookies["caretrace_session"]
    assert service.client.get("/me").json() == {
        "who": "clinician", "role": "clinician", "wards": None, "open": False, "research_use_only": True,
    }  # fmt: skip
    assert service.client.delete("/session").status_code == 204
    service.client.cookies.set("caretrace_session", kept)
    assert service.client.get("/me").status_code == 401


@pytest.mark.parametrize(("origin", "secure"), [("https://testserver", True), ("http://testserver", False)])
def test_a_cookie_that_came_over_tls_stays_on_tls(serving, origin, secure):
    service = serving(roles=("viewer",))
    begun = service.client.post(
        "/session", json={"token": service.tokens["viewer"]}, headers={"origin": origin}
    )
    assert begun.status_code == 200
    assert ("secure" in begun.headers["set-cookie"].lower()) == secure


def test_no_session_without_a_valid_token(everybody):
    answer = everybody.client.post("/session", json={"token": "caretrace_guess"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert everybody.audit()[-1]["outcome"] == "denied"


def test_without_tokens_this_machine_may_do_everything_until_there_is_one(serving):
    service = serving()
    me = service.client.get("/me").json()
    assert (me["who"], me["role"], me["open"]) == ("local", "admin", True)
    changed(service).add("first", "viewer")
    time.sleep(2 * LOOK_SECONDS)
    assert service.client.get("/me").status_code == 401
    changed(service).revoke("first")
    time.sleep(2 * LOOK_SECONDS)
    assert service.client.get("/me").status_code == 401  # revoking the last one opens nothing


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"}, {"host": "evil.example:8000"}, {"host": ""}, {"x-forwarded-for": "203.0.113.5"},
        {"forwarded": "for=203.0.113.5"}, {"host": "127.0.0.1.evil.example"}, {"host": "[bad"},
    ],
)  # fmt: skip
def test_without_tokens_nobody_comes_by_another_name_or_through_a_proxy(serving, headers):
    """DNS rebinding: a page elsewhere lets its own name point at this machine."""
    assert serving().client.get("/me", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_others_are_let_in_only_with_a_valid_token(tmp_path, host):
    with pytest.raises(ConfigError, match="no token is valid"):
        create_app(ServeSettings((), tmp_path, host=host))
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.add("a", "viewer")
    create_app(ServeSettings((), tmp_path, host=host))
    tokens.revoke("a")
    with pytest.raises(ConfigError, match="no token is valid"):
        create_app(ServeSettings((), tmp_path, host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_this_machine_alone_needs_no_token(tmp_path, host):
    create_app(ServeSettings((), tmp_path, host=host))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"}, {"origin": "http://testserver.evil.example"}, {"origin": "http://[bad"},
        {"origin": "http://testserver:81"},
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/generate"), ("DELETE", "/session"), ("PUT", "/beds/1")]
)
def test_a_change_from_another_site_is_403(everybody, headers, method, path):
    assert everybody.ask(method, path, "admin", headers=headers).status_code == 403


def test_a_change_from_our_own_page_is_let_through(everybody):
    headers = {"origin": "http://testserver", "sec-fetch-site": "same-origin"}
    assert everybody.ask("DELETE", "/session", "admin", headers=headers).status_code == 204


class Ward:
    """Stands for the live ward: subject 1 lies in A, 2 in B."""

    def ward_of(self, subject_id):
        return {1: "A", 2: "B"}.get(subject_id)

    def ready(self):
        return []

    async def start(self):
        pass

    async def stop(self):
        pass


def test_another_wards_patient_is_404_as_if_there_were_none_and_in_the_audit(serving, tiny_run):
    service = serving((tiny_run,), roles=("clinician", "admin"), wards={"clinician": ["A"]}, hub=Ward())
    unknown = service.ask("GET", "/subjects/999999/timeline", "clinician")
    for subject in (2, 3):
        answer = service.ask("GET", f"/subjects/{subject}/timeline", "clinician")
        assert answer.status_code == 404
        assert answer.json() == unknown.json()
        last = service.audit()[-1]
        assert (last["who"], last["subject_id"], last["outcome"]) == ("clinician", subject, "denied")
        explained = service.ask("POST", "/explain", "clinician", json={"subject_id": subject})
        assert explained.status_code == 404
        assert service.audit()[-1]["what"] == "explain mortality"
    assert service.ask("GET", "/subjects/1/timeline", "clinician").status_code == 200
    assert service.ask("GET", "/subjects/2/timeline", "admin").status_code == 200
    listed = service.ask("GET", "/subjects?limit=200", "clinician").json()
    assert {each["subject_id"] for each in listed} <= {1}


def test_without_an_audit_nothing_about_patients_is_shown(serving, tiny_run, monkeypatch):
    service = serving((tiny_run,), roles=ROLES)
    real = audit_module.os.fsync

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit_module.os, "fsync", full)
    asked = {
        ("GET", "/subjects"): None,
        ("GET", "/subjects/1/timeline"): None,
        ("POST", "/explain"): {"subject_id": 1},
        ("POST", "/predict/mortality"): {
            "events": [{"subject_id": 1, "time": "2020-01-01T00:00:00Z", "code": "LAB//lactate"}],
            "prediction_time": "2020-01-02T00:00:00Z",
        },
    }
    for (method, path), body in asked.items():
        answer = service.ask(method, path, "admin", json=body)
        assert answer.status_code == 503, path
        assert "alarms go on" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0
    assert service.ask("GET", "/bundles", "admin").status_code == 200
    assert service.ask("GET", "/subjects", "viewer").status_code == 403  # still denied, not shown
    ready = service.client.get("/ready")
    assert ready.status_code == 503
    assert "audit" in ready.json()["why"][-1]
    monkeypatch.setattr(audit_module.os, "fsync", real)
    assert service.ask("GET", "/subjects", "admin").status_code == 200
    assert service.client.get("/ready").json()["ready"]
    assert service.audit()[0]["outcome"] == "denied"  # what was owed came first
    assert service.ask("GET", "/audit", "admin").json()["intact"]


def test_without_an_audit_alarms_go_on(serving, monkeypatch):
    service = serving(roles=ROLES)
    now = time.time()
    sample = {"batch_id": "b1", "subject_id": [7], "time": [now], "channel": ["hr"], "value": [80.0]}
    assert service.ask("PUT", "/beds/7", "admin", json={"bed": "1", "ward": "A"}).status_code == 200
    assert service.ask("GET", "/beds/7", "admin").status_code == 200

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit_module.os, "fsync", full)
    assert service.ask("POST", "/vitals", "admin", json=sample).status_code == 200
    assert service.ask("GET", "/beds/7", "admin").status_code == 503
    assert service.ask("GET", "/ward?ward=A", "viewer").status_code == 200
    assert service.ask("GET", "/alarms", "viewer").status_code == 200
    assert service.ask("PUT", "/beds/7", "admin", json={"bed": "2", "ward": "A"}).status_code == 200
    monkeypatch.undo()
    assert service.ask("GET", "/beds/7", "admin").json()["bed"] == "2"
    assert service.ask("GET", "/audit", "admin").json()["intact"]
    assert any(each["subject_id"] == 7 and "bed" in each["what"] for each in service.audit())
