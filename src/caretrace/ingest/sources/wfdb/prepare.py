"""Numerics records (`.hea`, `.dat`) as one row per valid sample, written record by record.

The wfdb library reads the records; it is the extra `wfdb`. A gap (NaN) is no row. A record with a faster
signal than numerics have is a waveform: it is named in the quality report and not read.
"""

from __future__ import annotations

import datetime as dt
import glob
import importlib
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caretrace.errors import InputError
from caretrace.ingest.reading import refuse_escape
from caretrace.ingest.vital_columns import concept_of, plain

# Numerics come once a second or once a minute; waveforms 62.5 times a second and more.
FASTEST_NUMERICS_HZ = 4.0
NOMINAL_START = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - nominal, no zone
_SAMPLES = 1 << 16

# Names of the bedside monitors in MIMIC's numerics, as `plain` writes them → quantity, last part of the code.
_SIGNALS = {
    "pulse": ("heart_rate", "pulse_rate"),
    **{f"{line} sys": ("systolic_pressure", "systolic_pressure") for line in ("abp", "art", "ao")},
    **{f"{line} dias": ("diastolic_pressure", "diastolic_pressure") for line in ("abp", "art", "ao")},
    **{f"{line} mean": ("mean_pressure", "mean_pressure") for line in ("abp", "art", "ao")},
    **{f"{line} sys": ("systolic_pressure", "noninvasive_systolic_pressure") for line in ("nbp", "nibp")},
    **{f"{line} dias": ("diastolic_pressure", "noninvasive_diastolic_pressure") for line in ("nbp", "nibp")},
    **{f"{line} mean": ("mean_pressure", "noninvasive_mean_pressure") for line in ("nbp", "nibp")},
    "cvp": ("central_venous_pressure", "central_venous_pressure"),
    "pap sys": ("pulmonary_systolic_pressure", "pulmonary_systolic_pressure"),
    "pap dias": ("pulmonary_diastolic_pressure", "pulmonary_diastolic_pressure"),
    "pap mean": ("pulmonary_mean_pressure", "pulmonary_mean_pressure"),
    "tblood": ("temperature", "blood_temperature"),
    "etco2": ("end_tidal_carbon_dioxide", "end_tidal_carbon_dioxide"),
}
# What monitors write where they mean "no unit" or leave its first half out.
_NO_UNIT = {"", "nu", "nd", "pm", "none", "adu"}

_SUBJECT = re.compile(r"^\W*(?:subject|patient)(?:[ _]?id)?\W*[:=>]\W*([\w-]+)", re.IGNORECASE)
_FOLDER = re.compile(r"p(\d{6})")
_AGE = re.compile(r"\bage\W*[:=>]\W*(\d{1,3})\b", re.IGNORECASE)
_SEX = re.compile(r"\b(?:sex|gender)\W*[:=>]\W*([MF])", re.IGNORECASE)

_SHAPE = pa.schema(
    {
        **dict.fromkeys(("subject", "kind", "concept", "quantity", "name", "text", "unit"), pa.string()),
        **dict.fromkeys(("mapping", "dates", "file"), pa.string()),
        "number": pa.float64(),
        "time": pa.timestamp("us"),
        "row": pa.int64(),
    }
)


class _Record(NamedTuple):
    """One record: its header, and what every row of it shares.

    Args:
        path: The header file.
        label: What reports call it.
        header: As wfdb reads it.
        subject: Name of the subject.
        start: Time of the first sample.
        dated: The header says so; else the start is nominal.
    """

    path: Path
    label: str
    header: Any
    subject: str
    start: dt.datetime
    dated: bool

    def rows(self, **columns: Any) -> pa.Table:
        """A table of `_SHAPE`; what is not given is empty, one value stands for all rows."""
        number = max((len(value) for value in columns.values() if isinstance(value, np.ndarray)), default=1)
        fixed = {"subject": self.subject, "file": self.label, "dates": "real" if self.dated else "nominal"}
        filled = {"time": np.full(number, self.start, "M8[us]"), "row": np.zeros(number, np.int64), **fixed}
        filled |= columns
        arrays = []
        for field in _SHAPE:
            value = filled.get(field.name)
            is_array = isinstance(value, np.ndarray)
            arrays.append(pa.array(value if is_array else [value] * number, field.type))
        return pa.table(arrays, schema=_SHAPE)


def prepare(raw: Path, work: Path, options: Mapping[str, str]) -> tuple[Path, list[str]]:
    """Write `samples.parquet` to `work`.

    Args:
        raw: Folder with records, at any depth.
        work: Folder to write to; made when needed.
        options: `subject`: `folder` or `record`, see events.yaml.

    Returns:
        `work`, and patterns of the raw files that were read.

    Raises:
        InputError: No record, a damaged one, a header that leads out of its folder, or wfdb is not installed.
    """
    library = _library()
    headers = sorted(raw.rglob("*.hea"))
    if not headers:
        raise InputError(f"{raw}: no WFDB record (.hea) in it; give the folder with the records")
    records = [_open(library, path, raw, options) for path in headers]
    segments = {
        (record.path.parent / name).with_suffix(".hea")
        for record in records
        for name in getattr(record.header, "seg_name", None) or []
    }
    work.mkdir(parents=True)
    with pq.ParquetWriter(work / "samples.parquet", _SHAPE, compression="zstd") as writer:
        for record in records:
            if record.path not in segments:
                for table in _tables(library, record):
                    writer.write_table(table)
    read = [path.relative_to(raw).as_posix() for path in headers]
    data = [name for record in records for name in _data_files(record, raw)]
    return work, [glob.escape(name) for name in (*read, *data)]


