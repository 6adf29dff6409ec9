"""HL7 v2: an unsolicited observation (ORU^R01) → a batch. Codes are LOINC (`LN`) or ISO/IEEE 11073 (`MDC`).

Read are PID-3 (the subject), OBR-7 and OBX-14 (when), and of each numeric OBX the code (3), value (5), unit (6) and
status (11). MSH-3 and MSH-10 make the batch id: a message that is sent again is the same batch.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Any

from caretrace.errors import ConfigError
from caretrace.serve.inputs.codes import OF_LOINC, OF_MDC, in_our_unit, subject_of
from caretrace.serve.inputs.fhir import Sample, as_batch, clean_id
from caretrace.serve.live.samples import BadSampleError, Batch

KIND = "application/hl7-v2"
_MEASURED = frozenset({"F", "C", "P", "R", ""})
_TIME = re.compile(r"(\d{14})(?:\.(\d{1,6}))?([+-]\d{4})")
_START, _END = "\x0b", "\x1c"  # of a block, where the sender left MLLP's frame on


def parse_oru(body: bytes, most: int) -> Batch:
    """Read one message.

    Args:
        body: The message, segments ended by carriage returns; UTF-8.
        most: Samples that one batch may have.

    Raises:
        BadSampleError: It is no such message, or an OBX of a vital sign cannot be used; the message says which.
        ConfigError: The extra `hl7` is not installed.
    """
    message = _parsed(body)
    kind = [str(part) for part in (message.segment("MSH")[9][0] if len(message.segment("MSH")) > 9 else [])]
    if [_text(part) for part in kind[:2]] != ["ORU", "R01"]:
        raise BadSampleError("MSH-9: no observation; send ORU^R01")
    samples: list[Sample] = []
    subject, of_order = None, ""
    for number, segment in enumerate(message, start=1):
        name = str(segment[0])
        if name == "PID":
            subject = subject_of(_field(segment, 3, 0), f"segment {number}, PID-3")
        elif name == "OBR":
            of_order = _field(segment, 7, 0)
        elif name == "OBX":
            found = _sample(segment, f"segment {number}", subject, of_order)
            samples += [] if found is None else [found]
    if not samples:
        raise BadSampleError(
            "OBX: none is a vital sign; read are LN and MDC codes of vital signs with a number"
        )
    if len(samples) > most:
        raise BadSampleError(f"OBX: {len(samples)} samples; send at most {most} in one message")
    msh = message.segment("MSH")
    control = _field(msh, 10, 0)
    return as_batch(clean_id("hl7", f"{_field(msh, 3, 0)}:{control}" if control else None, body), samples)


def _parsed(body: bytes) -> Any:
    try:
        import hl7
    except ModuleNotFoundError:
        raise ConfigError("HL7 v2 messages need the extra hl7: pip install 'caretrace[hl7]'") from None
    try:
        text = body.decode("utf-8").strip(_START + _END + "\r\n")
        message = hl7.parse(text.replace("\r\n", "\r").replace("\n", "\r"))
        message.segment("MSH")
    except Exception as error:  # noqa: BLE001 - the reader raises what it meets: IndexError, KeyError, ValueError, …
        raise BadSampleError(
            f"body: no HL7 v2 message ({type(error).__name__}); it begins with MSH"
        ) from None
    return message


def _sample(segment: Any, where: str, subject: int | None, of_order: str) -> Sample | None:
    if _field(segment, 2, 0) not in ("NM", "SN", "") or _field(segment, 11, 0) not in _MEASURED:
        return None
    channel = _channel(segment)
    given = _field(segment, 5, 0)
    if channel is None or not given:
        return None
    if subject is None:
        raise BadSampleError(f"{where}, OBX: no PID before it; whose vital sign is it?")
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadSampleError(f"{where}, OBX-5: no number; leave out what was not measured")
    units = [_field(segment, 6, part) for part in (0, 1)]
    unit = next((each for each in units if each.startswith("MDC_")), units[0]) or None
    time = _time(_field(segment, 14, 0) or of_order, where)
    return subject, time, channel, in_our_unit(channel, value, unit, f"{where}, OBX-6")


def _channel(segment: Any) -> str | None:
    """From the code, its name or its alternative (components 1 to 6 of OBX-3)."""
    code = [_field(segment, 3, part) for part in range(6)]
    for first in (0, 3):
        if code[first + 2] == "LN" and code[first] in OF_LOINC:
            return OF_LOINC[code[first]]
        if code[first + 2] == "MDC" and code[first + 1] in OF_MDC:
            return OF_MDC[code[first + 1]]
    return None


def _field(segment: Any, number: int, part: int) -> str:
    """One component of the first repetition of a field; empty where there is none."""
    try:
        value = segment[number][0]
        while isinstance(value, list) and value and isinstance(value[0], list) and len(value) == 1:
            value = value[0]
        return _text(value[part]) if isinstance(value, list) else (_text(value) if part == 0 else "")
    except IndexError:
        return ""


def _text(value: Any) -> str:
    return str(value).strip()


def _time(text: str, where: str) -> float:
    """Epoch seconds of an HL7 time with seconds and zone: without a zone it could be any of 24 hours."""
    match = _TIME.fullmatch(text)
    try:
        moment = None if match is None else dt.datetime.strptime(match[1] + match[3], "%Y%m%d%H%M%S%z")
    except ValueError:  # a 13th month
        moment = None
    if match is None or moment is None:
        raise BadSampleError(f"{where}, OBX-14: give time and zone, such as 20260131080000+0000")
    return moment.timestamp() + float(f"0.{match[2] or 0}")
