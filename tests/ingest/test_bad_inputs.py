"""Every bad input of docs/bad-inputs.md and what it gets; a new case is one line of `CASES`.

R: refused before anything is written. Q: the row is quarantined, the rest loaded. F: flagged, kept, counted.
ok: read as it is meant.
"""

# ruff: noqa: E501 - a case is one line

import dataclasses
import functools
import gzip
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from caretrace import schema
from caretrace.errors import InputError
from caretrace.files import read_json
from caretrace.ingest import ingest, source_mapping
from caretrace.ingest.archives import unpack
from caretrace.ingest.engines.duckdb import DuckDB

VITAL = "1,100,2021-03-26 12:00:00,HR,80,bpm"  # a good row of the hospital's vitals.csv
LONG_NOTE = 'a note, with ""quotes"" and\nlines ' * 320_000  # 10.6 MB as it stands in the file


def put(name: str, *pairs: str) -> Callable[[Path], None]:
    """Replace texts, in pairs of old and new, in one file."""

    def damage(folder: Path) -> None:
        text = (folder / name).read_text()
        for old, new in zip(pairs[::2], pairs[1::2], strict=True):
            assert old in text, (name, old)
            text = text.replace(old, new)
        (folder / name).write_text(text)

    return damage


def add(name: str, *lines: str) -> Callable[[Path], None]:
    """Append lines to one file."""

    def damage(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    return damage


def make(name: str, change: Callable[[str], bytes]) -> Callable[[Path], None]:
    """Replace the bytes of one file by something made of its text."""

    def damage(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_text()))

    return damage


