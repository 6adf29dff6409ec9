"""FHIR R4: one Bundle per subject (Patient, Encounters, Conditions), one per line of `bundles.ndjson`.

Every resource carries the tag HTEST ("test health data", v3-ActReason), which systems know how to keep apart.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import polars as pl

from caretrace import schema
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.export.tables import (
    ADMIT,
    BIRTH,
    DISCHARGE,
    FLAG,
    PLACE,
    SEX,
    VISIT_ID,
    Tables,
    histories_of_texts,
)
from caretrace.errors import InputError
from caretrace.evaluation.histories import Histories

FILE = "bundles.ndjson"
ICD9 = "http://hl7.org/fhir/sid/icd-9-cm"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
TAG = {"system": TERMINOLOGY + "v3-ActReason", "code": "HTEST", "display": "test health data"}
_GENDERS = {"F": "female", "M": "male"}
Resource = dict[str, Any]


class Writer:
    """Writes chunk by chunk.

    Args:
        folder: An existing folder.
    """

    def __init__(self, folder: Path, vocabulary: Vocabulary) -> None:
        del vocabulary
        self._file = (folder / FILE).open("w", encoding="utf-8")

    def add(self, tables: Tables) -> None:
        """Write some more subjects."""
        visits = _by_subject(tables.visits)
        diagnoses = _by_subject(tables.diagnoses)
        for person in tables.people.iter_rows(named=True):
            subject = person[schema.SUBJECT_ID]
            ends = {visit[VISIT_ID]: visit[DISCHARGE] for visit in visits.get(subject, [])}
            resources = [
                _patient(person),
                *(_encounter(visit) for visit in visits.get(subject, [])),
                *(_condition(each, ends[each[VISIT_ID]]) for each in diagnoses.get(subject, [])),
            ]
            self._file.write(json.dumps(_bundle(subject, resources), separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def read(folder: Path, vocabulary: Vocabulary) -> Histories:
    """The histories that were written.

    Raises:
        InputError: The file is missing, is no list of bundles, or a resource does not say that it is synthetic.
    """
    people: list[tuple[str, ...]] = []
    visits: list[tuple[str, ...]] = []
    diagnoses: list[tuple[str, ...]] = []
    sexes = {name: short for short, name in _GENDERS.items()}
    for resource in _resources(folder / FILE):
        kind, identity = resource["resourceType"], _last(resource["id"])
        if kind == "Patient":
            people.append((identity, sexes[resource["gender"]], resource["birthDate"] + " 00:00:00"))
            continue
        subject = _last(resource["subject"]["reference"])
        if kind == "Encounter":
            visits.append((subject, identity, resource["period"]["start"], resource["period"]["end"]))
        else:
            visit, code = _last(resource["encounter"]["reference"]), resource["code"]["coding"][0]["code"]
            diagnoses.append((subject, visit, identity, code))
    return histories_of_texts(_texts(people, 3), _texts(visits, 4), _texts(diagnoses, 4), vocabulary)


def _texts(rows: list[tuple[str, ...]], width: int) -> pl.DataFrame:
    return pl.DataFrame(rows, [(str(column), pl.String) for column in range(width)], orient="row")


def _last(reference: str) -> str:
    """What stands behind the last dash of an id."""
    return reference.rpartition("-")[2]


def _resources(path: Path) -> list[Resource]:
    try:
        bundles = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = [entry["resource"] for bundle in bundles for entry in bundle["entry"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no list of bundles ({error}); give what `caretrace generate` wrote"
        ) from None
    for resource in [*bundles, *found]:
        if TAG not in resource.get("meta", {}).get("tag", []):
            raise InputError(
                f"{path}: {resource.get('resourceType')} {resource.get('id')} does not say that it is {FLAG}"
            )
    return found


def _by_subject(frame: pl.DataFrame) -> dict[int, list[dict[str, Any]]]:
    out: dict[int, list[dict[str, Any]]] = {}
    for row in frame.iter_rows(named=True):
        out.setdefault(row[schema.SUBJECT_ID], []).append(row)
    return out


def _bundle(subject: int, resources: list[Resource]) -> Resource:
    entries = [
        {"fullUrl": f"https://synthetic.invalid/{r['resourceType']}/{r['id']}", "resource": r}
        for r in resources
    ]
    return {
        "resourceType": "Bundle",
        "id": f"bundle-{subject}",
        "meta": {"tag": [TAG]},
        "type": "collection",
        "entry": entries,
    }


def _patient(person: dict[str, Any]) -> Resource:
    return {
        "resourceType": "Patient",
        "id": f"patient-{person[schema.SUBJECT_ID]}",
        "meta": {"tag": [TAG]},
        "name": [{"text": f"{FLAG} {person[schema.SUBJECT_ID]}"}],
        "gender": _GENDERS[person[SEX]],
        "birthDate": person[BIRTH].date().isoformat(),
    }


def _encounter(visit: dict[str, Any]) -> Resource:
    return {
        "resourceType": "Encounter",
        "id": f"encounter-{visit[VISIT_ID]}",
        "meta": {"tag": [TAG]},
        "status": "finished",
        "class": {"system": TERMINOLOGY + "v3-ActCode", "code": "IMP", "display": "inpatient encounter"},
        "subject": {"reference": f"Patient/patient-{visit[schema.SUBJECT_ID]}"},
        "period": {"start": _time(visit[ADMIT]), "end": _time(visit[DISCHARGE])},
    }


def _condition(each: dict[str, Any], end: dt.datetime) -> Resource:
    category = {"system": TERMINOLOGY + "condition-category", "code": "encounter-diagnosis"}
    status = {"system": TERMINOLOGY + "condition-clinical", "code": "active"}
    return {
        "resourceType": "Condition",
        "id": f"condition-{each[VISIT_ID]}-{each[PLACE]}",
        "meta": {"tag": [TAG]},
        "clinicalStatus": {"coding": [status]},
        "category": [{"coding": [category]}],
        "code": {"coding": [{"system": ICD9, "code": each[schema.CODE]}]},
        "subject": {"reference": f"Patient/patient-{each[schema.SUBJECT_ID]}"},
        "encounter": {"reference": f"Encounter/encounter-{each[VISIT_ID]}"},
        "recordedDate": _time(end),
    }


def _time(value: dt.datetime) -> str:
    return value.isoformat(timespec="seconds") + "Z"
