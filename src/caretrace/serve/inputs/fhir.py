"""FHIR R4: a Bundle of Observations → a batch. https://hl7.org/fhir/R4/observation-vitalsigns.html.

Read are observations of `codes.OF_LOINC`, single or as components (a blood pressure panel); others, and those that
were entered in error, are left out. The bundle's identifier, else its id, is the batch id; without either it is a
hash of the bundle, so that the same bundle sent again is still the same batch.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from caretrace.errors import ConfigError
from caretrace.serve.inputs.codes import LOINC, OF_LOINC, in_our_unit, subject_of
from caretrace.serve.live.samples import NUMBER, BadSampleError, Batch

KIND = "application/fhir+json"
_MEASURED = frozenset({"final", "amended", "corrected", "preliminary", "registered"})
_NOT_OF_AN_ID = re.compile(r"[^A-Za-z0-9._:@+-]")
_MOST_OF_AN_ID = 100
# subject, epoch seconds, channel, value
Sample = tuple[int, float, str, float]


def parse_bundle(body: bytes, most: int) -> Batch:
    """Read a bundle.

    Args:
        body: JSON of a FHIR R4 Bundle.
        most: Samples that one batch may have.

    Raises:
        BadSampleError: It is no bundle, or an observation of a vital sign cannot be used; the message says which.
        ConfigError: The extra `fhir` is not installed.
    """
    try:
        from fhir.resources.R4B.bundle import Bundle
        from pydantic import ValidationError
    except ModuleNotFoundError:
        raise ConfigError("FHIR bundles need the extra fhir: pip install 'caretrace[fhir]'") from None
    try:
        bundle: Any = Bundle.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise BadSampleError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}; send a FHIR R4 Bundle"
        ) from None
    samples: list[Sample] = []
    for number, entry in enumerate(bundle.entry or []):
        if entry.resource is not None and entry.resource.get_resource_type() == "Observation":
            samples += _samples(entry.resource, f"entry[{number}].resource")
    if not samples:
        raise BadSampleError(
            f"entry: none of {len(bundle.entry or [])} is a vital sign; read are the LOINC codes {', '.join(OF_LOINC)}"
        )
    if len(samples) > most:
        raise BadSampleError(f"entry: {len(samples)} samples; send at most {most} in one bundle")
    return as_batch(_name(bundle, body), samples)


def as_batch(batch_id: str, samples: list[Sample]) -> Batch:
    """Samples as the columns of a batch."""
    subject, time, channel, value = zip(*samples, strict=True)
    return Batch(
        batch_id,
        np.array(subject, np.int64),
        np.array(time, np.float64),
        np.array([NUMBER[name] for name in channel], np.int16),
        np.array(value, np.float32),
    )


def clean_id(prefix: str, text: str | None, body: bytes) -> str:
    """A batch id from what the sender calls it, or from what it sends."""
    if text and len(text) <= _MOST_OF_AN_ID and not _NOT_OF_AN_ID.search(text):
        return f"{prefix}:{text}"
    told = text.encode() if text else body
    return f"{prefix}:{hashlib.blake2b(told, digest_size=16).hexdigest()}"


def _name(bundle: Any, body: bytes) -> str:
    identifier = bundle.identifier.value if bundle.identifier is not None else None
    return clean_id("fhir", identifier or bundle.id, body)


def _samples(observation: Any, where: str) -> Iterator[Sample]:
    if observation.status not in _MEASURED:
        return
    found = [(observation, where)]
    found += [(part, f"{where}.component[{n}]") for n, part in enumerate(observation.component or [])]
    known = [(each, channel, place) for each, place in found if (channel := _channel(each.code)) is not None]
    if not known:
        return
    subject, time = _subject(observation, where), _time(observation, where)
    for each, channel, place in known:
        quantity = each.valueQuantity
        if quantity is None or quantity.value is None:
            continue  # not measured: dataAbsentReason says why
        value = float(quantity.value)
        yield (
            subject,
            time,
            channel,
            in_our_unit(channel, value, quantity.code or quantity.unit, f"{place}.valueQuantity"),
        )


def _channel(concept: Any) -> str | None:
    for coding in concept.coding or []:
        if coding.system == LOINC and coding.code in OF_LOINC:
            return OF_LOINC[coding.code]
    return None


def _subject(observation: Any, where: str) -> int:
    subject = observation.subject
    if subject is None:
        raise BadSampleError(f"{where}.subject: missing; whose vital sign is it?")
    if subject.reference:
        return subject_of(str(subject.reference).rpartition("/")[2], f"{where}.subject.reference")
    identifier = subject.identifier.value if subject.identifier is not None else None
    return subject_of(str(identifier or ""), f"{where}.subject.identifier")


def _time(observation: Any, where: str) -> float:
    time = observation.effectiveDateTime or observation.effectiveInstant
    if not isinstance(time, dt.datetime) or time.tzinfo is None:
        raise BadSampleError(
            f"{where}.effectiveDateTime: give date, time and zone, such as 2026-01-31T08:00:00Z"
        )
    return time.timestamp()
