"""What the service answers, invented: a ward of fifty in every state, two departments, one subject, one cohort."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

START = dt.datetime(2026, 3, 2, 14, 0, tzinfo=dt.UTC)
CHANNELS = [
    ("hr", "bpm", [50, 100], 78.0),
    ("spo2", "%", [94, 100], 97.0),
    ("resp", "breaths/min", [10, 22], 15.0),
    ("sbp", "mmHg", [100, 160], 122.0),
    ("dbp", "mmHg", [55, 90], 70.0),
    ("map", "mmHg", [65, 105], 87.0),
    ("temp", "°C", [36.0, 38.0], 36.9),
]
# Place in the ward → state of its bed; everybody else is quiet.
STATES = {
    3: "active",
    11: "active",
    17: "pending",
    22: "technical",
    30: "stale",
    36: "acknowledged",
    41: "cleared",
}
REASONS = {"technical": "probe_off", "stale": "stale", 3: "sudden"}
WORDS = {
    "sudden": "Oxygen saturation fell from 96 to 87 % within 4 minutes while respiration rose to 28",
    "lasting": "Heart rate has been rising for 50 minutes, pressure falling: 118 beats, 92 mmHg",
    "probe_off": "Saturation probe off for 3 minutes",
    "stale": "No samples for 4 minutes",
}


def at(seconds: float) -> str:
    """A moment of the ward's clock."""
    return (START + dt.timedelta(seconds=seconds)).isoformat(timespec="seconds").replace("+00:00", "Z")


def ward(now: float) -> dict[str, Any]:
    beds = [bed(place, now) for place in range(50)]
    return {
        "time": at(now),
        "replay": {"speed": 1},
        "thresholds": {"sudden": 4.2, "lasting": 3.4},
        "beds": beds,
    }


def bed(place: int, now: float) -> dict[str, Any]:
    state = STATES.get(place, "quiet")
    chance = 0.62 if state == "active" else 0.03 + 0.11 * ((place * 7) % 5) / 5
    old = 240 if state == "stale" else 2 + place % 3
    return {
        "subject_id": 1000 + place,
        "bed": f"A-{place + 1:02d}",
        "ward": "A",
        "state": state,
        "risk": None if place == 44 else risk(chance, now - (8 if place == AGED else 1) * 3600),
        "last_sample": at(now - old),
        "age_seconds": old,
        "values": {name: level(name, usual, place, now, state) for name, _, _, usual in CHANNELS},
        "units": {name: unit for name, unit, _, _ in CHANNELS},
        "scores": {"sudden": 0.4, "lasting": 1.1},
        "alarms": [alarm(place, state)] if state != "quiet" else [],
    }


AGED = 12  # whose risk is old


def risk(chance: float, when: float) -> dict[str, Any]:
    return {
        "value": chance,
        "low": chance * 0.7,
        "high": min(0.97, chance * 1.35),
        "app": "mortality",
        "bundle": "mortality",
        "time": at(when),
        "age_seconds": -when,
        "old": False,
        "old_after_seconds": 6 * 3600,
        "note": "Pairing of the test.",
    }


def level(name: str, usual: float, place: int, now: float, state: str = "quiet") -> float:
    worse = {"hr": 38.0, "spo2": -9.0, "resp": 12.0, "sbp": -28.0, "temp": 1.2} if state == "active" else {}
    spread = 0.3 if name == "temp" else usual * 0.06
    wave = spread * math.sin(place * 1.7 + len(name)) + spread * 0.2 * math.sin(now / 40 + place)
    value = usual + worse.get(name, 0.0) + wave
    return round(min(value, 100.0) if name == "spo2" else value, 1 if name == "temp" else 0)


def alarm(place: int, state: str) -> dict[str, Any]:
    reason = str(REASONS.get(place) or REASONS.get(state, "lasting"))  # type: ignore[call-overload]
    seen = state == "acknowledged"
    return {
        "id": 500 + place,
        "subject_id": 1000 + place,
        "bed": f"A-{place + 1:02d}",
        "ward": "A",
        "reason": reason,
        "kind": "technical" if reason in ("probe_off", "stale", "flat") else "physiological",
        "state": "active" if state in ("technical", "stale") else state,
        "raised": at(-600 + 7 * place),
        "changed": at(-60),
        "score": 6.41,
        "threshold": 4.2,
        "words": WORDS[reason],
        "by": "local" if seen else None,
        "why": "Seen, I am with the patient" if seen else None,
        "snoozed_until": None,
    }


