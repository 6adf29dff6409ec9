"""The service as its contract describes it, with canned answers: what the page's tests run against."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import caretrace.serve

from . import canned

PAGE = Path(caretrace.serve.__file__).parent / "page"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# As strict as the service's own: a page that needs more shows it here.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class Stub(ThreadingHTTPServer):
    """A service of canned answers on a port of its own; `silent` makes it fall dumb."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.begun = time.monotonic()
        self.silent = False
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.seen: dict[int, dict[str, Any]] = {}
        self.jobs: list[dict[str, Any]] = []
        self.role = "admin"
        self.token: str | None = None  # whoever comes without it is sent away
        self.inside = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def now(self) -> float:
        return time.monotonic() - self.begun

    def ward(self) -> dict[str, Any]:
        told = canned.ward(self.now())
        for bed in told["beds"]:
            seen = self.seen.get(500 + bed["subject_id"] - 1000)
            if seen:
                bed["state"], bed["alarms"] = "acknowledged", [seen]
        return told

    def answer(self, path: str, query: dict[str, list[str]]) -> Any:
        """What a GET of a path says; None where there is nothing."""
        head, *rest = path.strip("/").split("/")
        if head == "beds":
            place = int(rest[0]) - 1000
            return canned.strips(place, self.now(), self.seen.get(500 + place))
        if head == "alarms" and rest[1:] == ["history"]:
            changes = [{"time": canned.at(-600), "state": "active", "who": None, "why": None}]
            return {"history": changes}
        if head == "alarms" and rest:
            place = int(rest[0]) - 500
            made = {
                "bundle": "vitals@1",
                "policy": {"raise_at": 4.2},
                "steps": 2,
                "reproduced": True,
                "score": 6.4,
            }
            samples = [{"time": canned.at(-60 * step), "hr": 118} for step in (2, 1)]
            return {
                **canned.alarm(place, canned.STATES[place]),
                "reproduction": {**made, "samples": samples},
            }
        if head == "subjects":
            return canned.timeline() if rest else canned.subjects()
        if head == "bundles":
            return canned.CARD if rest else canned.BUNDLES
        if head == "jobs":
            return next(job for job in self.jobs if job["id"] == rest[0])
        after = int(query.get("after", ["0"])[0])
        return {
            "me": lambda: {
                "who": "nurse" if self.token else "local",
                "role": self.role,
                "wards": None,
                "research_use_only": True,
            },
            "wards": lambda: [{"ward": "A", "beds": 50}],
            "ward": self.ward,
            "board": canned.board,
            "cohort": lambda: canned.cohort(self.jobs),
            "audit": lambda: canned.audit([]) if after == 0 else {"entries": [], "intact": True},
        }.get(head, lambda: None)()

    def change(self, path: str, body: dict[str, Any]) -> Any:
        self.posted.append((path, body))
        head, *rest = path.strip("/").split("/")
        if head == "alarms" and rest[1] == "acknowledge":
            number = int(rest[0])
            seen = {
                **canned.alarm(number - 500, "acknowledged"),
                "why": body["why"],
                "changed": canned.at(self.now()),
            }
            self.seen[number] = seen
            return seen
        if head == "generate":
            job = {
                "id": "j1",
                "state": "done",
                "progress": 1.0,
                "what": f"{body['n']} people as {body['format']}",
                "result": None,
            }
            self.jobs.append(job)
            return {"job": "j1"}
        return {}


class Handler(BaseHTTPRequestHandler):
    server: Stub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/stream":
            self.stream()
            return
        file = PAGE / (parts.path.lstrip("/") or "index.html")
        if file.is_file() and PAGE in file.parents:
            self.send(200, file.read_bytes(), TYPES.get(file.suffix, "text/plain"))
            return
        if self.server.token and not self.server.inside:
            self.told(401, {"detail": "sign in with a token"})
            return
        answer = self.server.answer(parts.path, parse_qs(parts.query))
        self.told(404 if answer is None else 200, answer or {"detail": "nothing here"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        if self.path == "/session":
            self.server.inside = body["token"] == self.server.token
            good = self.server.inside
            self.told(200 if good else 401, {} if good else {"detail": "this token is not known"})
            return
        self.told(200, self.server.change(urlsplit(self.path).path, body))

    def do_DELETE(self) -> None:
        self.server.inside = False
        self.told(200, {})

    def told(self, status: int, value: Any) -> None:
        self.send(status, json.dumps(value).encode(), "application/json")

    def send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        number = 0
        try:
            while not self.server.silent:
                now = self.server.now()
                beds = {
                    str(1000 + place): {
                        name: canned.level(name, usual, place, now) for name, _, _, usual in canned.CHANNELS
                    }
                    for place in range(50)
                    if place not in canned.STATES
                }
                number += 1
                event = {"time": canned.at(now), "beds": beds}
                self.wfile.write(f"id: {number}\nevent: samples\ndata: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()
                time.sleep(0.5)
        except OSError:
            pass
        self.close_connection = True


def started() -> Stub:
    """A stub that answers already."""
    stub = Stub()
    threading.Thread(target=stub.serve_forever, daemon=True).start()
    return stub
