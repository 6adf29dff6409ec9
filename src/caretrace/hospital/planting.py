"""Puts the events of planted rules into the raw tables, and lists them in the truth."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.hospital.columns import words
from caretrace.hospital.config import RULES, HospitalConfig, Rule
from caretrace.hospital.rules import DECOY, EVENTS, Event, Roles, draw_hours, holds, log_hazards
from caretrace.hospital.severity import Bools, log_hazard, static_risk
from caretrace.hospital.signals import Ints
from caretrace.hospital.timeline import DAY, HOUR
from caretrace.hospital.treatments import Bedside

# What a row of each table belongs to, and from when on it can be known.
_KEY = dict.fromkeys(("prescriptions", "labs", "cultures"), "admission_id") | dict.fromkeys(
    ("procedures", "infusions"), "stay_id"
)
_KNOWN = dict.fromkeys(("prescriptions", "procedures", "infusions"), "start_time") | dict.fromkeys(
    ("labs", "cultures"), "result_time"
)

README = """
## Planted rules

`log_hazard_change` is added to a stay's log hazard of death: in the ICU from the hour `rule_from_hours` of
`simulation.json` on, and on the ward after an ICU stay of 24 h or more. It is the same number, with a plus
where any rule of those switched on holds and with a minus where none does.

- `rules.parquet`, one row per ICU stay and rule: whether the rule `held`, whether the stay lasted until the rule
  `acts`, and the hazard of death per hour at that moment (null if over): `hazard_plain` of severity, age and
  frailty alone, `hazard_held` and `hazard_not_held` as it would be with and without the rule.
- `rule_events.parquet`, one row per planted event and moment: `table`, `key_column` and `key`, `time_column` and
  `time`, `text_column` and `text` find its row in the raw table; `code` is what `caretrace ingest` calls it at that
  time. A procedure or infusion has a second moment, its end. `event` is its place in the rule (A, B), `role`
  says `cause` or `decoy`, and `carries` whether the rule held here and the event is one of its causes.
