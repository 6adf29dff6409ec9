"""The index of a demo: every application with its main figures, and where its page is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caretrace.report import page
from caretrace.report.record import mapping
from caretrace.report.wording import decimal, finite, interval, metric

# Application → title, what it does, and the figures its box shows: name in the evaluation, label, meaning.
_Shown = tuple[str, str, str]
STORIES: dict[str, tuple[str, str, tuple[_Shown, ...]]] = {
    "mortality": (
        "Risk of death in intensive care",
        "From the first 24 hours of a stay, whether somebody dies in it; beside logistic regression and boosted trees.",
        tuple((name, metric(name).label, metric(name).meaning) for name in ("auroc", "auprc", "ece")),
    ),
    "vitals": (
        "Alarms from vital signs",
        "Learned from recordings without labels; raises alarms at a rate of false ones that was stated beforehand.",
        (
            ("event_recall", "Deteriorations caught", "Share that an alarm told of."),
            ("false_alarms_per_patient_day", "False alarms a patient-day", "0.2 were asked for."),
            ("vus_pr", "VUS-PR", "How well scores and events lie together in time; 1 is perfect."),
        ),
    ),
    "safety": (
        "An emergency system before it breaks",
        "Forecasts crises, delays and harm of a simulated city, hour by hour; nobody is ranked by it.",
        (
            ("crisis_1_h_auroc", "Crisis in 1 h, AUROC", "0.5 is a coin toss, 1 is perfect."),
            ("crisis_8_h_auroc", "Crisis in 8 h, AUROC", "0.5 is a coin toss, 1 is perfect."),
            ("delay_pinball", "Ambulance delays, pinball loss", "Minutes; smaller is better."),
        ),
    ),
    "synth": (
        "Histories of people who do not exist",
        "Diagnoses over visits, drawn from a model; judged for likeness, use, and privacy.",
        (
            (
                "excess_codes",
                "Divergence of diagnoses",
                "As many times that of fresh real people; 1 is as good.",
            ),
            (
                "two_sample_auroc_boosted_trees",
                "Told from real people",
                "AUROC of boosted trees; 0.5 is not at all.",
            ),
            ("membership_auroc", "Who was learned from", "AUROC of an attack; 0.5 gives nobody away."),
        ),
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
    known = {key: (label, meaning) for key, label, meaning in wanted if key in usable}
    shown = known or {key: (metric(key).label, metric(key).meaning) for key in usable}
    gates = mapping(evaluation, "gates")
    return {
        "name": name,
        "title": title,
        "summary": summary,
        "page": file,
        "figures": [
            {
                "label": label,
                "value": decimal(mapping(found, key).get("value")),
                "interval": interval(mapping(found, key)),
                "meaning": meaning,
            }
            for key, (label, meaning) in list(shown.items())[:FIGURES]
        ],
        "gates": len(gates),
        "kept": sum(bool(gate.get("passed")) for gate in gates.values()),
        "n": evaluation.get("n_subjects"),
    }
