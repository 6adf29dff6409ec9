import pytest
import yaml

from caretrace.errors import ConfigError
from caretrace.ingest.mapping_file import read_mapping

GOOD = """
source: tiny
title: Tiny
summary: a source for this test
url: nowhere
licence: none
version: "1"
subjects: people
tables:
  people:
    key: id
    columns: {id: subject!, sex: text}
    events:
      - {code: "GENDER//{sex}", time: null, event_type: demographic}
  tests:
    columns: {id: subject!, item: int!, at: time, value: number}
    joins: {items: item}
    events:
      - {code: "LAB//{item}", time: at, numeric_value: value, event_type: lab, description: "{items.label}"}
  items:
    key: item
    columns: {item: int!, label: text}
"""


def read(tmp_path, change):
    values = yaml.safe_load(GOOD)
    change(values)
    path = tmp_path / "events.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return read_mapping(path)


def test_a_mapping_reads(tmp_path):
    mapping = read(tmp_path, lambda values: None)
    assert list(mapping.tables) == ["people", "tests", "items"]
    assert mapping.tables["people"].subject == "id"
    assert mapping.tables["tests"].events[0].code.text == "LAB//{item}"
    assert mapping.tables["people"].events[0].time is None


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(values):
        for key in path:
            values = values[key]
        values[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("titel", "x"), "did you mean 'title'"),
        (put("tables", "people", "colums", {}), "did you mean 'columns'"),
        (put("tables", "people", "columns", "sex", "txet"), "did you mean 'text'"),
        (put("tables", "tests", "joins", {"itmes": "item"}), "did you mean 'items'"),
        (put("tables", "tests", "events", 0, "when", "vlaue > 1"), "did you mean 'value'"),
        (put("tables", "tests", "events", 0, "description", "{items.lable}"), "did you mean 'items.label'"),
        (put("tables", "tests", "events", 0, "event_type", "labs"), "did you mean 'lab'"),
        (put("tables", "tests", "events", 0, {"code": "X", "event_type": "lab"}), "'time' is missing"),
        (put("subjects", "poeple"), "did you mean 'people'"),
        (put("tables", "items", "key", ["item", "label"]), "must match its key"),
        (
            put("tables", "items", "events", [{"code": "X", "time": None, "event_type": "lab"}]),
            "no column of type subject",
        ),
        (put("splits", [{"when": "sex == 'F'", "train": 0.5}]), "do not add up"),
        (
            put("views", {"v": {"from": "tests", "by": "id", "columns": {"x": "mni(value)"}}}),
            "did you mean 'min'",
        ),
        (put("tables", "people", "columns", "a-b", "text"), "as: other_name"),
        (
            put("values", {"v": {"origin": "x", "columns": ["a", "b"], "rows": [[1]]}}),
            "1 values for 2 columns",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, change)
    assert message in str(caught.value)
    assert "events.yaml" in str(caught.value)