"""


def plant(
    tables: dict[str, pl.DataFrame],
    bedside: Bedside,
    roles: dict[Rule, Roles],
    config: HospitalConfig,
    rng: np.random.Generator,
) -> dict[str, pl.DataFrame]:
    """Add the events of every rule that is switched on, and the two tables of truth about them.

    Args:
        tables: Raw tables by name, times in seconds since 1970.
        bedside: Whose they are.
        roles: Who gets which events, by rule, `[person]` inside.
        config: Says which rules.
        rng: Source of chance.

    Returns:
        The tables, with `truth/rules` and `truth/rule_events` beside them.
    """
    tables = dict(tables)
    stays = bedside.stays
    person = bedside.admissions.person[stays.admission]
    rules, listed = [], []
    for rule, own in zip(RULES, rng.spawn(len(RULES)), strict=True):
        if rule not in config.rules:
            continue
        a_first = roles[rule].a_first[person]
        time = stays.begin[:, None] + np.round(draw_hours(rule, a_first, own) * 60).astype(np.int64) * 60
        # What would come after the end of a short stay does not happen.
        happened = Roles(roles[rule].present[person] & (time < stays.end[:, None]), a_first)
        held = holds(rule, happened)
        rules.append(_rule(rule, held, log_hazards(roles, config)[person], bedside, config))
        for place, event in enumerate(EVENTS[rule]):
            stay = np.flatnonzero(happened.present[:, place])
            rows = _rows(event, stay, time[stay, place], bedside, own)
            tables[event.table] = _weave(tables[event.table], rows, event.table)
            listed.append(_listed(rule, place, rows, held[stay], stays.stay_id[stay]))
    tables["truth/rules"] = pl.concat(rules).sort("stay_id", "rule")
    tables["truth/rule_events"] = pl.concat(listed).sort("stay_id", "rule", "event", "time")
    return tables


def _rows(event: Event, stay: Ints, time: Ints, bedside: Bedside, rng: np.random.Generator) -> pl.DataFrame:
    """The raw rows of an event, known from `time` on, one per stay of `stay`."""
    admissions, stays = bedside.admissions, bedside.stays
    admission, count = stays.admission[stay], len(stay)
    columns: dict[str, Ints | NDArray[np.float64] | pl.Series] = {
        "subject_id": bedside.people.subject_id[admissions.person[admission]],
        "admission_id": admissions.admission_id[admission],
        "stay_id": stays.stay_id[stay],
        _KNOWN[event.table]: time,
    }
    if event.table == "prescriptions":
        columns["stop_time"] = np.minimum(time + 3 * DAY, admissions.discharge[admission])
    elif event.table in {"labs", "cultures"}:
        columns["collect_time"] = time - rng.integers(20, 55, count) * 60
    else:
        # Two and a half to five days: nothing of it ends before the landmark.
        end = np.minimum(time + rng.integers(60, 120, count) * HOUR, stays.end[stay])
        columns["end_time"] = end
        columns["status"] = words(["completed", "stopped"], (end >= stays.end[stay]).astype(np.int64))
        columns["amount"] = np.round(_number(event, "rate") * (end - time) / HOUR, 1)
    if event.table == "labs":
        low, high = _number(event, "ref_low"), _number(event, "ref_high")
        value = np.round((low + high) / 2 * rng.lognormal(0, 0.5, count), 1)
        columns["value"] = value
        columns["flag"] = words([None, "low", "high"], (value < low) + 2 * (value > high))
    return pl.DataFrame(columns).with_columns(**{name: pl.lit(cell) for name, cell in event.row.items()})


def _number(event: Event, column: str) -> float:
    cell = event.row.get(column, 0.0)
    return cell if isinstance(cell, float | int) else 0.0


def _weave(table: pl.DataFrame, rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """A raw table with more rows, each where its time puts it; columns it does not have are left out."""
    missing = [pl.lit(None).alias(c) for c in table.columns if c not in rows.columns]
    more = rows.with_columns(missing).select(table.columns).cast(table.schema)
    order = "collect_time" if "collect_time" in table.columns else _KNOWN[name]
    return pl.concat([table, more]).sort(_KEY[name], order, maintain_order=True)


def _rule(
    rule: Rule, held: Bools, change: NDArray[np.float32], bedside: Bedside, config: HospitalConfig
) -> pl.DataFrame:
    """One row per stay: does the rule hold, and what does that do."""
    people, stays, d = bedside.people, bedside.stays, config.dynamics
    person = bedside.admissions.person[stays.admission]
    risk = static_risk(people.age, people.frailty, d)[person].astype(np.float32)
    hour, width = d.rule_from_hours, stays.severity.shape[1]
    severity = stays.severity[:, hour] if hour < width else np.full(len(stays), np.nan, np.float32)
    plain = log_hazard(severity, risk, d)
    hazards = {
        f"hazard_{name}": pl.Series(np.exp(np.minimum(plain + shift, 3))).fill_nan(None)
        for name, shift in (
            ("plain", 0.0),
            ("held", config.planted_strength),
            ("not_held", -config.planted_strength),
        )
    }
    return pl.DataFrame(
        {
            "stay_id": stays.stay_id,
            "subject_id": people.subject_id[person],
            "rule": pl.Series([rule] * len(stays), dtype=pl.String),
            "held": held,
            "acts": ~np.isnan(severity),
            "log_hazard_change": change,
            **hazards,
        }
    )


def _listed(rule: Rule, place: int, rows: pl.DataFrame, held: Bools, stay_id: Ints) -> pl.DataFrame:
    """The planted rows as the truth lists them, one line per moment they are known from."""
    event = EVENTS[rule][place]
    decoy = rule == "decoy" and place == DECOY
    lines = rows.with_columns(
        rule=pl.lit(rule),
        event=pl.lit("AB"[place]),
        role=pl.lit("decoy" if decoy else "cause"),
        carries=pl.Series(held, dtype=pl.Boolean) & (not decoy),
        table=pl.lit(event.table),
        key_column=pl.lit(_KEY[event.table]),
        key=pl.col(_KEY[event.table]),
        text_column=pl.lit(event.text),
        text=pl.col(event.text),
        stay_id=pl.Series(stay_id),
    )
    moments = [(_KNOWN[event.table], event.code)]
    if event.end_code is not None:
        moments.append(("end_time", event.end_code))
    return pl.concat(
        lines.select(
            "stay_id", "subject_id", "rule", "event", "role", "carries", "table", "key_column", "key",
            time_column=pl.lit(column),
            time=(pl.col(column) * 1_000_000).cast(pl.Datetime("us")),
            text_column="text_column",
            text="text",
            code=pl.lit(code),
        )
        for column, code in moments
    )  # fmt: skip