def pack(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Replace one file by a .gz made of its bytes."""

    def damage(folder: Path) -> None:
        plain = folder / name
        (folder / f"{name}.gz").write_bytes(change(plain.read_bytes()))
        plain.unlink()

    return damage


def link(name: str) -> Callable[[Path], None]:
    """Move a file or folder out of the raw folder and leave a link to it."""

    def damage(folder: Path) -> None:
        away = folder.parent / "elsewhere"
        (folder / name).rename(away)
        (folder / name).symlink_to(away)

    return damage


def zipped(**entries: str) -> Callable[[Path], None]:
    """An archive beside the files, its entries given as name=text with _ for / in front."""

    def damage(folder: Path) -> None:
        with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
            for name, text in entries.items():
                archive.writestr(name.replace("UP", "../").replace("ROOT", "/"), text)

    return damage


def flipped(packed: bytes) -> bytes:
    middle = len(packed) // 2
    return packed[:middle] + bytes([packed[middle] ^ 1]) + packed[middle + 1 :]


def zip_bomb(folder: Path) -> None:
    with zipfile.ZipFile(folder / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", b"1,2\n" * 25_000_000)


def bomb(plain: bytes) -> bytes:
    return gzip.compress(plain) + gzip.compress(b"1,2\n" * 25_000_000)


def many(text: str) -> str:
    return text + "".join(f"1,100,2021-03-26 12:00:00,HR,{i * 7919 % 97 + 40},bpm\n" for i in range(20_000))


def run(folder: Path, out: Path, source: str, **options: Any) -> dict[str, Any]:
    return ingest(source, folder, out, **options)


def grow(folder: Path, out: Path, source: str, **options: Any) -> dict[str, Any]:
    """Ingest while somebody still writes to vitals.csv."""

    def progress(step: str, _done: float, _total: float) -> None:
        if step == "reading vitals":
            add("vitals.csv", VITAL)(folder)

    return ingest(source, folder, out, progress=progress)


def unzip(folder: Path, out: Path, source: str, **options: Any) -> dict[str, Any]:
    unpack(folder / "archive.zip", out)
    return {}


@dataclasses.dataclass(frozen=True)
class Refused:
    words: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Quarantined:
    table: str
    file: str
    row: int
    column: str | None
    value: str | None
    reason: str


@dataclasses.dataclass(frozen=True)
class Flagged:
    table: str
    flag: str
    rows: int
    code: str
    kept: Any  # a value, a text or a time that must stand in a measurement with this code


@dataclasses.dataclass(frozen=True)
class Read:
    code: str
    kept: Any


@dataclasses.dataclass(frozen=True)
class Case:
    number: int
    name: str
    damage: Callable[[Path], None]
    gets: Refused | Quarantined | Flagged | Read
    source: str = "hospital"
    run: Callable[..., dict[str, Any]] = run
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def R(*words: str) -> Refused:
    return Refused(words)


def Q(row: int, column: str | None, value: str | None, reason: str, table: str = "vitals") -> Quarantined:
    return Quarantined(table, f"{table}.csv", row, column, value, reason)


def F(flag: str, code: str, kept: Any, table: str = "vitals", rows: int = 1) -> Flagged:
    return Flagged(table, flag, rows, code, kept)


HR = "VITAL//HR//bpm"
ZONED = put("vitals.csv", "2021-03-26 11:30:10,HR", "2021-03-26T13:30:10+02:00,HR",
            "2021-03-26 11:30:10,SpO2", "2021-03-26 11:30:10Z,SpO2", "2020-10-15 04:00:00", "2020-10-15 04:00:00Z",
            "2020-10-15 05:00:00", "2020-10-15 05:00:00Z")  # fmt: skip
BERLIN = {"time_zone": "Europe/Berlin"}

CASES = [
    Case(1, "empty file", make("vitals.csv", lambda _: b""), R("vitals.csv is empty", "fetch it again")),
    Case(1, "a blank line only", make("vitals.csv", lambda _: b"\n"), R("vitals.csv is empty")),
    Case(1, "a byte order mark only", make("vitals.csv", lambda _: b"\xef\xbb\xbf"), R("vitals.csv is empty")),
    Case(1, "empty .gz", pack("vitals.csv", lambda _: b""), R("vitals.csv.gz is empty")),
    Case(2, "header only", make("admissions.csv", lambda t: t.split("\n")[0].encode() + b"\n"), R("admissions.csv", "no usable row", "fetch it again")),
    Case(3, "byte order mark", make("vitals.csv", lambda t: b"\xef\xbb\xbf" + t.encode()), Read(HR, 87.0)),
    Case(4, "UTF-16", make("patients.csv", lambda t: t.encode("utf-16")), R("patients.csv is UTF-16", "save it as UTF-8")),
    Case(4, "UTF-16 without its mark", make("patients.csv", lambda t: t.encode("utf-16-le")), R("patients.csv", "NUL", "UTF-8")),
    Case(5, "Latin-1 in the header", make("patients.csv", lambda t: t.replace("race", "raße").encode("latin-1")), R("patients.csv: the header is not UTF-8")),
    Case(5, "Latin-1 in the body", make("patients.csv", lambda t: t.replace("WHITE", "WEIß").encode("latin-1")), R("patients.csv line 2", "not UTF-8")),
    Case(5, "Latin-1 far in the body", make("vitals.csv", lambda t: many(t).encode() + VITAL.replace("HR", "Kälte").encode("latin-1")), R("vitals.csv", "not UTF-8")),
    Case(6, "CRLF", make("vitals.csv", lambda t: t.replace("\n", "\r\n").encode()), Read(HR, 87.0)),
    Case(6, "CR only", make("vitals.csv", lambda t: t.replace("\n", "\r").encode()), Read(HR, 87.0)),
    Case(7, "NUL byte", add("vitals.csv", VITAL.replace("HR", "H\0R")), Q(7, "name", "H\0R", "NUL byte")),
    Case(8, "duplicate header", put("patients.csv", "sex", "SUBJECT_ID"), R("patients.csv", "'subject_id' twice", "rename")),
    Case(9, "missing column", put("labs.csv", "result_time", "resulttime"), R("labs.csv", "'result_time'", "did you mean 'resulttime'", "collect_time")),
    Case(10, "long row", add("vitals.csv", VITAL, VITAL + ",more"), Q(8, None, None, "too many values: 7 for 6 columns")),
    Case(10, "short row", add("vitals.csv", VITAL, "1,100,2021-03-26 12:00:00,HR"), Q(8, None, None, "too few values: 4 for 6 columns")),
    Case(10, "hardly a row as long as the header", make("vitals.csv", lambda t: many(t).replace("bpm\n", "bpm,\n").encode()), R("vitals.csv: 20,0", "another number of values than the header", "7 for 6", "mend the header")),
    Case(11, "unclosed quote", put("patients.csv", "WHITE", '"WHITE'), R("patients.csv", "quote", "quotes doubled")),
    Case(11, "unclosed quote in a long file", make("vitals.csv", lambda t: many(t + VITAL.replace("HR", '"HR') + "\n").encode()), R("vitals.csv", "quote")),
    Case(12, "semicolons", put("labs.csv", ",", ";"), R("labs.csv", "another separator", "save it with commas")),
    Case(12, "tabs", put("labs.csv", ",", "\t"), R("labs.csv", "another separator")),
    Case(13, "truncated .gz", pack("vitals.csv", lambda b: gzip.compress(many(b.decode()).encode())[:-100]), R("vitals.csv.gz", "cannot be read", "fetch the file again")),
    Case(13, "a .gz with a flipped bit", pack("vitals.csv", lambda b: flipped(gzip.compress(many(b.decode()).encode()))), R("vitals.csv.gz", "fetch the file again")),
    Case(14, "a plain file called .gz", pack("vitals.csv", lambda b: b), R("vitals.csv.gz cannot be read", "fetch the file again")),
    Case(15, "gz bomb", pack("vitals.csv", bomb), R("vitals.csv.gz expands to more than 200 times its size", "unpack it yourself")),
    Case(16, "zip-slip", zipped(UPevil="x"), R("archive.zip", "'../evil'"), run=unzip),
    Case(16, "absolute name in a zip", zipped(ROOTtmp="x"), R("archive.zip", "'/tmp'"), run=unzip),
    Case(16, "zip bomb", zip_bomb, R("archive.zip", "200 times"), run=unzip),
    Case(17, "a file that is a link out", link("vitals.csv"), R("vitals.csv is a link that leads out of", "copy the file")),
    Case(17, "a folder that is a link out", link("hosp"), R("hosp/", "leads out of", "copy the file"), source="mimic-iv"),
    Case(18, "changed while read", lambda _: None, R("vitals.csv changed while it was read", "wait until its writer is done"), run=grow),
    Case(19, "negative age", put("ward.csv", "79,64,Male,resting,Low", "79,-64,Male,resting,Low"), Quarantined("measurements", "", 0, "number", "-64", "age is outside what is possible (0 to"), source="vitals-csv"),
    Case(20, "age 300", put("ward.csv", "64,Male", "300,Male"), Flagged("measurements", "age_over_89", 3, "MEDS_BIRTH", "1934"), source="vitals-csv"),
    Case(21, "discharge before admission", put("admissions.csv", "2021-04-02 17:54:00", "2021-03-02 17:54:00"), F("ends_before_start", "HOSPITAL_DISCHARGE//HOME", "2021-03-02 17:54:00", "admissions")),
    Case(22, "death before admission", put("admissions.csv", "PRIVATE,2020-10-17", "PRIVATE,2020-09-17"), F("death_before_admission", "MEDS_DEATH", "2020-09-17 22:40:00", "admissions")),
    Case(23, "overlapping stays", add("icu_stays.csv", "101,10,1,Medical ICU,2021-03-26 12:00:00,2021-03-27 12:00:00"), F("overlapping", "ICU_ADMISSION//Medical ICU", "2021-03-26 12:00:00", "icu_stays")),
    Case(24, "a year off", add("vitals.csv", VITAL.replace("2021", "2022")), F("a_year_off", HR, "2022-03-26 12:00:00")),
    Case(25, "NaN", add("vitals.csv", VITAL.replace("80", "NaN")), Q(7, "value", "NaN", "not a finite number")),
    Case(25, "inf", add("vitals.csv", VITAL.replace("80", "-inf")), Q(7, "value", "-inf", "not a finite number")),
    Case(25, "1e999", add("vitals.csv", VITAL.replace("80", "1e999")), Q(7, "value", "1e999", "not a finite number")),
    Case(25, "beyond float32", add("vitals.csv", VITAL.replace("80", "1e39")), Q(7, "value", "1e39", "not a finite number")),
    Case(26, "SpO2 140", add("vitals.csv", VITAL.replace("HR,80,bpm", "SpO2,140,%")), Q(7, "value", "140", "oxygen_saturation is outside what is possible (0 to 100 %)")),
    Case(26, "a heart rate of 500", add("vitals.csv", VITAL.replace("80", "500")), Q(7, "value", "500", "heart_rate is outside")),
    Case(27, "Fahrenheit for Celsius", add("vitals.csv", VITAL.replace("HR,80,bpm", "TEMP,98.6,Cel")), F("fahrenheit_for_celsius", "VITAL//TEMP//°C", 37.0)),
    Case(28, "decimal comma", add("vitals.csv", VITAL, VITAL.replace("80", '"80,5"')), R("vitals.csv row 8", "column value", "'80,5'", "write numbers like 12.5")),
    Case(29, "text in a numeric column", add("vitals.csv", VITAL.replace("80", "12o")), Q(7, "value", "12o", "not a finite number")),
    Case(30, "id beyond int64", put("patients.csv", "\n2,", "\n9223372036854775808,"), R("patients.csv row 2", "column subject_id", "'9223372036854775808'", "renumber")),
    Case(30, "id that is no number", put("patients.csv", "\n2,", "\n2x,"), R("patients.csv row 2", "column subject_id", "'2x'", "renumber")),
    Case(31, "leading zero of an ICD code", put("hosp/diagnoses_icd.csv", "4139   ", "0088   "), Read("DIAGNOSIS//ICD//9//0088", None), source="mimic-iv"),
    Case(32, "duplicate subject", add("patients.csv", "1,F,1944-08-28,WHITE,MARRIED"), R("patients.csv row 3", "subject 1 stands there a second time", "renumber")),
    Case(33, "orphan stay", add("icu_stays.csv", "300,30,9,Medical ICU,2021-03-26 12:00:00,"), Q(3, "subject_id", "9", "subject is not in patients", "icu_stays")),
    Case(34, "rows out of order", add("vitals.csv", VITAL.replace("12:00:00", "13:00:00"), VITAL), F("out_of_order", HR, "2021-03-26 12:00:00")),
    Case(35, "duplicate event", add("vitals.csv", VITAL, VITAL, VITAL), F("duplicate", HR, 80.0, rows=2)),
    Case(36, "mixed time zones", add("vitals.csv", VITAL.replace("12:00:00", "12:00:00+02:00")), R("vitals.csv row 1", "column time", "'2021-03-26 11:30:10'", "no time zone", "1 others do", "--time-zone")),
    Case(36, "every time with its zone", ZONED, Read(HR, "2021-03-26 11:30:10")),
    Case(36, "what the others mean is said", add("vitals.csv", VITAL.replace("12:00:00", "12:00:00Z")), Read(HR, "2021-03-26 12:00:00"), options=BERLIN),
    Case(37, "an hour no clock showed", add("vitals.csv", VITAL.replace("26 12:00:00", "28 02:30:00")), F("skipped_hour", HR, "2021-03-28 01:30:00"), options=BERLIN),
    Case(37, "an hour clocks showed twice", add("vitals.csv", "2,200,2020-10-25 02:30:00,HR,80,bpm"), F("repeated_hour", HR, "2020-10-25 00:30:00"), options=BERLIN),
    Case(37, "summer time", lambda _: None, Read("ICU_DISCHARGE//Cardiac Surgery ICU", "2021-03-26 18:50:00"), options=BERLIN),
    Case(38, "year 1", add("vitals.csv", VITAL.replace("2021", "0001")), Q(7, "time", "0001-03-26 12:00:00", "between 1678 and 2261")),
    Case(38, "year 9999", add("vitals.csv", VITAL.replace("2021", "9999")), Q(7, "time", "9999-03-26 12:00:00", "between 1678 and 2261")),
    Case(38, "a day that is none", add("vitals.csv", VITAL.replace("03-26", "02-30")), Q(7, "time", "2021-02-30 12:00:00", "not a time")),
    Case(39, "sample in the future", add("vitals.csv", VITAL.replace("2021", "2199")), F("in_the_future", HR, "2199-03-26 12:00:00")),
    Case(40, "right-to-left text and emoji", put("procedures.csv", "Invasive ventilation", "تهوية 🫁 öä"), Read("PROCEDURE//تهوية 🫁 öä", "تهوية 🫁 öä")),
    Case(41, "<script> in a text", put("procedures.csv", "Invasive ventilation", "<script>alert(1)</script>"), Read("PROCEDURE//<script>alert(1)</script>", "<script>alert(1)</script>")),
    Case(42, "a formula in a text", put("procedures.csv", "Invasive ventilation", "=cmd|' /C calc'!A0"), Read("PROCEDURE//=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0")),
    Case(43, "a note of 10 MB", put("cultures.csv", "No growth.", f'"{LONG_NOTE}"'), F("long_text", "MICROBIOLOGY//Urine culture", None, "cultures")),
    Case(44, "a stay of five years", put("admissions.csv", "2021-04-02 17:54:00", "2026-03-20 17:54:00"), Read("HOSPITAL_DISCHARGE//HOME", "2026-03-20 17:54:00")),
]  # fmt: skip
LETTERS = {Refused: "R", Quarantined: "Q", Flagged: "F", Read: "ok"}


def cases(kind: type) -> list[Any]:
    return [
        pytest.param(case, id=f"{case.number} {case.name}") for case in CASES if isinstance(case.gets, kind)
    ]


def damaged(raw: Callable[[str], Path], case: Case) -> Path:
    """The raw folder of a case. Of the hospital's tables those that may be absent, and are as they were, are absent:
    an ingest costs what its tables do."""
    folder = raw(case.source)
    before = contents(folder)
    case.damage(folder)
    if case.source == "hospital" and case.run is not grow:
        tables = source_mapping("hospital").tables.values()
        for path in (folder / f"{table.name}.csv" for table in tables if table.optional):
            if path.is_file() and not path.is_symlink() and path.read_bytes() == before[path]:
                path.unlink()
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def measurements(out: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted((out / schema.DATA_DIR).rglob("*.parquet"))])


def holds(out: Path, code: str, kept: Any) -> bool:
    """Whether a measurement with this code has this value, text or beginning of a time."""
    found = measurements(out).filter(pl.col(schema.CODE) == code)
    if kept is None:
        return len(found) > 0
    if isinstance(kept, float):
        return any(abs(value - kept) < 1e-4 for value in found[schema.NUMERIC_VALUE].drop_nulls())
    times = found[schema.TIME].dt.strftime("%Y-%m-%d %H:%M:%S").str.starts_with(kept)
    return bool(times.any()) or kept in found[schema.TEXT_VALUE].to_list()


@pytest.mark.parametrize("case", cases(Refused))
def test_refused_before_anything_is_written(raw, tmp_path, case):
    folder, out = damaged(raw, case), tmp_path / "out"
    before = contents(folder)
    with pytest.raises(InputError) as caught:
        case.run(folder, out, case.source, **case.options)
    for words in case.gets.words:
        assert words in str(caught.value), str(caught.value)
    assert not [*out.rglob("*"), *tmp_path.glob(".out*")], "something was written"
    assert not (tmp_path / "evil").exists()
    if case.run is not grow:
        assert contents(folder) == before


@pytest.mark.parametrize("case", cases(Quarantined))
def test_quarantined_with_its_place_and_reason(raw, tmp_path, case):
    folder, out, wanted = damaged(raw, case), tmp_path / "out", case.gets
    quality = case.run(folder, out, case.source, **case.options)
    rows = pl.read_parquet(out / schema.QUARANTINE_DIR / f"{wanted.table}.parquet")
    rows = rows.filter(pl.col("reason").str.contains(wanted.reason, literal=True))
    if wanted.file:  # vitals-csv reads a table made of the user's files
        rows = rows.filter((pl.col("file") == wanted.file) & (pl.col("row") == wanted.row))
    else:
        assert rows["raw.file"].str.ends_with("ward.csv").all()
    found = rows.filter(pl.col("value").eq_missing(wanted.value))
    assert len(found) >= 1, rows
    assert found["column"][0] == wanted.column
    if wanted.column is None:
        assert found["raw_line"][0]
    assert quality["rows_read"] == quality["rows_loaded"] + quality["rows_quarantined"]
    assert quality["tables"][wanted.table]["rows_quarantined"] > 0


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """The quality report of a source's sample as it is."""

    @functools.cache
    def quality(source: str) -> dict[str, Any]:
        sample = source_mapping(source).folder / "sample" / "raw"
        return ingest(source, sample, tmp_path_factory.mktemp("untouched") / "out")

    return quality


@pytest.mark.parametrize("case", cases(Flagged))
def test_flagged_and_kept(raw, tmp_path, case, untouched):
    folder, out, wanted = damaged(raw, case), tmp_path / "out", case.gets
    flags = untouched(case.source)["tables"][wanted.table]["flags"]
    assert wanted.flag not in flags, "the sample has this flag already"
    case.run(folder, out, case.source, **case.options)
    flags = read_json(out / schema.QUALITY_FILE)["tables"][wanted.table]["flags"]
    assert flags[wanted.flag]["rows"] == wanted.rows
    assert len(flags[wanted.flag]["meaning"]) > 20
    assert holds(out, wanted.code, wanted.kept), measurements(out).filter(pl.col("code") == wanted.code)


@pytest.mark.parametrize("case", cases(Read))
def test_read_as_it_is_meant(raw, tmp_path, case):
    folder, out = damaged(raw, case), tmp_path / "out"
    case.run(folder, out, case.source, **case.options)
    assert holds(out, case.gets.code, case.gets.kept), measurements(out)[schema.CODE].to_list()


def test_every_number_of_the_list_has_a_case_and_a_line_in_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "bad-inputs.md").read_text()
    told = {
        int(number): set(re.findall(r"\*\*(R|Q|F|ok)\*\*", line))
        for line in page.splitlines()
        if (match := re.match(r"\| (\d+) \|", line)) and (number := match[1])
    }
    done: dict[int, set[str]] = {}
    for case in CASES:
        done.setdefault(case.number, set()).add(LETTERS[type(case.gets)])
    assert set(done) == set(range(1, 45))
    for number, letters in done.items():
        assert letters == told[number], f"{number}: tests {letters}, docs/bad-inputs.md {told[number]}"


def test_an_existing_dataset_outlives_a_failed_run(raw, tmp_path):
    folder, out = raw("hospital"), tmp_path / "out"
    ingest("hospital", folder, out)
    before = contents(out)
    make("vitals.csv", lambda _: b"")(folder)
    for target in (out, tmp_path / "other"):
        with pytest.raises(Exception, match=r"already exists|is empty"):
            ingest("hospital", folder, target)
    assert contents(out) == before


def test_a_bomb_is_known_before_a_row_of_it_is_read(raw, tmp_path, monkeypatch):
    """Its 25 million lines that are no rows would take DuckDB 100 GB, and nothing interrupts it among them."""
    folder, load = raw("hospital"), DuckDB.load
    pack("vitals.csv", bomb)(folder)

    def watched(engine: DuckDB, name: str, *rest: Any) -> Any:
        assert name != "all_vitals", "the bomb was read"
        return load(engine, name, *rest)

    monkeypatch.setattr(DuckDB, "load", watched)
    with pytest.raises(InputError, match="200 times its size"):
        ingest("hospital", folder, tmp_path / "out")
