"""A small, realistic run folder: hand-made numbers in the shapes the other rooms write."""

import json
import math
from pathlib import Path
from typing import Any


def write_run(folder: Path, **changes: Any) -> Path:
    """Write a run folder; `part=None` leaves a part out, `part={...}` replaces it."""
    for name, value in (parts() | changes).items():
        if value is None:
            continue
        path = folder / FILES[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in value))
        else:
            path.write_text(json.dumps(value))
    return folder


FILES = {
    "run": "run.json",
    "epochs": "metrics.jsonl",
    "attrition": "labels/attrition.json",
    "evaluation": "evaluation/evaluation.json",
    "curves": "evaluation/curves.json",
    "quality": "quality.json",
    "subgroups": "subgroups.json",
}


def parts() -> dict[str, Any]:
    return {
        "run": run(),
        "epochs": epochs(),
        "attrition": attrition(),
        "evaluation": evaluation(),
        "curves": curves(),
        "quality": quality(),
        "subgroups": subgroups(),
    }


def run() -> dict[str, Any]:
    return {
        "application": "mortality",
        "title": "In-hospital mortality, 48 h after ICU admission",
        "source": "physionet_2012",
        "dataset": "datasets/p12",
        "task": "death in hospital after the first 48 hours of an ICU stay",
        "seed": 7,
        "created_at": "2026-11-20T21:04:11+00:00",
        "versions": {"caretrace": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "polars": "1.44.2"},
        "config": {
            "backbone": {"name": "transformer", "layers": 2, "d_model": 64},
            "training": {"members": 3, "max_epochs": 40, "learning_rate": 0.001, "streams": ["lab", "vital"]},
        },
        "n_parameters": 184_321,
        "backbone": "transformer",
        "fingerprint": "9f2c" * 16,
        "seconds": {"data": 21.4, "training": 412.9, "evaluation": 18.2},
    }


def epochs() -> list[dict[str, Any]]:
    return [
        {
            "member": member,
            "epoch": epoch,
            "train_loss": 0.24 + 0.20 * math.exp(-epoch / 4) - 0.004 * epoch + 0.004 * member,
            "tuning_loss": 0.31 + 0.13 * math.exp(-epoch / 3) + 0.0007 * epoch**1.5 + 0.005 * member,
            "tuning_auroc": 0.845 - 0.20 * math.exp(-epoch / 3) - 0.003 * member,
            "learning_rate": 0.001,
        }
        for member in range(3)
        for epoch in range(14 - member)
    ]


def attrition() -> dict[str, Any]:
    rules = [
        ("icu_admission events", 0, 8000),
        ("input: the record ends after trigger + 48 h", 163, 7837),
        ("gap: no death in (trigger, trigger + 48 h]", 11, 7826),
        ("target: a hospital_discharge after trigger (none recorded; outcome unreadable)", 0, 7826),
    ]
    splits = {
        "train": {"subjects": 5478, "labels": 5478, "positives": 771},
        "tuning": {"subjects": 783, "labels": 783, "positives": 110},
        "held_out": {"subjects": 1565, "labels": 1565, "positives": 221},
    }
    return {
        "task": "mortality/in_hospital/first_48h",
        "rules": [{"rule": rule, "removed": removed, "remaining": left} for rule, removed, left in rules],
        "counts": {"subjects": 7826, "labels": 7826, "positives": 1102, "splits": splits},
        "discordance": {"labelled_pairs": 7826, "in_icu_deaths": 812, "in_hospital_deaths": 1102},
    }


def evaluation() -> dict[str, Any]:
    return {
        "application": "mortality",
        "split": "held_out",
        "n_subjects": 1565,
        "n": 1565,
        "metrics": figures(0.861, 0.538, 0.0897, 0.0181, 0.012),
        "comparators": {
            "logistic": figures(0.832, 0.481, 0.0962, 0.0223, 0.013),
            "boosted_trees": figures(0.857, 0.529, 0.0905, 0.0204, 0.012),
        },
        "paired": {
            "logistic": {
                "auroc": {"difference": 0.029, "low": 0.0121, "high": 0.0467},
                "brier": {"difference": -0.0065, "low": -0.0101, "high": -0.0031},
            },
            "boosted_trees": {
                "auroc": {"difference": 0.0041, "low": -0.0083, "high": 0.0164},
                "brier": {"difference": -0.0008, "low": -0.0031, "high": 0.0014},
            },
        },
        "gates": {"calibration": {"passed": True, "value": 0.0181, "bound": 0.05}},
        "recommended": {"name": "caretrace", "reason": "No comparator ranks clearly better than caretrace."},
        "bootstrap": {"replicates": 1000, "redrawn": 0, "seed": 0},
    }


