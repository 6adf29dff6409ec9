"""Settings: what is filled, and what each mistake is told."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretrace.config import from_dict, load, read_yaml, to_dict
from caretrace.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    rounds: int = 3


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str = "x"
    on: bool = False
    mode: Literal["fast", "slow"] = "fast"
    sizes: tuple[int, ...] = (1, 2)
    path: Path | None = None
    anything: Any = None
    inner: Inner = dataclasses.field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("name cannot be bad")


def test_nothing_given_is_the_default():
    assert load(Outer) == Outer()
    assert from_dict(Outer, {}) == Outer()


def test_the_last_one_wins(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("name: from the file\ninner: {rate: 0.5, rounds: 7}\n")
    assert load(Outer, file) == Outer(name="from the file", inner=Inner(0.5, 7))
    found = load(Outer, file, ["inner.rate=0.25", "name=first", "name=second", "on=true"])
    assert found == Outer(name="second", on=True, inner=Inner(0.25, 7))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("inner.rate=1", Outer(inner=Inner(rate=1.0))),
        ("inner.rate=1e-3", Outer(inner=Inner(rate=0.001))),  # text to YAML 1.1
        ("sizes=[4, 5, 6]", Outer(sizes=(4, 5, 6))),
        ("sizes=[]", Outer(sizes=())),
        ("mode=slow", Outer(mode="slow")),
        ("path=some/where", Outer(path=Path("some/where"))),
        ("path=", Outer(path=None)),
        ("path=null", Outer(path=None)),
        ("name='1'", Outer(name="1")),
        ("name=a=b", Outer(name="a=b")),
        ("anything={a: [1]}", Outer(anything={"a": [1]})),
    ],
)
def test_settings_on_the_command_line(setting, expected):
    assert load(Outer, None, [setting]) == expected


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("nmae=x", "unknown setting 'nmae': did you mean 'name'"),
        ("inner.rat=1", r"unknown setting 'inner\.rat': did you mean 'inner\.rate'.*inner\.rounds"),
        ("inner.rate=fast", "inner.rate: expected a value of kind float, got 'fast'"),
        ("inner.rate=true", "inner.rate: expected a value of kind float, got True"),
        ("inner.rounds=2.5", "inner.rounds: expected a value of kind int, got 2.5"),
        ("inner.rounds=true", "inner.rounds: expected a value of kind int, got True"),
        ("inner.rounds=", "inner.rounds: expected a value of kind int, got None"),
        ("name=1", "name: expected a value of kind str, got 1"),
        ("on=1", "on: expected a value of kind bool, got 1"),
        ("on=yes please", "on: expected a value of kind bool, got 'yes please'"),
        ("mode=fsat", "unknown value for mode 'fsat': did you mean 'fast'"),
        ("sizes=3", r"sizes: expected a list such as \[1, 2\], got 3"),
        ("sizes=[1, x]", "sizes: expected a value of kind int, got 'x'"),
        ("inner=3", "inner: expected settings inside it, got 3"),
        ("name.first=3", "unknown setting|name: expected a value of kind str"),
        ("name", "--set 'name': write it as key=value, for example"),
        ("=3", "--set '=3': write it as key=value"),
        ("sizes=[1", r"--set 'sizes=\[1': .*YAML"),
        ("name=@x", r"--set 'name=@x': .*YAML"),
        ("name=bad", "name cannot be bad"),
        ("name=2020-13-45", "--set 'name=2020-13-45': .*YAML.*try quotes"),
    ],
)
def test_mistakes_on_the_command_line(setting, told):
    with pytest.raises(ConfigError, match=told):
        load(Outer, None, [setting])


def test_a_single_value_has_nothing_inside(tmp_path):
    (tmp_path / "settings.yaml").write_text("inner: 3\n")
    with pytest.raises(ConfigError, match="'inner' is a single value, it has no settings inside"):
        load(Outer, tmp_path / "settings.yaml", ["inner.rate=1"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"- a\n- b\n", "expected `key: value` lines, got a list"),
        (b"just text\n", "expected `key: value` lines, got a str"),
        (b"a: [1\n", "not readable as YAML"),
        (b"\xff\xfea\x00", "not readable as YAML"),
        (b"a: b: c\n", "not readable as YAML"),
        (b"!!python/object/apply:os.getcwd []\n", "not readable as YAML"),
        (b"name: 2020-13-45\n", "not readable as YAML"),
        (b"nmae: x\n", "unknown setting 'nmae': did you mean 'name'"),
        (b"1: x\n", "unknown setting '1'"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, content, told):
    (tmp_path / "settings.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        load(Outer, tmp_path / "settings.yaml")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file; check the path"):
        read_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match=r"not readable as YAML: .*directory"):
        read_yaml(tmp_path)


def test_an_empty_file_is_no_settings(tmp_path):
    (tmp_path / "settings.yaml").write_text("# nothing yet\n")
    assert load(Outer, tmp_path / "settings.yaml") == Outer()


outers = st.builds(
    Outer,
    name=st.text().filter(lambda name: name != "bad"),
    on=st.booleans(),
    mode=st.sampled_from(["fast", "slow"]),
    sizes=st.lists(st.integers()).map(tuple),
    path=st.none() | st.just(Path("a/b")),
    inner=st.builds(Inner, rate=st.floats(allow_nan=False, allow_infinity=False), rounds=st.integers()),
)


@given(outers)
def test_there_and_back_through_json(config):
    assert from_dict(Outer, json.loads(json.dumps(to_dict(config)))) == config
