"""Tokens are hashed, scoped, end, and can be ended; sessions stand for them and can be ended, too."""

import json
import stat
import threading

import pytest

from caretrace.errors import ConfigError
from caretrace.serve.clock import Clock
from caretrace.serve.security import sessions as sessions_module
from caretrace.serve.security.sessions import Sessions
from caretrace.serve.security.tokens import Tokens, digest


@pytest.fixture
def tokens(tmp_path):
    return Tokens(tmp_path / "state" / "tokens.json")


def test_only_the_hash_is_kept_and_only_the_owner_may_read_it(tokens):
    secret = tokens.add("desk", "clinician", wards=["B", "A"], days=1)
    assert secret.startswith("caretrace_")
    assert len(secret) > 40
    assert secret not in tokens.path.read_text()
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    token = tokens.find(digest(secret))
    assert (token.name, token.role, token.wards) == ("desk", "clinician", ("A", "B"))
    assert "digest" not in token.describe()


def test_a_token_ends_and_can_be_ended(tokens):
    first, second = tokens.add("a", "viewer", days=1), tokens.add("b", "viewer", days=1)
    token = tokens.find(digest(first))
    assert token.why_not(token.created) is None
    assert token.why_not(token.expires) == "expired"
    assert tokens.revoke("a") == 1
    assert tokens.find(digest(first)).why_not(token.created) == "revoked"
    assert tokens.find(digest(second)).why_not(token.created) is None


def test_another_process_ends_a_token_of_this_one(tokens):
    secret = tokens.add("a", "viewer")
    assert tokens.find(digest(secret)).revoked is None
    Tokens(tokens.path).revoke("a")
    assert tokens.find(digest(secret)).revoked is not None


@pytest.mark.parametrize(
    ("name", "role", "days", "why"),
    [
        ("a\nb", "viewer", 1, "token name"),
        ("", "viewer", 1, "token name"),
        ("a", "boss", 1, "unknown role 'boss'"),
        ("a", "viewer", 0, "--days 0"),
        ("a", "viewer", float("nan"), "--days nan"),
        ("a", "viewer", 1e9, "must end one day"),
    ],
)
def test_odd_tokens_are_refused(tokens, name, role, days, why):
    with pytest.raises(ConfigError, match=why):
        tokens.add(name, role, days=days)
    assert not tokens.all()


def test_a_name_is_used_once_until_its_token_has_ended(tokens):
    tokens.add("a", "viewer")
    with pytest.raises(ConfigError, match="revoke it first"):
        tokens.add("a", "admin")
    tokens.revoke("a")
    tokens.add("a", "admin")
    assert [token.role for token in tokens.all()] == ["viewer", "admin"]


def test_a_damaged_file_says_so(tokens):
    tokens.add("a", "viewer")
    tokens.path.write_text(tokens.path.read_text()[:-20])
    with pytest.raises(ConfigError, match="damaged"):
        tokens.all()


def test_several_may_add_at_once(tokens):
    threads = [threading.Thread(target=tokens.add, args=(f"t{n}", "viewer")) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {token.name for token in tokens.all()} == {f"t{n}" for n in range(8)}


def test_setting_the_clock_back_revives_nothing_and_keeps_nothing_alive(tokens):
    token = tokens.find(digest(tokens.add("a", "viewer", days=1)))
    wall, steady = [token.expires - 100], [0.0]
    clock = Clock(lambda: wall[0], lambda: steady[0])
    wall[0] = token.expires - 10
    assert token.why_not(clock()) is None
    wall[0], steady[0] = token.created, 5.0
    assert token.why_not(clock()) is None
    steady[0] = 11.0
    assert token.why_not(clock()) == "expired"
    wall[0] = token.expires + 1000
    assert clock() == token.expires + 1000
    wall[0] = token.created
    assert token.why_not(clock()) == "expired"


def test_a_session_stands_for_its_token_until_it_is_ended(tokens, tmp_path):
    token = tokens.find(digest(tokens.add("a", "viewer", days=90)))
    sessions = Sessions(tmp_path / "sessions")
    secret, expires = sessions.begin(token, token.created)
    assert expires - token.created == pytest.approx(sessions_module.HOURS * 3600)
    assert secret not in "".join(path.name + path.read_text() for path in (tmp_path / "sessions").iterdir())
    again = Sessions(tmp_path / "sessions")  # another process
    assert again.find(secret, token.created).token == token.digest
    assert again.find(secret, expires) is None
    sessions.end(secret)
    assert again.find(secret, token.created) is None
    for odd in ("", "../../etc/passwd", "x" * 43, secret + "\n"):
        assert sessions.find(odd, token.created) is None
        sessions.end(odd)


def test_a_session_never_outlives_its_token(tokens, tmp_path):
    token = tokens.find(digest(tokens.add("a", "viewer", days=0.01)))
    assert Sessions(tmp_path / "s").begin(token, token.created)[1] == token.expires


def test_a_damaged_session_is_none(tokens, tmp_path):
    token = tokens.find(digest(tokens.add("a", "viewer")))
    sessions = Sessions(tmp_path / "s")
    secret, _ = sessions.begin(token, token.created)
    next((tmp_path / "s").iterdir()).write_text(json.dumps({"expires": "soon"}))
    assert sessions.find(secret, token.created) is None
