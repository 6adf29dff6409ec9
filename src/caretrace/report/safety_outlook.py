"""What a head nurse reads first: today's outlook, what drives it, what helped when it was tried in the simulator."""

from __future__ import annotations

from typing import Any

from caretrace.report.figures_page import Cell, Part, Table
from caretrace.report.record import Json, mapping
from caretrace.report.wording import decimal

_GROUPS_WHY = (
    "Staff are shown as groups of at least five. A forecast about one person would be used on that person, though "
    "much of what moves one answer is chance; rest, overtime and load can be changed for a group."
)
_PROFESSIONS = {"nurse": "nurses", "physician": "physicians", "paramedic": "paramedics"}
_MOST_GROUPS = 6
_MOST_DRIVEN = 3  # hospitals whose drivers are told, the most endangered


def outlook_part(evaluation: Json) -> list[Part]:
    """Today: a row per hospital, and what drives the most strained ones; nothing before the run is judged."""
    found = mapping(evaluation, "outlook")
    hospitals = found.get("hospitals") or []
    if not hospitals:
        return []
    worst = sorted(hospitals, key=lambda each: -_chance(each, 8))
    head = ("Hospital", "crowding (NEDOCS)", "crisis in 1 hour", "in 8 hours", "in 24 hours")
    rows = [
        (
            str(each["site"]),
            [
                Cell(_whole(each["nedocs"]["value"]), each["nedocs"]["words"] or ""),
                *(_percent(one) for one in each["horizons"]),
            ],
        )
        for each in worst
    ]
    minutes = worst[0]["response_minutes"]
    lines = [_first_line(worst)]
    if minutes.get("p50"):
        lines.append(
            f"Half of the ambulances called are expected within {minutes['p50']:.0f} minutes, four of five within "
            f"{minutes['p80']:.0f}."
        )
    lines += [f"What drives it in {each['site']}: {_drivers(each)}." for each in worst[:_MOST_DRIVEN]]
    caption = "The last hour that was judged. What drives it is told against the usual of that hospital at that hour"
    return [Part("outlook", "Today", lines, [Table(head, rows, caption)], [])]


def staff_part(evaluation: Json) -> list[Part]:
    """Strain on groups of staff, the highest first."""
    groups = mapping(evaluation, "outlook").get("staff") or []
    if not groups:
        return []
    by: dict[tuple[str, str, str], dict[str, Any]] = {}
    for each in groups:
        key = str(each["unit"]), str(each["group"]), str(each["shift"])
        by.setdefault(key, {"people": each["people"]})[each["target"]] = each["value"]
    order = sorted(by, key=lambda key: -by[key].get("fatigue", 0.0))[:_MOST_GROUPS]
    rows = [
        (
            f"{key[0]}, {_PROFESSIONS.get(key[1], key[1])}, {key[2]}",
            [
                Cell(str(by[key]["people"])),
                Cell(_scale(by[key].get("fatigue"), 1, 9)),
                Cell(_scale(by[key].get("burnout"), 1, 7)),
                Cell(_share(by[key].get("retention"))),
            ],
        )
        for key in order
    ]
    head = (
        "Group", "people", "sleepiness at the end of a duty (1 to 9)", "exhaustion (1 to 7)", "would think of leaving"
    )  # fmt: skip
    return [Part("staff", "The people who work there", [_GROUPS_WHY], [Table(head, rows)], [])]


def helped_part(what_if: Json) -> list[Part]:
    """What helped when it was switched on in the simulator."""
    rows = []
    for lever in what_if.values():
        for outcome, each in lever["outcomes"].items():
            if outcome in _OUTCOMES:
                rows.append((f"{lever['words']}: {_OUTCOMES[outcome]}", _effect_cells(outcome, each)))
    if not rows:
        return []
    head = ("Change", "without it", "what it did in the simulator", "what the model saw of it", "part seen")
    line = (
        "The same simulated city twice, once with the change: this is where the question what would help is answered. "
        "The model is shown beside it, reading the changed city."
    )
    return [Part("helped", "What helped", [line], [Table(head, rows)], [])]


