"""The index of a demo: every application with its main figures, and where its page is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caretrace.report import page
from caretrace.report.record import mapping
from caretrace.report.wording import decimal, finite, interval, metric

# Application → title, what it does, and the figures its box shows.
STORIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "mortality": (
        "Risk of death in intensive care",
        "From the first 24 hours of a stay, whether somebody dies in it; beside logistic regression and boosted trees.",
        ("auroc", "auprc", "ece"),
    ),
    "vitals": (
        "Alarms from vital signs",
        "Learned from recordings without labels; raises alarms at a rate of false ones that was stated beforehand.",
        ("event_recall", "false_alarms_per_patient_day", "vus_pr"),
    ),
    "safety": (
        "An emergency system before it breaks",
        "Forecasts crises, delays and harm of a simulated city, hour by hour; nobody is ranked by it.",
        ("crisis_1_h_auroc", "crisis_8_h_auroc", "delay_pinball"),
    ),
    "synth": (
        "Histories of people who do not exist",
        "Diagnoses over visits, drawn from a model; judged for likeness, use, and privacy.",
        ("excess_codes", "two_sample_auroc_boosted_trees", "membership_auroc"),
    ),
}
FIGURES = 3


def render_demo_page(out: Path, described: Mapping[str, Any], evaluations: Mapping[str, Any]) -> Path:
    """Write `report.html` of a demo.

    Args:
        out: Folder of the demo.
        described: What `demo.json` says.
        evaluations: Application → what `evaluate` returned.

    Returns:
        The file written.
    """
    boxes = [_box(name, file, evaluations.get(name, {})) for name, file in described["pages"].items()]
    values = {
        "title": "A simulated hospital, all the way",
        "facts": ["simulated", f"{len(boxes)} applications"],
        "sections": [(box["name"], box["title"]) for box in boxes],
        "boxes": boxes,
        "serve": f"caretrace serve {out}" if "replay" in described else "",
    }
    return page.write(page.render("demo.html.j2", values), out / "report.html")


def _box(name: str, file: str, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    title, summary, wanted = STORIES[name]
    found = mapping(evaluation, "metrics")
    usable = [each for each in found if finite(mapping(found, each).get("value")) is not None]
    shown = [each for each in wanted if each in usable] or usable
    gates = mapping(evaluation, "gates")
    return {
        "name": name,
        "title": title,
        "summary": summary,
        "page": file,
        "figures": [
            {
                "label": metric(each).label,
                "value": decimal(mapping(found, each).get("value")),
                "interval": interval(mapping(found, each)),
                "meaning": metric(each).meaning,
            }
            for each in shown[:FIGURES]
        ],
        "gates": len(gates),
        "kept": sum(bool(gate.get("passed")) for gate in gates.values()),
        "n": evaluation.get("n_subjects"),
    }
