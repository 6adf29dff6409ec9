"""Whatever is sent that the OpenAPI document allows, and much that it does not, is never answered 5xx."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode

from caretrace.serve.security.roles import ROLES
from caretrace.serve.settings import Limits

EXAMPLES = 8
# Endless by nature; tried by tests of its own.
NOT_TRIED = {"/stream"}


def tried(service, mode):
    """Send what a generator makes of every operation; returns what was answered 5xx."""
    schema = schemathesis.openapi.from_dict(service.client.get("/openapi.json").json())
    schema.config.update(base_url="http://testserver")
    faults, asked = [], set()
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path in NOT_TRIED:
            continue

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case):
            made = case.as_transport_kwargs()
            sent = {name: made.get(name) for name in ("params", "json") if made.get(name) is not None}
            if made.get("data") is not None:
                sent["content"] = made["data"]
            headers = dict(made.get("headers") or {}) | {"Authorization": f"Bearer {service.tokens['admin']}"}
            answer = service.client.request(made["method"], made["url"], headers=headers, **sent)
            asked.add((case.method, case.path))
            if answer.status_code >= 500:
                faults.append((case.method, case.path, answer.status_code, answer.text[:200], case.body))

        send()
    return faults, asked


def test_no_operation_ever_answers_5xx(serving, tiny_run):
    service = serving((tiny_run,), roles=ROLES, limits=Limits(requests_per_second=1e6, burst=10**6))
    faults, asked = tried(service, GenerationMode.POSITIVE)
    assert faults == []
    assert len(asked) > 15
    faults, _ = tried(service, GenerationMode.NEGATIVE)
    assert faults == []
    assert service.ask("GET", "/audit", "admin").json()["intact"]