def parts_part(evaluation: Json) -> list[Part]:
    """Figures by hospital, shift and profession, and what acting on warnings would be worth."""
    by, tables = mapping(evaluation, "by"), []
    for name, head in (
        ("site", "Hospital: crisis in 8 hours, ranking (AUROC)"),
        ("shift", "Shift: crisis in 8 hours, ranking (AUROC)"),
        ("staff", "Profession: sleepiness foreseen (R²)"),
    ):
        rows = [
            (each, [Cell.of(figure), Cell(f"{figure['n']:,}")]) for each, figure in mapping(by, name).items()
        ]
        tables.append(Table((head, "figure", "judged"), rows))
    tables.append(_decision(mapping(evaluation, "decision")))
    if not any(table.rows for table in tables):
        return []
    line = "A model that serves one hospital or one shift badly would not show in the whole."
    return [Part("parts", "By hospital, shift and profession", [line], tables, [_WORTH])]


_WORTH = (
    "Worth of warnings: crises warned of per 1,000 hours of a hospital, less the needless warnings weighed by the "
    "chance from which on one would act (net benefit, Vickers and Elkin 2006)."
)
_OUTCOMES = {
    "crisis": "hours in crisis",
    "delay": "time until an ambulance is there",
    "handoff": "rating of handoffs",
    "documentation": "completeness of records",
}
_NAMES = {
    "caretrace": "this model",
    "boosted_trees": "boosted trees",
    "nedocs": "NEDOCS alone",
    "always": "always warn",
}


def _decision(found: Json) -> Table:
    chances = found.get("chances") or []
    head = ("Worth of warnings 8 hours ahead", *(f"acting from {100 * chance:.0f} %" for chance in chances))
    rows = [
        (_NAMES.get(name, name), [Cell(decimal(value)) for value in values])
        for name, values in found.items()
        if name != "chances"
    ]
    return Table(head, rows)


def _effect_cells(outcome: str, each: dict[str, Any]) -> list[Cell]:
    share = each.get("seen_share")
    base = each["base"]
    without = {"delay": f"{2.718281828**base:.1f} min"}.get(outcome, f"{100 * base:.1f} %")
    part = (
        Cell(f"{100 * share['value']:.0f} %", _range(share, 100, 0, " %"))
        if share
        else Cell("no clear effect")
    )
    return [Cell(without), _effect(outcome, each["simulated"]), _effect(outcome, each["seen"]), part]


def _effect(outcome: str, effect: dict[str, float]) -> Cell:
    unit = " %" if outcome == "delay" else " points"  # of a logarithm, hundredths are per cent
    return Cell(f"{100 * effect['value']:+.1f}{unit}", _range(effect, 100, 1, ""))


def _range(figure: dict[str, float], times: float, digits: int, unit: str) -> str:
    return f"{times * figure['low']:.{digits}f} to {times * figure['high']:.{digits}f}{unit}"


def _first_line(worst: list[dict[str, Any]]) -> str:
    warned = [
        str(each["site"])
        for each in worst
        if any(one["warned"] for one in each["horizons"] if one["hours"] == 8)
    ]
    if not warned:
        return f"No hospital of {len(worst)} is likely to be in crisis in eight hours."
    named = ", ".join(warned)
    return f"In eight hours a crisis is to be reckoned with in {named} ({len(warned)} of {len(worst)} hospitals)."


def _chance(hospital: dict[str, Any], hours: int) -> float:
    return next(float(one["probability"]) for one in hospital["horizons"] if one["hours"] == hours)


def _percent(one: dict[str, Any]) -> Cell:
    return Cell(f"{100 * one['probability']:.0f} %", f"{100 * one['low']:.0f} to {100 * one['high']:.0f} %")


def _drivers(hospital: dict[str, Any]) -> str:
    said = [f"{one['words']} {one['direction']} it" for one in hospital["drivers"][:3]]
    return "; ".join(said) or "nothing in particular"


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _scale(value: float | None, low: int, high: int) -> str:
    return "–" if value is None else f"{low + (high - low) * value:.1f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
