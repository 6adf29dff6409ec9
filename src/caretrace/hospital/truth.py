"""What the tables hide: the severity behind them and the oracle's chances of death."""

from __future__ import annotations

import numpy as np
import polars as pl

from caretrace.hospital import catalogue
from caretrace.hospital.columns import words
from caretrace.hospital.course import LANDMARK_HOURS
from caretrace.hospital.population import People
from caretrace.hospital.severity import PHASES
from caretrace.hospital.timeline import Admissions, Stays

README = """# Truth of the simulated hospital

Simulated; no real person is in here. `caretrace ingest` never reads this folder: a model that saw it
would see the answer. Times and ids are those of the raw tables.

- `stays.parquet`, one row per ICU stay: what the stay was (`problem`, `frailty`, `age`, deaths), its latent
  `severity_*`, and at 24 h and 48 h after ICU admission (null when the stay was over) the latent
  state and the *oracle*. It answers the question of the task's label: `oracle_icu_death_24h` is the chance of
  `in_icu_death_24h`, to die in this ICU stay, given everything latent at 24 h and that the stay lasts through
  the task's gap, to hour 48. `oracle_hospital_death_24h` is that of `in_hospital_death_24h`, to die in this hospital
  admission, given that it lasts to hour 48 without another ICU admission. Those with `_48h` likewise, to hour 72.
  A stay that ends in the gap has an oracle, but no label. It is computed by running the same dynamics forward
  many times; no model of the tables can be expected to rank better. Whoever has left the ICU by the
  landmark has none (in-hospital tasks keep some of them).
- `severity.parquet`, one row per stay and hour since ICU admission: `severity` (0 well, about 4
  moribund), `setpoint` it reverts to, `phase`.

`cause_of_death` is the problem that brought the patient to the ICU, or `ward: …` for deaths after it.
"""


def describe_stays(people: People, admissions: Admissions, stays: Stays) -> pl.DataFrame:
    """The table `truth/stays`: one row per ICU stay."""
    admission = stays.admission
    person = admissions.person[admission]
    problems = [p.name for p in catalogue.PROBLEMS]
    # Dying on the ward counts for the last stay of the admission; the label of the first is the same.
    died_hospital = admissions.died[admission]
    in_icu = np.isin(admission, admission[stays.died])
    cause = np.where(died_hospital, np.where(in_icu, 1, 2), 0) * len(problems) + admissions.problem[admission]
    causes = [*[None] * len(problems), *problems, *(f"ward: {p}" for p in problems)]
    mean = np.nanmean(stays.severity, axis=1) if len(stays) else np.zeros(0, np.float32)
    top = np.nanmax(stays.severity, axis=1) if len(stays) else np.zeros(0, np.float32)
    columns: dict[str, object] = {
        "stay_id": stays.stay_id,
        "admission_id": admissions.admission_id[admission],
        "subject_id": people.subject_id[person],
        "problem": words(problems, admissions.problem[admission]),
        "age": people.age[person],
        "frailty": people.frailty[person],
        "died_in_icu": stays.died,
        "died_in_hospital": died_hospital,
        "cause_of_death": words(causes, cause),
        "hours": (stays.end - stays.begin) / 3600,
        "severity_first": stays.severity[:, 0],
        "severity_mean": mean,
        "severity_max": top,
    }
    for hour in LANDMARK_HOURS:
        columns |= _landmark(stays, hour)
    return pl.DataFrame(columns)


def _landmark(stays: Stays, hour: int) -> dict[str, pl.Series]:
    chances = stays.oracle[hour]
    reached = ~np.isnan(chances[:, 0])
    there = hour < stays.severity.shape[1]
    severity = stays.severity[:, hour] if there else np.full(len(stays), np.nan, np.float32)
    setpoint = stays.setpoint[:, hour] if there else severity
    phase = stays.phase[:, hour] if there else np.full(len(stays), -1, np.int8)
    values = {
        "severity": pl.Series(severity).fill_nan(None),
        "setpoint": pl.Series(setpoint).fill_nan(None),
        "phase": words([*PHASES, None], np.where(reached, phase, len(PHASES))),
        "oracle_icu_death": pl.Series(chances[:, 0]).fill_nan(None),
        "oracle_hospital_death": pl.Series(chances[:, 1]).fill_nan(None),
    }
    return {f"{name}_{hour}h": series for name, series in values.items()}


def describe_path(people: People, admissions: Admissions, stays: Stays) -> pl.DataFrame:
    """The table `truth/severity`: one row per ICU stay and hour."""
    stay, hour = np.nonzero(~np.isnan(stays.severity))
    return pl.DataFrame(
        {
            "stay_id": stays.stay_id[stay],
            "subject_id": people.subject_id[admissions.person[stays.admission[stay]]],
            "hour": hour.astype(np.int16),
            "severity": stays.severity[stay, hour],
            "setpoint": stays.setpoint[stay, hour],
            "phase": words(PHASES, stays.phase[stay, hour].astype(np.int64)),
        }
    )