def strips(place: int, now: float, seen: dict[str, Any] | None) -> dict[str, Any]:
    """Two hours of a bed, a gap in the middle, and for beds with an alarm what went before it."""
    times = [START.timestamp() + now - 7200 + 30 * step for step in range(241)]
    struck = STATES.get(place) == "active"
    values = {
        name: [course(name, usual, place, step, struck) for step in range(241)]
        for name, _, _, usual in CHANNELS
    }
    rise = [
        0.4 + 0.3 * math.sin(step / 9) + (max(0, step - 205) * 0.17 if struck else 0) for step in range(241)
    ]
    return {
        "subject_id": 1000 + place,
        "risk": bed(place, now)["risk"],
        "bed": f"A-{place + 1:02d}",
        "ward": "A",
        "channels": [{"name": name, "unit": unit, "normal": normal} for name, unit, normal, _ in CHANNELS],
        "time": at(now),
        "times": times,
        "values": values,
        "scores": {"sudden": rise, "lasting": [0.6 * each + 0.2 for each in rise]},
        "thresholds": {"sudden": 4.2, "lasting": 3.4},
        "anomalies": [{"start": times[226], "end": times[240], "reason": "sudden"}] if struck else [],
        "alarms": [] if place not in STATES else [seen or alarm(place, STATES[place])],
    }


def course(name: str, usual: float, place: int, step: int, struck: bool) -> float | None:
    if 96 <= step < 112 or (name == "spo2" and 150 <= step < 156):
        return None
    noise = math.sin(step * 2.3 + len(name)) + math.sin(step * 0.91 + place)
    value = level(name, usual, place, step * 30) + noise * (0.05 if name == "temp" else usual * 0.012)
    worse = {"hr": 1.1, "spo2": -0.28, "resp": 0.4, "sbp": -0.8, "map": -0.5, "temp": 0.03}
    if struck:
        value += worse.get(name, 0.0) * max(0, step - 206)
    return round(min(value, 100.0) if name == "spo2" else value, 1)


def board() -> dict[str, Any]:
    def site(name: str, crowd: float, word: str, chances: list[float]) -> dict[str, Any]:
        horizons = zip((1, 8, 24), chances, strict=True)
        hours = [
            {
                "time": at(3600 * (hour - 48)),
                "nedocs": round(crowd - 30 + 24 * math.sin(hour / 3.8) + hour * 0.6, 1),
                "probability": round(
                    min(0.95, max(0.02, chances[1] - 0.15 + 0.14 * math.sin(hour / 3.8 + 0.8))), 3
                ),
            }
            for hour in range(49)
        ]
        return {
            "site": name,
            "time": at(0),
            "nedocs": {"value": crowd, "words": word},
            "horizons": [
                {"hours": hours, "probability": p, "low": max(0, p - 0.09), "high": min(1, p + 0.11)}
                for hours, p in horizons
            ],
            "drivers": [
                {
                    "words": "Patients waiting for a bed on a ward: 14, twice the usual",
                    "direction": "raises",
                    "effect": 0.06,
                },
                {"words": "Crews held at the door: 3", "direction": "raises", "effect": 0.06},
                {
                    "words": "Arrivals of the last hour: 9, fewer than usual",
                    "direction": "lowers",
                    "effect": -0.02,
                },
            ],
            "response_minutes": {"p50": 8.4, "p80": 13.1},
            "hours": hours,
        }

    return {
        "hospitals": [
            site("Department North", 118, "overcrowded", [0.64, 0.47, 0.22]),
            site("Department South", 71, "busy", [0.08, 0.16, 0.19]),
        ]
    }


def subjects() -> list[dict[str, Any]]:
    found = []
    for place in range(40):
        risk = 0.91 * math.exp(-place / 11)
        found.append(
            {"subject_id": 20_000 + place, "risk": risk, "low": risk * 0.7, "high": min(1, risk * 1.2)}
        )
    return found


