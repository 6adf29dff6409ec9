"""`caretrace serve` and `caretrace token` as a person meets them; what they serve is tested in tests/serve."""

import json
import sys

import pytest

from caretrace.cli.serve import _settings
from caretrace.errors import BundleError, ConfigError
from caretrace.serve.security.tokens import Tokens, digest

ASKED = {
    "store": None, "host": "127.0.0.1", "port": 8000, "token_file": None, "tls_certificate": None, "tls_key": None,
    "mqtt": None,
}  # fmt: skip


def settings(runs, state=None, limits=(), keep=(), **more):
    return _settings(list(runs), state, list(limits), list(keep), ASKED | more)


def test_runs_are_served_with_a_state_beside_the_first(tmp_path):
    found = settings([tmp_path / "a", tmp_path / "b"], limits=["burst=5"], keep=["samples_days=null"])
    assert found.runs == (tmp_path / "a", tmp_path / "b")
    assert found.state == tmp_path / "a" / "serve"
    assert found.store_url == f"sqlite:///{tmp_path / 'a' / 'serve' / 'ward.db'}"
    assert (found.limits.burst, found.retention.samples_days, found.demo) == (5, None, None)


def test_a_demo_names_its_own_runs(tmp_path):
    stated = {"runs": {"mortality": "runs/mortality", "vitals": "runs/vitals"}, "replay": None}
    (tmp_path / "demo.json").write_text(json.dumps(stated))
    found = settings([tmp_path])
    assert found.runs == (tmp_path / "runs/mortality", tmp_path / "runs/vitals")
    assert (found.demo, found.state) == (tmp_path, tmp_path / "serve")
    with pytest.raises(ConfigError, match="give it alone"):
        settings([tmp_path, tmp_path / "other"])
    (tmp_path / "demo.json").write_text("[]")
    with pytest.raises(BundleError, match="is damaged"):
        settings([tmp_path])


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"limits": ["bursts=5"]}, "did you mean 'burst'"), ({"keep": ["samples=5"]}, "unknown setting"),
        ({"tls_key": "k"}, "go together"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said(tmp_path, more, told):
    with pytest.raises(ConfigError, match=told):
        settings([tmp_path], **more)


def test_what_cannot_be_served_is_said(caretrace, tmp_path):
    answer = caretrace("serve", tmp_path, "--port", "0")
    assert answer.code == 1
    assert "run.json is missing" in answer.err
    answer = caretrace("serve", tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert answer.code == 1
    assert "caretrace token add" in answer.err
    assert "Traceback" not in answer.err


def test_a_state_that_cannot_be_made_is_said(caretrace, tmp_path):
    (tmp_path / "file").write_text("")
    answer = caretrace("serve", tmp_path, "--port", "0", "--state", tmp_path / "file" / "state")
    assert answer.code == 1
    assert "--state" in answer.err


def test_a_missing_extra_is_named(caretrace, tmp_path, monkeypatch):
    # Imported anew without FastAPI; afterwards the package is again the one that everybody else has imported.
    monkeypatch.setattr("caretrace.serve", sys.modules["caretrace.serve"])
    for name in [name for name in sys.modules if name.startswith("caretrace.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for arguments in (("serve", tmp_path), ("token", "list", "--file", tmp_path / "t.json")):
        answer = caretrace(*arguments)
        assert answer.code == 1
        assert "pip install 'caretrace[serve]'" in answer.err


def test_tokens_are_made_shown_and_ended(caretrace, tmp_path):
    file = tmp_path / "state" / "tokens.json"
    made = caretrace(
        "token", "add", "desk", "--role", "clinician", "--ward", "A", "--file", file, "--json"
    ).json
    assert (made["name"], made["role"]) == ("desk", "clinician")
    token = Tokens(file).find(digest(made["token"]))
    assert (token.name, token.wards, token.revoked) == ("desk", ("A",), None)
    listed = caretrace("token", "list", "--file", file)
    assert "desk" in listed.out
    assert made["token"] not in listed.out
    assert caretrace("token", "revoke", "desk", "--file", file, "--json").json == {"revoked": 1}
    assert caretrace("token", "list", "--file", file, "--json").json["tokens"][0]["revoked"]
    again = caretrace("token", "revoke", "desks", "--file", file)
    assert (again.code, "did you mean 'desk'" in again.err) == (1, True)
    assert caretrace("token", "add", "--file", file).code == 2
