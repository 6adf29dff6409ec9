import datetime as dt

import pyarrow as pa
import pytest

from caretrace.errors import ConfigError
from caretrace.ingest.engines import running
from caretrace.ingest.expressions import Formula, Template, number

ROW = {
    "a": ["3", "x", None],
    "n": [2.5, None, 120000.0],
    "t": [dt.datetime(2020, 2, 29, 10, 30), None, dt.datetime(2021, 1, 1)],  # noqa: DTZ001
}


@pytest.fixture
def evaluate(tmp_path):
    with running("duckdb", tmp_path) as engine:
        rows = engine.create("rows", pa.table(ROW))

        def run(value, **more):
            names = {name: rows[name] for name in ROW}
            return engine.fetch(rows.select(value=value.compile(names, **more)))["value"].to_pylist()

        yield run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("number(a)", [3.0, None, None]),
        ("first(number(a), n)", [3.0, None, 120000.0]),
        ("n * 2 + 1", [6.0, None, 240001.0]),
        ("cases(a, '3', 'three', 'x', 'ex')", ["three", "ex", None]),
        ("cases(a, '3', 'three', 'other')", ["three", "other", "other"]),
        ("a in ['x', 'y']", [False, True, None]),
        ("not is_missing(a) and n > 1", [True, None, False]),
        ("end_of_day(t)", [dt.datetime(2020, 2, 29, 23, 59, 59), None, dt.datetime(2021, 1, 1, 23, 59, 59)]),  # noqa: DTZ001
        ("t + days(n)", [dt.datetime(2020, 3, 2, 22, 30), None, dt.datetime(2349, 7, 21)]),  # noqa: DTZ001
        ("short(n)", ["2.5", None, "120000"]),
        ("missing_if(a, 'x')", ["3", None, None]),
        ("extract(a, '([0-9])')", ["3", None, None]),
        ("part(a + ', y.z,,w', ',', 2)", ["y.z", "y.z", None]),
        ("part(a + ',b,,c', ',', 3)", [None, None, None]),
        ("part(a, ',', 2)", [None, None, None]),
        ("replace(a, 'x', '')", ["3", "", None]),
        ("-n", [-2.5, None, -120000.0]),
        ("minutes_between(t, t + hours(2))", [120.0, None, 120.0]),
    ],
)
def test_formulas(evaluate, text, expected):
    assert evaluate(Formula.parse(text, "here")) == expected


@pytest.mark.parametrize("text", ["NaN", "inf", "1e999", "1e39", "12,5", "0x10", "1_000", "--1", "", "٣"])
def test_what_is_not_a_number(tmp_path, text):
    with running("duckdb", tmp_path) as engine:
        rows = engine.create("texts", pa.table({"x": [text]}))
        assert engine.fetch(rows.select(v=number(rows.x)))["v"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20080229", dt.datetime(2008, 2, 29)),  # noqa: DTZ001
        (" 19430101 ", dt.datetime(1943, 1, 1)),  # noqa: DTZ001
        ("20090229", None),
        ("20081301", None),
        ("00010101", None),
        ("99990101", None),
        ("2008-02-29", None),
        ("200802290", None),
        ("2008022", None),
        ("٢٠٠٨٠٢٢٩", None),
        (None, None),
    ],
)
def test_a_day_without_dashes(tmp_path, text, expected):
    with running("duckdb", tmp_path) as engine:
        rows = engine.create("texts", pa.table({"x": pa.array([text], pa.string())}))
        value = Formula.parse("day(x)", "here").compile({"x": rows.x})
        assert engine.fetch(rows.select(v=value))["v"].to_pylist() == [expected]


def test_templates(evaluate):
    assert evaluate(Template.parse("LAB//{a}//{n}", "here"), empty="UNK") == [
        "LAB//3//2.5", "LAB//x//UNK", "LAB//UNK//120000",
    ]  # fmt: skip
    assert evaluate(Template.parse("{a}[: {short(n)} mg][ ({cases(a, '3', 'c')})]", "here")) == [
        "3: 2.5 mg (c)", "x", None,
    ]  # fmt: skip
    assert evaluate(Template.parse("{if_else(a in ['3'], 'yes', 'no')}", "here"))[:2] == ["yes", "no"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frist(a)", "did you mean 'first'"),
        ("a ==", "not a formula"),
        ("__import__('os')", "unknown function '__import__'"),
        ("[x for x in a]", "not allowed"),
        ("lambda: 1", "not allowed"),
        ("a ** 2", "not allowed"),
        ("1 < n < 3", "not allowed"),
        ("min(a)", "unknown function 'min'"),
    ],
)
def test_formulas_that_are_refused(text, message):
    with pytest.raises(ConfigError, match="here") as caught:
        Formula.parse(text, "here")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["{a", "a}", "[a", "a]", "[a[b]]"])
def test_templates_that_are_refused(text):
    with pytest.raises(ConfigError, match="without its partner"):
        Template.parse(text, "here")