def _library() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wfdb 4.3 uses what pandas 3 has deprecated
            return importlib.import_module("wfdb")
    except ImportError as error:
        raise InputError(
            f"reading WFDB records needs the wfdb library ({error}): pip install 'caretrace[wfdb]'"
        ) from None


def _open(library: Any, path: Path, raw: Path, options: Mapping[str, str]) -> _Record:
    label = path.relative_to(raw).as_posix()
    refuse_escape(path, raw)
    _refuse_names_that_lead_out(path, label)
    try:
        header = library.rdheader(str(path.with_suffix("")))
    except Exception as error:  # noqa: BLE001 - the library raises many kinds for a damaged header
        raise InputError(f"{label} is not a WFDB header ({_reason(error)}); fetch it again") from None
    if header.base_datetime is not None:
        start, dated = header.base_datetime, True
    else:
        clock = header.base_time or dt.time()
        start, dated = dt.datetime.combine(NOMINAL_START.date(), clock), False
    return _Record(path, label, header, _subject(path, header, options), start, dated)


def _refuse_names_that_lead_out(path: Path, label: str) -> None:
    """The names of data files and segments stand in the header, so anybody can have written anything there."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{label} cannot be read ({_reason(error)}); fetch it again") from None
    for line in lines:
        name = line.split()[0] if line.strip() and not line.lstrip().startswith("#") else ""
        if ".." in name.split("/") or name.startswith(("/", "~")) or "\\" in name or ":" in name:
            raise InputError(f"{label} names the file {name!r} outside its folder; do not use this record")


def _subject(path: Path, header: Any, options: Mapping[str, str]) -> str:
    record = path.stem.removesuffix("n") if _FOLDER.match(path.stem) else path.stem
    if options.get("subject") == "record":
        return record
    if options.get("subject") == "folder":
        return path.parent.name
    for comment in header.comments or []:
        if found := _SUBJECT.match(comment):
            return found.group(1)
    for name in (path.parent.name, path.stem):
        if found := _FOLDER.match(name):
            return str(int(found.group(1)))
    return record


def _data_files(record: _Record, raw: Path) -> list[str]:
    names = {name for name in getattr(record.header, "file_name", None) or [] if name and name != "~"}
    return [(record.path.parent / name).relative_to(raw).as_posix() for name in sorted(names)]


def _tables(library: Any, record: _Record) -> Iterator[pa.Table]:
    header = record.header
    if not header.sig_len or not header.n_sig:
        yield record.rows(kind="empty", name=record.path.stem)
        return
    if header.fs > FASTEST_NUMERICS_HZ:
        said = f"a waveform of {header.fs:g} Hz"
        yield record.rows(kind="not_mapped", name=record.path.stem, text="waveform", mapping=said)
        return
    yield from _about_the_subject(record)
    valid = np.zeros(0, np.int64)
    names: list[str] = []
    for first in range(0, header.sig_len, _SAMPLES):
        piece = _piece(library, record, first, min(first + _SAMPLES, header.sig_len))
        names = names or list(piece.sig_name)
        valid = np.zeros(len(names), np.int64) if not len(valid) else valid
        for index, (name, unit) in enumerate(zip(piece.sig_name, piece.units, strict=True)):
            table = _signal(record, name, unit or "", piece.p_signal[:, index], first)
            valid[index] += len(table)
            yield table
    for name, number in zip(names, valid, strict=True):
        if not number:
            yield record.rows(kind="empty", name=name)


def _piece(library: Any, record: _Record, first: int, last: int) -> Any:
    try:
        piece = library.rdrecord(str(record.path.with_suffix("")), sampfrom=first, sampto=last)
    except Exception as error:  # noqa: BLE001 - the library raises many kinds for a damaged file
        raise InputError(
            f"{record.label} samples {first} to {last} cannot be read ({_reason(error)}); is its .dat file "
            "there and whole? Fetch the record again"
        ) from None
    if piece.p_signal is None or len(piece.p_signal) != last - first:
        raise InputError(f"{record.label}: the .dat file ends before sample {last}; fetch the record again")
    return piece


def _signal(record: _Record, name: str, unit: str, values: np.ndarray[Any, Any], first: int) -> pa.Table:
    """The valid samples of one signal; time is start + sample / frequency, to the microsecond."""
    concept, code = _SIGNALS.get(_spaced(name), (None, None))
    if concept is None:
        concept = concept_of(name)[0]
        code = concept
    samples = np.flatnonzero(np.isfinite(values))
    moved = np.round((samples + first) / record.header.fs * 1e6).astype("m8[us]")
    unit = unit.strip()
    said = f"{name} is {code} [{unit}]" if concept else f"{name} [{unit}] is kept as OTHER//{name}"
    return record.rows(
        kind="vital" if concept else "other",
        concept=concept,
        quantity=code,
        name=name,
        unit=None if unit.lower() in _NO_UNIT else unit,
        mapping=said,
        number=values[samples].astype(np.float64),
        time=np.datetime64(record.start, "us") + moved,
        row=samples + first + 1,
    )


def _about_the_subject(record: _Record) -> Iterator[pa.Table]:
    text = " ".join(record.header.comments or [])
    if found := _AGE.search(text):
        age = np.array([float(found.group(1))])
        yield record.rows(kind="age", name="Age", concept="age", number=age, unit="years")
    if found := _SEX.search(text):
        yield record.rows(kind="gender", name="Sex", text=found.group(1).upper())


def _spaced(name: str) -> str:
    """`ABPSys`, `ABP SYS` and `NBP Mean` in one spelling."""
    return re.sub(r"^([a-z]{2,4}) ?(sys|dias|mean)$", r"\1 \2", plain(name))


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
