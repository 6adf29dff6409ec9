"""The register of subjects: every patient, member of staff and hospital once, each with a number of its own."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.hospital.operations.case import Case
from caretrace.hospital.operations.city import City, DayReport
from caretrace.hospital.staff.roster import GROUPS

Ints = NDArray[np.int64]

FIRST_PERSON = 20_000_000
ANOTHER_PERSON = 100_000_000  # added to the number of somebody who comes after dying: it is somebody else
FIRST_STAFF = 500_000_000  # plus staff_id
FIRST_SITE = 600_000_001


def site_name(number: int) -> str:
    """How the tables call a hospital: H01, H02, …"""
    return f"H{number + 1:02d}"


def unit_names(sites: int) -> list[str]:
    """Names of the units of staff: a hospital for nurses and physicians, EMS for ambulances."""
    names = [site_name(i) for i in range(sites)]
    return [*names, *names, "EMS"]


class Register:
    """Remembers who stands in the register: as much as the population is large, however long the period."""

    def __init__(self) -> None:
        # When each person of the population was last seen, minutes; 0 for who never was.
        self._seen = np.zeros(0, np.float32)
        self._deaths: dict[int, float] = {}
        self._others: set[int] = set()  # the few who got another number

    def bury(self, cases: Sequence[Case], died: Container[int]) -> None:
        """Nobody comes back from the dead: a case that goes on after a death of the same number gets another one.

        Who comes is drawn before it is known who dies, so that outcomes cannot disturb the flow of patients.

        Args:
            cases: Finished ones, changed in place.
            died: Numbers of the cases that ended in death.
        """
        for case in sorted(cases, key=_end):
            while _end(case) > self._deaths.get(case.subject_id, np.inf):
                case.subject_id += ANOTHER_PERSON
            if case.number in died:
                place = case.subject_id - FIRST_PERSON
                if place < len(self._seen) and self._seen[place] > _end(case):
                    case.subject_id += ANOTHER_PERSON
                self._deaths[case.subject_id] = _end(case)

    def opening(self, city: City) -> pl.DataFrame:
        """The hospitals, and the staff of the first day."""
        here = np.flatnonzero(city.staff.staff_id >= 0)
        sites = range(city.config.sites)
        rows = _rows("site", FIRST_SITE + np.arange(len(sites)), [site_name(i) for i in sites])
        return pl.concat([rows, _staff(city, city.staff.staff_id[here], here)])

    def hired(self, reports: Sequence[DayReport], city: City) -> pl.DataFrame:
        """Who joined the staff on some days."""
        changes = [report.turnover for report in reports]
        ids = np.concatenate([change.hired for change in changes])
        return _staff(city, ids, np.concatenate([change.post for change in changes]))

    def people(self, cases: Sequence[Case]) -> pl.DataFrame:
        """Those patients of `cases` who have not been here before."""
        new: set[int] = set()
        for case in cases:
            place = case.subject_id - FIRST_PERSON
            if place >= ANOTHER_PERSON:
                new |= {case.subject_id} - self._others
                self._others.add(case.subject_id)
                continue
            if place >= len(self._seen):
                self._seen = np.append(self._seen, np.zeros(place + 1, np.float32))
            if not self._seen[place]:
                new.add(case.subject_id)
            self._seen[place] = max(self._seen[place], _end(case))
        return _rows("patient", np.array(sorted(new), np.int64), [None] * len(new))


def _end(case: Case) -> float:
    """When the last thing of a case happened."""
    return float(np.nanmax([case.discharged, case.departed, case.cleared, case.began]))


def _staff(city: City, staff_id: Ints, post: Ints) -> pl.DataFrame:
    posts, names = city.staff.posts, unit_names(city.config.sites)
    text = [f"{GROUPS[posts.group[p]]} {names[posts.unit[p]]}" for p in post.tolist()]
    return _rows("staff", FIRST_STAFF + staff_id, text)


def _rows(kind: str, subject_id: Ints, name: Sequence[str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "subject_id": subject_id,
            "kind": pl.Series([kind] * len(subject_id), dtype=pl.String),
            "name": pl.Series(name, dtype=pl.String),
        }
    )
