"""Every engine keeps the same promises, and gives the same dataset row for row."""

import datetime as dt
import gzip
import hashlib
import os
import shutil
import subprocess
import sys

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caretrace import schema
from caretrace.errors import ConfigError, InputError
from caretrace.files import read_json
from caretrace.ingest import ingest, source_mapping, sources
from caretrace.ingest.checks import is_zoned, local_to_utc, plain_time, zoned_time
from caretrace.ingest.engines import ENGINES, RawFile, running
from caretrace.ingest.engines.base import FILE, POSITION, ROW
from caretrace.ingest.engines.dialect import java_regex
from caretrace.ingest.expressions import FUNCTIONS, Formula, Template
from caretrace.ingest.number_text import number_text, raw_number_text
from caretrace.ingest.reading import read_header, stamp

pytestmark = [
    # PySpark leaves the sockets that rows come through to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NO_JAVA = shutil.which("java") is None and "JAVA_HOME" not in os.environ
needs_java = pytest.mark.skipif(NO_JAVA, reason="Spark needs a Java 17 runtime")


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    """One session for the whole module, which every engine finds and shares; set up for tiny tables."""
    pytest.importorskip("pyspark")
    from pyspark.sql import SparkSession

    from caretrace.ingest.engines import spark_session

    settings = spark_session._settings(tmp_path_factory.mktemp("spark"), 2**31, 2) | {
        "spark.sql.shuffle.partitions": "1",
        "spark.default.parallelism": "1",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    }
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture(params=["duckdb", pytest.param("spark", marks=[needs_java, pytest.mark.slow])])
def engine(request, tmp_path):
    if request.param == "spark":
        request.getfixturevalue("spark")
    with running(request.param, tmp_path / "work") as started:
        yield started


def raw_file(path):
    return RawFile(path, path.name, tuple(read_header(path, path.name)), stamp(path))


def load(engine, files, columns, name="t"):
    def typed(text):
        carried = [column for column in (FILE, POSITION) if column in text.columns]
        return text.select(*carried, **{column: text[column] for column in columns})

    malformed = engine.load(name, files, columns, typed, lambda done: None)
    return malformed, engine.fetch(engine.table(name).order_by(POSITION))


@pytest.fixture(autouse=True)
def work(tmp_path):
    (tmp_path / "work").mkdir(exist_ok=True)


# What an engine promises


def test_text_is_read_as_it_stands_and_rows_are_numbered(engine, tmp_path):
    one, two, three = tmp_path / "one [1].csv", tmp_path / "two.csv", tmp_path / "three.csv.gz"
    one.write_bytes(b'\xef\xbb\xbfa,b\r\n1,\r\n" x, ""y"" ",0012\r\n"two\nlines",ok\r\n')
    two.write_bytes(b"B,A\n5,long,row\n6,7\n8\n9,10\n")
    three.write_bytes(gzip.compress("a,b\rä😀,NA\r".encode()))
    malformed, rows = load(engine, [raw_file(one), raw_file(two), raw_file(three)], ["a", "b"])
    assert rows.select([FILE, POSITION, "a", "b"]).to_pydict() == {
        FILE: ["one [1].csv"] * 3 + ["two.csv"] * 2 + ["three.csv.gz"],
        POSITION: [0, 1, 2, 3, 4, 5],
        "a": ["1", ' x, "y" ', "two\nlines", "7", "10", "ä😀"],
        "b": [None, "0012", "ok", "6", "9", "NA"],
    }
    assert [(line.file, line.row, line.reason, line.line) for line in malformed] == [
        ("two.csv", 1, "too many values: 3 for 2 columns", "5,long,row"),
        ("two.csv", 3, "too few values: 1 for 2 columns", "8"),
    ]


def test_raw_rows_are_those_of_the_file_with_every_column(engine, tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("a,more\n" + "".join(f"{i},m{i}\n" if i != 3 else "broken\n" for i in range(8)))
    load(engine, [raw_file(file)], ["a"])
    positions = engine.create("some", pa.table({POSITION: [5, 2]}))
    found = engine.raw_rows("t", [raw_file(file)], positions)
    assert found.select([POSITION, FILE, ROW, "a", "more"]).to_pydict() == {
        POSITION: [2, 5],
        FILE: ["t.csv", "t.csv"],
        ROW: [3, 7],
        "a": ["2", "6"],
        "more": ["m2", "m6"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'a,b\n1,"open\n2,3\n', "a quote is not closed"),
        ("a,b\n1,ß\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_file_whose_rows_cannot_be_told_apart_is_refused(engine, tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(engine, [raw_file(tmp_path / "t.csv")], ["a", "b"])


def test_typed_parquet_becomes_the_same_text(engine, tmp_path):
    table = pa.table(
        {
            "i": pa.array([1, None, -(2**63)], pa.int64()),
            "f": pa.array([37.0, 1e-5, float("nan")], pa.float64()),
            "g": pa.array([0.1, 98.6, float("inf")], pa.float32()),
            "t": pa.array([0, 1_500_000, None], pa.timestamp("us")),
            "d": pa.array([0, 20_000, None], pa.date32()),
            "b": pa.array([True, False, None]),
            "n": pa.array(["1.50", "-2.00", None]).cast(pa.decimal128(8, 2)),
            "s": pa.array(["x", "", None]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1)
    file = raw_file(tmp_path / "t.parquet")
    _, rows = load(engine, [file, file], table.column_names)
    assert rows[POSITION].to_pylist() == list(range(6))
    assert rows.select(table.column_names).slice(3).to_pydict() == {
        "i": ["1", None, "-9223372036854775808"],
        "f": ["37", "0.00001", "nan"],
        "g": ["0.1", "98.6", "1e39 or more"],
        "t": ["1970-01-01 00:00:00", "1970-01-01 00:00:01.5", None],
        "d": ["1970-01-01", "2024-10-04", None],
        "b": ["true", "false", None],
        "n": ["1.50", "-2.00", None],
        "s": ["x", "", None],
    }


def test_parquet_of_other_types_is_text_too(engine, tmp_path):
    table = pa.table(
        {"t": pa.array([1_000_000_000], pa.timestamp("ns")), "u": pa.array([2**64 - 1], pa.uint64())}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    _, rows = load(engine, [raw_file(tmp_path / "t.parquet")], ["t", "u"])
    assert rows.select(["t", "u"]).to_pylist() == [{"t": "1970-01-01 00:00:01", "u": "18446744073709551615"}]


def test_a_column_that_a_file_lacks_is_empty(engine, tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n")
    _, rows = load(engine, [raw_file(tmp_path / "t.csv")], ["a", "absent"])
    assert rows["absent"].to_pylist() == [None]
    assert rows["absent"].type == pa.string()


def test_tables_are_made_appended_to_replaced_and_dropped(engine):
    engine.create_empty("all", ibis.schema({"a": "int64", "t": "timestamp(6)", "x": "float32"}))
    assert engine.count(engine.table("all")) == 0
    moment = dt.datetime(2020, 2, 29, 10, 30)  # noqa: DTZ001
    rows = engine.create("some", pa.table({"x": [1.5, 2.5], "a": [1, 2], "t": [moment, None]}))
    staged = engine.staged("staged", rows.mutate(x=rows.x * 2))
    for _ in range(20):  # more than are done at a time
        engine.insert("all", staged.select("x", "t", "a"))
    engine.drop("some")  # what was inserted stays
    everything = engine.table("all")
    assert engine.count(everything) == 40
    found = engine.fetch(everything.filter(everything.a == 1).limit(1))
    assert found.to_pylist() == [{"a": 1, "t": moment, "x": 3.0}]
    assert found.schema.field("x").type == pa.float32()
    replaced = engine.create("all", everything.filter(everything.a == 2))
    assert engine.count(replaced) == engine.count(replaced.filter(replaced.a == 2)) == 20
    engine.drop("all")
    engine.drop("never there")


def test_batches_come_in_order(engine):
    numbers = [i * 7919 % 10_007 for i in range(10_007)]
    rows = engine.create("some", pa.table({"a": numbers}))
    reader = engine.batches(rows.order_by(rows.a.desc()))
    assert [value for batch in reader for value in batch.column("a").to_pylist()] == list(
        range(10_006, -1, -1)
    )


def test_the_number_of_a_subject_is_its_md5(engine):
    rows = engine.create("some", pa.table({"name": ["p00", "ü", None]}))
    found = engine.fetch(rows.select("name", number=engine.subject_number(rows.name)).order_by("name"))
    known = [int(hashlib.md5(name.encode()).hexdigest()[:15], 16) for name in ("p00", "ü")]
    assert found["number"].to_pylist() == [*known, None]


# What an expression means


def battery(rows):
    """Expressions over texts that engines are known to read differently, each with the texts it reads so."""
    x = rows.x
    time = plain_time(x)
    number = FUNCTIONS["number"][0](x)
    berlin = local_to_utc(time, "Europe/Berlin")
    return {
        "plain": time, "zoned": zoned_time(x), "berlin": berlin.utc, "change": berlin.flag,
        "is_zoned": is_zoned(x, time), "number": number, "text_of": number_text(number),
        "short": FUNCTIONS["short"][0](number), "short_2": FUNCTIONS["short"][0](number, 2),
        "whole": FUNCTIONS["whole"][0](number), "single": number.cast("float32"),
        "strip": FUNCTIONS["strip"][0](x), "part": FUNCTIONS["part"][0](x, ",", 2), "lower": x.lower(),
        "upper": x.upper(),
        "line": x.re_extract("^(.*)$", 1), "one": x.re_search("^[0-9]$"), "brackets": x.re_extract(r"^[[]([^]&]+)", 1),
        "day": FUNCTIONS["day"][0](x), "day_end": FUNCTIONS["end_of_day"][0](time), "as_text": number_text(time),
        "later": time + FUNCTIONS["hours"][0](1.23456789),
        "since": FUNCTIONS["minutes_between"][0](time, time + ibis.interval(seconds=90)),
        "year_start": FUNCTIONS["start_of_year"][0](time.year()), "fraction": time.epoch_seconds().cast("float64"),
        "replaced": x.replace("0", "["),
        "by_zero": Formula.parse("a / b", "here").compile({"a": number, "b": number - number}),
        "template": Template.parse("{n} of {t}[ ({x})]", "here").compile({"n": number, "t": time, "x": x}, "UNK"),
        "nul": x.contains("\0"),
    }  # fmt: skip


TEXTS = [
    "2019-05-31 14:00:00", "2019-05-31", "2019-05-31T14:00", "2019-05-31 23:59:60", "2019-02-30", "0001-01-01",
    "9999-12-31 23:59:59.999999", "2019-05-31 14:00:00.1234567", "2019-05-31 14:00:00.9999999", "1582-10-10 10:00:00",
    "2019-05-31 14:00:00Z", "2019-05-31 14:00:00+02:00", "2019-05-31 14:00 -0530", "2019-13-01", "2019-05-31 25:00:00",
    "2019-05-31 24:00:00", "2019-03-31 02:30:00", "2019-10-27 02:30:00", "2019-05-31\n", "12\n", "1.5\n", "+5", "-0",
    "007", "5.", "+.5", "1e5", "1E-5", "1e999", "-1e-400", "9223372036854775807", "3.00", "2.675", "0.00005", "37.0",
    "-12.345678", "1e10", "3.4e38", "1e-7", "12345678.9", "99.99999", "0.1", "x  ", "\u00a0x\u00a0", " \t x \n",
    "20190531", "20190231", "a\nb", "a\rb", "a,b,c", "[50-60)", "[a&b]",
    "İstanbul\\z$", "Straße", "", None, "1,5", "NaN", "1d",
]  # fmt: skip


@needs_java
@pytest.mark.slow
def test_an_expression_means_the_same_on_every_engine(spark, tmp_path):
    found = {}
    for name in ENGINES:
        (tmp_path / name).mkdir()
        with running(name, tmp_path / name) as engine:
            rows = engine.create("texts", pa.table({"i": range(len(TEXTS)), "x": TEXTS}))
            table = engine.fetch(rows.select("i", "x", **battery(rows)).order_by("i"))
        found[name] = [
            {
                key: value.value if isinstance(value, pa.TimestampScalar) else value.as_py()
                for key, value in row.items()
            }
            for row in ({key: table[key][i] for key in table.column_names} for i in range(len(table)))
        ]
    for one, other in zip(found["duckdb"], found["spark"], strict=True):
        assert one == other


def test_numbers_are_written_the_same_everywhere(engine):
    numbers = {
        37.0: "37", 0.1: "0.1", 1e-5: "0.00001", -12.5: "-12.5", 1e10: "10000000000", 12345678.9: "12345678.9",
        0.1 + 0.2: "0.3", -0.0: "0", 1 / 3: "0.333333333333", 1e15: "1e15", 3.4e38: "340000000000e27",
        -1e-7: "-100000e-12", 123456789012345.6: "123456789012346", 1e300: None, float("inf"): None,
    }  # fmt: skip
    rows = engine.create("some", pa.table({"i": range(len(numbers)), "v": list(numbers)}))
    found = engine.fetch(rows.select("i", text=number_text(rows.v)).order_by("i"))["text"].to_pylist()
    assert found == list(numbers.values())
    assert all(abs(float(text) - value) <= abs(value) * 1e-11 for value, text in numbers.items() if text)


def test_numbers_that_are_none_have_a_word_in_raw_text(engine):
    rows = engine.create("some", pa.table({"v": [float("nan")]}))
    assert engine.fetch(rows.select(v=raw_number_text(rows.v)))["v"].to_pylist() == ["nan"]
    rows = engine.create("some", pa.table({"v": [float("-inf")]}))
    assert engine.fetch(rows.select(v=raw_number_text(rows.v)))["v"].to_pylist() == ["-1e39 or less"]


@pytest.mark.parametrize(
    ("pattern", "java"),
    [
        (r"^a.b$", r"(?d)^a.b\z"),
        (r"\$[$]", r"(?d)\$[$]"),
        (r"^[[]([^]]+)[)]", r"(?d)^[\[]([^\]]+)[)]"),
        (r"[]a&&b[]", r"(?d)[\]a\&\&b\[]"),
        (r"(?i)ärzt", r"(?d)(?iu)ärzt"),
    ],
)
def test_a_regex_in_the_words_of_java(pattern, java):
    assert java_regex(pattern) == java


# Datasets


def same(one, other):
    """Fail unless two dataset folders hold the same rows in the same order, and the same report."""
    files = {path.relative_to(one).as_posix() for path in one.rglob("*") if path.is_file()}
    assert files == {path.relative_to(other).as_posix() for path in other.rglob("*") if path.is_file()}
    for file in sorted(files):
        if file.endswith(".parquet"):
            left, right = pq.read_table(one / file), pq.read_table(other / file)
            for have, want in zip(left.to_pylist(), right.to_pylist(), strict=True):
                assert have == want, file
            assert left.schema.equals(right.schema), file
    assert read_json(one / schema.QUALITY_FILE) == read_json(other / schema.QUALITY_FILE)
    return files


@needs_java
@pytest.mark.slow
@pytest.mark.parametrize("source", [source.name for source in sources()])
def test_every_engine_gives_the_same_dataset(spark, tmp_path, source):
    raw = source_mapping(source).folder / "sample" / "raw"
    for engine in ENGINES:
        ingest(source, raw, tmp_path / engine, engine=engine, subjects_per_file=1)
    assert same(tmp_path / "duckdb", tmp_path / "spark")
    assert not list(tmp_path.glob(".*")), "a work folder was left behind"


def spoil(raw):
    """Give a copy of the hospital's sample something of every kind that is set aside."""

    def rewrite(name, change):
        (raw / name).write_text(change((raw / name).read_text()))

    rewrite("patients.csv", lambda text: "\ufeff" + text.replace("\n", "\r\n"))
    rewrite(
        "vitals.csv",
        lambda text: (
            text
            + "1,100,2021-03-26 12:00:00,HR\n"  # too short
            + "1,100,2021-03-26 12:00:00,HR,80,bpm,more,and more\n"
            + "999,100,2021-03-26 12:00:00,HR,80,bpm\n"  # an orphan
            + "1,100,2021-03-26 12:00:00,HR,NaN,bpm\n"
            + "1,100,2021-03-26 12:00:00,HR,1e999,bpm\n"
            + "1,100,2021-03-26 12:00:00,HR,501.25,bpm\n"  # impossible
            + "1,100,2021-03-26 12:00:00,TEMP,98.6,C\n"
            + "1,100,2021-02-30 12:00:00,HR,80,bpm\n"  # no such day
            + "1,100,9999-12-31 12:00:00,HR,80,bpm\n"
            + '1,100,2021-03-26 12:00:00,"a ""quoted""\nname, 😀",80,bpm\n'
            + "1,100,2021-03-26 12:00:00,HR,81,b\0pm\n"
        ),
    )
    rewrite("admissions.csv", lambda text: text + text.splitlines()[-1] + "\n")  # one key twice
    rows = (raw / "labs.csv").read_bytes().replace(b"\n", b"\r")
    (raw / "labs.csv").unlink()
    (raw / "labs.csv.gz").write_bytes(gzip.compress(rows))
    (raw / "unknown.csv").write_text("a,b\n1,2\n")


@needs_java
@pytest.mark.slow
def test_every_engine_sets_the_same_rows_aside(spark, raw, tmp_path):
    folder = raw("hospital")
    spoil(folder)
    for engine in ENGINES:
        quality = ingest("hospital", folder, tmp_path / engine, engine=engine, time_zone="Europe/Berlin")
        assert quality["tables"]["vitals"]["rows_quarantined"] == 9 + 2  # of the sample itself
        assert quality["tables"]["admissions"]["rows_quarantined"] == 1
    files = same(tmp_path / "duckdb", tmp_path / "spark")
    assert {"quarantine/vitals.parquet", "quarantine/admissions.parquet"} <= files


@needs_java
@pytest.mark.slow
def test_a_failed_ingest_leaves_nothing_and_the_next_one_works(spark, raw, tmp_path):
    folder = raw("vitals-csv")
    good = (folder / "ward.csv").read_text()
    (folder / "ward.csv").write_text(good + '"never closed\n')
    with pytest.raises(InputError, match="quote"):
        ingest("vitals-csv", folder, tmp_path / "out", engine="spark")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
    (folder / "ward.csv").write_text(good)
    assert ingest("vitals-csv", folder, tmp_path / "out", engine="spark")["rows_read"]


@needs_java
@pytest.mark.slow
def test_the_session_of_a_process_is_shared_and_left_running(spark, tmp_path):
    before = spark.conf.get("spark.sql.ansi.enabled")
    with running("spark", tmp_path / "work") as engine:
        engine.create("mine", pa.table({"a": [1]}))
        assert not spark.catalog.tableExists("mine")
    assert spark.conf.get("spark.sql.ansi.enabled") == before
    assert spark.sql("SELECT 1").count() == 1


@needs_java
@pytest.mark.slow
def test_a_process_may_start_and_stop_spark_more_than_once(tmp_path):
    pytest.importorskip("pyspark")
    code = (
        "import sys, pyarrow as pa\nfrom pathlib import Path\nfrom pyspark.sql import SparkSession\n"
        "from caretrace.ingest.engines import running\n"
        "for number in '12':\n"
        "    work = Path(sys.argv[1], number)\n"
        "    work.mkdir()\n"
        "    with running('spark', work, memory_limit='1GB', threads=1) as engine:\n"
        "        print(engine.fetch(engine.create('some', pa.table({'a': [number]}))).to_pylist())\n"
        "    assert SparkSession.getActiveSession() is None\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[{'a': '1'}]", "[{'a': '2'}]"], done.stderr
    # What Java itself says at its start is all that is heard of it.
    assert [line for line in done.stderr.splitlines() if "incubator modules" not in line] == []


# Where Spark is not there


def test_without_java_the_message_says_what_to_install(tmp_path):
    pytest.importorskip("pyspark")
    code = (
        "from pathlib import Path\nfrom caretrace.ingest.engines import running\n"
        "from caretrace.errors import ConfigError\n"
        f"try:\n    running('spark', Path({str(tmp_path)!r})).__enter__()\n"
        "except ConfigError as error:\n    print(error)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"} | {"PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert "pip install 'caretrace[spark]'" in done.stdout
    assert "Java 17" in done.stdout


def test_without_pyspark_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(ConfigError, match=r"pip install 'caretrace\[spark\]'"), running("spark", tmp_path):
        pass


@pytest.mark.parametrize(("limit", "message"), [("lots", "write it like 4GB"), ("500MB", "give 1GB or more")])
def test_a_memory_limit_that_spark_cannot_take(tmp_path, limit, message):
    pytest.importorskip("pyspark")
    with pytest.raises(ConfigError, match=message), running("spark", tmp_path, memory_limit=limit):
        pass