def figures(auroc: float, auprc: float, brier: float, ece: float, half: float) -> dict[str, Any]:
    values = {
        "auroc": (auroc, half),
        "auprc": (auprc, 3 * half),
        "brier": (brier, half / 2),
        "ece": (ece, half / 2),
    }
    return {
        name: {"value": v, "low": round(v - h, 4), "high": round(v + h, 4)} for name, (v, h) in values.items()
    }


def curves() -> dict[str, Any]:
    prevalence = 221 / 1565
    thresholds = [round(0.01 * k, 2) for k in range(1, 100)]
    return {
        "prevalence": prevalence,
        "decision": {
            "threshold": thresholds,
            "treat_all": [prevalence - (1 - prevalence) * t / (1 - t) for t in thresholds],
            "treat_none": [0.0] * 99,
        },
        "models": {
            "caretrace": model_curves(0.861, prevalence, thresholds),
            "logistic": model_curves(0.832, prevalence, thresholds),
            "boosted_trees": model_curves(0.857, prevalence, thresholds),
        },
    }


def model_curves(auroc: float, prevalence: float, thresholds: list[float]) -> dict[str, Any]:
    power = (1 - auroc) / auroc  # the curve x ** power has this area
    grid = [k / 100 for k in range(101)]
    tpr = [x**power for x in grid]
    recall = grid[1:]
    false = [r ** (1 / power) for r in recall]
    precision = [
        prevalence * r / (prevalence * r + (1 - prevalence) * f) for r, f in zip(recall, false, strict=True)
    ]
    predicted = [0.01, 0.02, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2, 0.31, 0.55]
    observed = [min(1.0, p * (1.02 - 0.2 * (p - 0.3)) + 0.008 * math.sin(40 * p)) for p in predicted]
    share = [math.exp(-6 * (k + 0.5) / 20) for k in range(20)]
    dead = [math.exp(-1.8 * (k + 0.5) / 20) for k in range(20)]
    return {
        "roc": {"fpr": grid, "tpr": tpr, **_around(tpr, 0.03)},
        "pr": {"recall": recall, "precision": precision, **_around(precision, 0.05)},
        "calibration": {
            "predicted": predicted,
            "observed": observed,
            **_around(observed, 0.04),
            "count": [156] * 9 + [161],
        },
        "histogram": {
            "edges": [k / 20 for k in range(21)],
            "negative": [round(1344 * s / sum(share)) for s in share],
            "positive": [round(221 * s / sum(dead)) for s in dead],
        },
        "decision": {
            "threshold": thresholds,
            "net_benefit": [
                prevalence * math.exp(-3.4 * (1.6 - auroc) * t) - 0.004 - 0.02 * t for t in thresholds
            ],
        },
    }


def _around(values: list[float], half: float) -> dict[str, list[float]]:
    return {"low": [max(0.0, v - half) for v in values], "high": [min(1.0, v + half) for v in values]}


def quality() -> dict[str, Any]:
    return {
        "source": "physionet_2012",
        "tables": {
            "records": {
                "rows_read": 3_412_881,
                "rows_loaded": 3_412_640,
                "rows_quarantined": 241,
                "events": 3_398_002,
                "quarantined": {"number_unreadable": 241},
                "flags": {
                    "impossible_value": {
                        "meaning": "outside what a body can have",
                        "rows": 9120,
                        "rows_without_event": 0,
                    },
                },
            },
            "outcomes": {
                "rows_read": 8000,
                "rows_loaded": 8000,
                "rows_quarantined": 0,
                "events": 24_000,
                "flags": {},
            },
        },
        "views": {},
        "not_mapped": [{"file": "set-c.tar.gz", "rows": 4000, "reason": "its outcomes were never published"}],
        "unknown_files": ["notes.txt"],
        "never_read": {},
    }


def subgroups() -> dict[str, Any]:
    rows = [("sex: F", 690, 102, 0.853), ("sex: M", 874, 119, 0.866), ("age: under 65", 768, 71, 0.88),
            ("age: 65 and over", 797, 150, 0.829)]  # fmt: skip
    return {
        "groups": [
            {"group": name, "n": n, "positives": p, "auroc": {"value": v, "low": v - 0.03, "high": v + 0.026}}
            for name, n, p, v in rows
        ]
    }