def timeline() -> dict[str, Any]:
    rows = [
        ("LAB//lactate//mmol/L", "Lactate", 5.1, "mmol/L", 0.82),
        ("VITAL//mean_pressure//mmHg", "Mean pressure", 58, "mmHg", 0.55),
        ("INFUSION//norepinephrine", "Norepinephrine, from its start", 0.21, "µg/kg/min", 0.41),
        ("LAB//creatinine//mg/dL", "Creatinine", 2.4, "mg/dL", 0.22),
        ("VITAL//heart_rate//bpm", "Heart rate", 88, "bpm", -0.12),
        ("LAB//platelets//K/uL", "Platelets", 240, "10³/µL", -0.19),
    ]
    return {
        "events": [
            {
                "time": at(-3600 * i),
                "code": code,
                "words": words,
                "value": value,
                "unit": unit,
                "contribution": credit,
            }
            for i, (code, words, value, unit, credit) in enumerate(rows)
        ],
        "trajectory": [
            {
                "time": at(3600 * (hour - 24)),
                "risk": 0.12 + 0.018 * hour + 0.04 * math.sin(hour),
                "low": 0.08 + 0.013 * hour,
                "high": 0.2 + 0.022 * hour,
            }
            for hour in range(25)
        ],
        "method": "removal",
        "certified": True,
        "heading": "Removal (certified on planted truth)",
        "judged_on": "judged on 68 records",
        "static": ["Age 71", "Sex M", "Coronary Care Unit"],
    }


def cohort(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    ages = [(f"{low}-{low + 9}", 6 + 9 * (low // 10), 7 + 8 * (low // 10)) for low in range(10, 90, 10)]
    codes = [("401.9", "Hypertension", 0.41, 0.4), ("250.00", "Diabetes, type II", 0.21, 0.22)]
    codes += [("428.0", "Heart failure", 0.13, 0.12), ("584.9", "Acute kidney failure", 0.11, 0.12)]
    return {
        "jobs": jobs,
        "summary": {
            "subjects": 500,
            "ages": [{"band": band, "F": women, "M": men} for band, women, men in ages],
            "codes": [{"code": c, "words": w, "share": s, "real_share": r} for c, w, s, r in codes],
            "trajectories": [
                "Woman, 71: hypertension; two years later heart failure, then acute kidney failure.",
                "Man, 54: diabetes, type II at each of three visits.",
            ],
        },
    }


BUNDLES = [
    {"id": app, "app": app, "title": title, "summary": summary, "trained": at(-86_400), "verbs": ["predict"]}
    for app, title, summary in (
        ("mortality", "Risk of death in intensive care", "The chance to die in this stay."),
        (
            "vitals",
            "Alarms from vital signs",
            "Watches vital signs and raises alarms at a stated rate of false ones.",
        ),
        ("safety", "Safety of emergency care", "Forecasts crises, delays and harm."),
        ("synth", "Synthetic histories", "Histories of people who do not exist."),
    )
]
CARD = {
    "markdown": "# Card\n\nTrained on **simulated** patients.\n\n## Not for\n\n"
    "- decisions at a bedside\n- `another` hospital\n\n"
    "| model | AUROC |\n|---|---|\n| ours | 0.871 |\n| trees | 0.869 |\n",
    "metrics": {
        "auroc": {"value": 0.871, "low": 0.84, "high": 0.9},
        "ece": {"value": 0.02, "low": None, "high": None},
    },
    "gates": {"calibration": {"passed": True, "value": 0.02, "bound": 0.03}},
}


def audit(done: list[dict[str, Any]]) -> dict[str, Any]:
    first = [("local", "read bed", 1003, "done"), ("nurse-b", "read bed", 2001, "denied: another ward")]
    entries = [
        {
            "n": n + 1,
            "time": at(n),
            "who": who,
            "what": what,
            "subject_id": subject,
            "outcome": outcome,
            "hash": f"{n:064x}",
        }
        for n, (who, what, subject, outcome) in enumerate(first)
    ]
    return {"entries": entries + done, "intact": True}
