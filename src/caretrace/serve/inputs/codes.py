"""Which code of which vocabulary is which channel, and which units a channel may come in."""

from __future__ import annotations

from typing import Final

from caretrace.serve.live.samples import BadSampleError

LOINC: Final = "http://loinc.org"
# https://loinc.org, the codes of the FHIR vital signs profile (https://hl7.org/fhir/R4/observation-vitalsigns.html)
# and the second code that pulse oximeters use.
OF_LOINC: Final = {
    "8867-4": "hr",
    "2708-6": "spo2",
    "59408-5": "spo2",
    "9279-1": "resp",
    "8480-6": "sbp",
    "8462-4": "dbp",
    "8478-0": "map",
    "8310-5": "temp",
}
# ISO/IEEE 11073-10101, by reference identifier: what monitors send (IHE PCD-01).
OF_MDC: Final = {
    "MDC_ECG_HEART_RATE": "hr",
    "MDC_PULS_OXIM_SAT_O2": "spo2",
    "MDC_RESP_RATE": "resp",
    "MDC_TTHOR_RESP_RATE": "resp",
    "MDC_PRESS_BLD_ART_ABP_SYS": "sbp",
    "MDC_PRESS_BLD_ART_ABP_DIA": "dbp",
    "MDC_PRESS_BLD_ART_ABP_MEAN": "map",
    "MDC_PRESS_BLD_NONINV_SYS": "sbp",
    "MDC_PRESS_BLD_NONINV_DIA": "dbp",
    "MDC_PRESS_BLD_NONINV_MEAN": "map",
    "MDC_TEMP": "temp",
    "MDC_TEMP_BODY": "temp",
}
_RATE = frozenset(
    {"/min", "{beats}/min", "{breaths}/min", "1/min", "MDC_DIM_BEAT_PER_MIN", "MDC_DIM_RESP_PER_MIN"}
)
_PERCENT = frozenset({"%", "MDC_DIM_PERCENT"})
_PRESSURE = frozenset({"mm[Hg]", "mmHg", "MDC_DIM_MMHG"})
_CELSIUS = frozenset({"Cel", "°C", "MDC_DIM_DEGC"})
_FAHRENHEIT = frozenset({"[degF]", "°F", "MDC_DIM_FAHR"})
_UNITS: Final = {
    "hr": _RATE, "resp": _RATE, "spo2": _PERCENT, "sbp": _PRESSURE, "dbp": _PRESSURE, "map": _PRESSURE,
    "temp": _CELSIUS | _FAHRENHEIT,
}  # fmt: skip


def in_our_unit(channel: str, value: float, unit: str | None, where: str) -> float:
    """A value in the channel's unit.

    Args:
        channel: Name of the channel.
        value: As it was sent.
        unit: UCUM, or the reference identifier of ISO/IEEE 11073.
        where: Of the field, for the message.

    Raises:
        BadSampleError: No unit, or one that cannot be converted: guessing would make 98.6 °F a fever of 98.6 °C.
    """
    if unit is None or unit not in _UNITS[channel]:
        raise BadSampleError(
            f"{where}: {channel} in {str(unit)[:20]!r}; give it in one of {', '.join(sorted(_UNITS[channel]))}"
        )
    return (value - 32.0) / 1.8 if unit in _FAHRENHEIT else value


def subject_of(text: str, where: str) -> int:
    """A subject's number from an identifier.

    Raises:
        BadSampleError: It is no whole number that MEDS could hold.
    """
    digits = text.removeprefix("-")
    if (
        digits.isascii()
        and digits.isdigit()
        and -(2**63) <= int(text[:20] or "0") < 2**63
        and len(text) <= 20
    ):
        return int(text)
    raise BadSampleError(f"{where}: the patient must be named by the subject_id, a whole number")
