"""Synthetic subjects as tables with ids and dates: what every format is written from, and reads back to.

A generator of histories says nothing of dates, so they are invented: stays of some days, log-normal gaps between
them, birth so that the age at the first discharge is the age asked for. Nothing may be concluded from them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.apps.synth.codes.sequences import Records
from caretrace.apps.synth.codes.vocabulary import SPECIAL, UNKNOWN, Vocabulary
from caretrace.apps.synth.models.noise import uniform
from caretrace.errors import InputError
from caretrace.evaluation.histories import Floats, Histories, Ints, gather

# Columns of the three tables, beside those of `schema`.
VISIT_ID, ADMIT, DISCHARGE, BIRTH, SEX, PLACE = "visit_id", "admit", "discharge", "birth", "sex", "place"
SEXES = ("F", "M")
FIRST_SUBJECT = (
    900_000_001  # beyond the ids of the public data sets, so that nothing is taken for one of theirs
)
VISITS_OF_A_SUBJECT = 10_000  # visit_id = subject_id * this + number of the visit
DAYS_A_YEAR = 365.25
FLAG = "SYNTHETIC"  # what every file says

_START = np.datetime64("2030-01-01T00:00:00")  # in the future, because nothing of this has happened
_SPAN_DAYS, _GAP_DAYS, _GAP_SPREAD, _STAY_DAYS = 3650, 120.0, 1.0, 4.0
_DATES = 1 << 61  # addresses of the draws, beyond those of the tokens


@dataclasses.dataclass(frozen=True, eq=False)
class Tables:
    """Some subjects.

    Args:
        people: `subject_id`, `sex` (F, M), `birth`.
        visits: `subject_id`, `visit_id`, `admit`, `discharge`.
        diagnoses: `subject_id`, `visit_id`, `place` (1, 2, …), `code`.
    """

    people: pl.DataFrame
    visits: pl.DataFrame
    diagnoses: pl.DataFrame


def tables_of(subject: Ints, records: Records, vocabulary: Vocabulary, seed: int) -> Tables:
    """Tables of drawn subjects.

    Args:
        subject: `[subject]`, their numbers from 0; ids follow from them.
        records: What was drawn.
        vocabulary: Of the codes.
        seed: Of the sample; dates are drawn from it too.

    Raises:
        InputError: A subject without a visit has no age, or one has more visits than ids.
    """
    h = records.histories
    if len(h) and (h.visit_count.min() < 1 or h.visit_count.max() >= VISITS_OF_A_SUBJECT):
        raise InputError(
            f"subjects have {h.visit_count.min()} to {h.visit_count.max()} visits; to be written they need 1 to "
            f"{VISITS_OF_A_SUBJECT - 1}; train on subjects with visits"
        )
    who = FIRST_SUBJECT + subject
    admit, discharge = _stays(h, subject, seed)
    first = np.cumsum(h.visit_count) - h.visit_count
    part = 0.1 + 0.8 * _uniform(seed, subject, 0)
    birth = discharge[first] - ((h.age + part) * DAYS_A_YEAR).astype("timedelta64[D]")
    visit_id = who[h.visit_subject] * VISITS_OF_A_SUBJECT + h.visit_rank + 1
    names = pl.Series([*vocabulary.codes, SPECIAL[UNKNOWN]])
    ends = np.cumsum(h.code_count) - h.code_count
    return Tables(
        people=pl.DataFrame(
            {
                schema.SUBJECT_ID: who,
                SEX: pl.Series(SEXES).gather(h.sex),
                BIRTH: birth.astype("datetime64[D]"),
            }
        ).with_columns(pl.col(BIRTH).cast(pl.Datetime("us"))),
        visits=pl.DataFrame(
            {
                schema.SUBJECT_ID: who[h.visit_subject],
                VISIT_ID: visit_id,
                ADMIT: admit.astype("datetime64[us]"),
                DISCHARGE: discharge.astype("datetime64[us]"),
            }
        ),
        diagnoses=pl.DataFrame(
            {
                schema.SUBJECT_ID: who[h.token_subject],
                VISIT_ID: visit_id[h.token_visit],
                PLACE: np.arange(len(h.code)) - ends[h.token_visit] + 1,
                schema.CODE: names.gather(h.code),
            }
        ),
    )


def histories_of_texts(
    people: pl.DataFrame, visits: pl.DataFrame, diagnoses: pl.DataFrame, vocabulary: Vocabulary
) -> Histories:
    """The histories in tables of texts, as files hold them.

    Args:
        people: Columns, in this order and under any name: subject, sex (F, M), birth.
        visits: Subject, visit, admission, discharge.
        diagnoses: Subject, visit, place within it, code.
        vocabulary: Of the codes.

    Raises:
        InputError: A number or time that is none, or a diagnosis that does not fit.
    """
    shapes = (
        (people, (schema.SUBJECT_ID, SEX, BIRTH)),
        (visits, (schema.SUBJECT_ID, VISIT_ID, ADMIT, DISCHARGE)),
        (diagnoses, (schema.SUBJECT_ID, VISIT_ID, PLACE, schema.CODE)),
    )
    try:
        read = [
            frame.rename(dict(zip(frame.columns, names, strict=True))).select(map(_typed, names))
            for frame, names in shapes
        ]
    except pl.exceptions.PolarsError as error:
        raise InputError(f"a number or a time is none ({error}); give the files of one export") from None
    return histories_of(Tables(*read), vocabulary)


def _typed(name: str) -> pl.Expr:
    if name in (SEX, schema.CODE):
        return pl.col(name)
    if name in (BIRTH, ADMIT, DISCHARGE):
        return pl.col(name).str.replace("T", " ").str.strip_suffix("Z").str.to_datetime(time_unit="us")
    return pl.col(name).cast(pl.Int64)


def histories_of(tables: Tables, vocabulary: Vocabulary) -> Histories:
    """The histories that tables were made from, in order of subject and admission.

    Raises:
        InputError: A code that the vocabulary does not have, or a diagnosis of no visit.
    """
    people = tables.people.sort(schema.SUBJECT_ID)
    visits = tables.visits.sort(schema.SUBJECT_ID, ADMIT).with_row_index("visit")
    numbers = {**vocabulary.number, SPECIAL[UNKNOWN]: vocabulary.n_codes - 1}
    coded = tables.diagnoses.join(visits.select(VISIT_ID, "visit"), on=VISIT_ID, how="left").with_columns(
        pl.col(schema.CODE).replace_strict(numbers, default=None, return_dtype=pl.Int64).alias("number")
    )
    for column, what in (("number", "code"), ("visit", "visit")):
        lost = coded.filter(pl.col(column).is_null())
        if len(lost):
            raise InputError(
                f"{what} of a diagnosis is not known: {lost.row(0)}; give the files of one export"
            )
    coded = coded.sort("visit", "number")
    first = visits.group_by(schema.SUBJECT_ID).agg(pl.col(DISCHARGE).first(), pl.len().alias("n"))
    joined = people.join(first, on=schema.SUBJECT_ID, how="left", maintain_order="left")
    age = ((joined[DISCHARGE] - joined[BIRTH]).dt.total_days() / DAYS_A_YEAR).floor()
    return Histories(
        age=age.to_numpy(),
        sex=np.searchsorted(SEXES, people[SEX].to_numpy().astype(str)),
        visit_count=joined["n"].fill_null(0).to_numpy(),
        code_count=np.bincount(coded["visit"].to_numpy().astype(np.int64), minlength=len(visits)),
        code=coded["number"].to_numpy(),
        n_codes=vocabulary.n_codes,
    )


def _stays(h: Histories, subject: Ints, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`[visit]`: admission and discharge, to the second."""
    whose, rank = subject[h.visit_subject], h.visit_rank
    stay = 1 + -_STAY_DAYS * np.log(_uniform(seed, whose, 8 * rank + 2))
    # Box and Muller 1958
    angle = 2 * np.pi * _uniform(seed, whose, 8 * rank + 4)
    normal = np.sqrt(-2 * np.log(_uniform(seed, whose, 8 * rank + 3))) * np.cos(angle)
    gap = 1 + _GAP_DAYS * np.exp(_GAP_SPREAD * normal)
    gap[rank == 0] = _SPAN_DAYS * _uniform(seed, whose[rank == 0], 1)
    days = np.cumsum(stay + gap)
    first = gather(h.visit_count, np.arange(len(h)))[rank == 0]
    before = np.repeat((days - stay - gap)[first], h.visit_count)
    end = _START + ((days - before) * 86400).astype("timedelta64[s]")
    return end - (stay * 86400).astype("timedelta64[s]"), end


def _uniform(seed: int, subject: Ints, draw: Ints | int) -> Floats:
    return uniform(seed, subject, np.asarray(draw) + _DATES)
