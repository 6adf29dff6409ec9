"""TRIPOD+AI items filled from a run, so that nobody copies figures by hand (Collins et al. 2024, BMJ 385:e078378).

Items that a run cannot know (rationale, ethics, funding) are left to the authors, and say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from caretrace.application import Application

Json = Mapping[str, Any]
Texts = dict[tuple[str, str], str]

AUTHORS = "for the authors to write"
_PENDING = "not judged yet: `caretrace evaluate`"


def tripod_items(
    run: Json, application: Application, cohort: Json | None = None, evaluation: Json | None = None
) -> list[dict[str, str]]:
    """The checklist's items with what the run says to each.

    Args:
        run: `run.json`.
        application: The run's application.
        cohort: `labels/attrition.json`.
        evaluation: `evaluation/evaluation.json`, once there is one.

    Returns:
        Rows of `item` (its number), `topic` and `text`.
    """
    texts = {
        **_beginning(run, application),
        **_methods(run, cohort or {}),
        **_results(run, application, cohort or {}, evaluation),
    }
    return [{"item": item, "topic": topic, "text": text} for (item, topic), text in texts.items()]


def _beginning(run: Json, application: Application) -> Texts:
    return {
        ("1", "title"): f"{application.title}: development of a prediction model with machine learning",
        ("2", "abstract"): AUTHORS,
        ("3", "background"): f"{application.summary} Research use only. Rationale: {AUTHORS}",
        ("4", "objectives"): f"task `{run['task']}`",
        ("5", "data"): f"source {run['source']}, fingerprint `{run['fingerprint'][:16]}`; dates: {AUTHORS}",
    }


def _methods(run: Json, cohort: Json) -> Texts:
    config, tuning = run["config"], run.get("tuning", {})
    rules = [f"{rule['rule']} ({rule['removed']} removed)" for rule in cohort.get("rules", [])[1:]]
    static = ", ".join(config.get("static", [])) or "none besides age"
    left_out = "subjects that a member left out" if config["training"].get("cross_fit") else ""
    return {
        ("6", "participants"): "; ".join(rules) or "labels of another tool, without attrition",
        (
            "7",
            "data preparation",
        ): "values as quantiles among training values of their code; codes in fewer training "
        f"samples than {config.get('min_samples', '?')} are unknown; all of it fitted on training subjects alone",
        ("8", "outcome"): "as defined in `task.yaml`, read after the prediction time alone",
        (
            "9",
            "predictors",
        ): f"{run.get('n_codes', '?')} codes up to and including the prediction time; texts: "
        f"{config.get('text', 'none')}; static: {static}",
        (
            "10",
            "sample size",
        ): f"{run.get('n_train', '?')} training and {run.get('n_tuning', '?')} tuning labels, "
        f"{tuning.get('positives', '?')} of {'both' if left_out else 'the latter'} positive; no calculation "
        "beforehand",
        (
            "11",
            "missing data",
        ): "nothing is imputed: a code that was not measured adds nothing; an unreadable outcome "
        "is an exclusion, never a negative",
        ("12", "analytical methods"): f"{run.get('backbone')}, {config['training']['members']} members of "
        f"{run.get('n_parameters', '?')} parameters, logits averaged; seed {run['seed']}; stopped and recalibrated on "
        f"{left_out or 'tuning subjects'}; split by subject",
        ("13", "class imbalance"): "no resampling; the mean risk is set right on "
        f"{left_out or 'training, then on tuning subjects'}",
        ("14", "fairness"): "figures per sex, age band, race, insurance and care unit in `subgroups.json`",
        ("15", "model output"): "calibrated probability, with the members' spread beside it",
        (
            "16",
            "training versus evaluation",
        ): "other subjects of the same source, unless another dataset was judged",
    }


def _results(run: Json, application: Application, cohort: Json, evaluation: Json | None) -> Texts:
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return {
        ("17", "ethical approval"): AUTHORS,
        (
            "18",
            "open science",
        ): f"settings, seed and versions ({versions}) are in the run; funding, registration and "
        f"access to data: {AUTHORS}",
        ("19", "patient and public involvement"): AUTHORS,
        ("20", "participants, in numbers"): _in_numbers(cohort.get("counts", {})),
        (
            "21",
            "model development",
        ): f"tuning AUROC {_number(run.get('tuning', {}).get('auroc'))}; these subjects "
        "stopped the training, so it flatters",
        (
            "22",
            "model specification",
        ): "weights, settings and vocabulary are in the bundle, which runs no code of others",
        ("23", "model performance"): _performance(evaluation),
        ("24", "model updating"): "none",
        ("25", "interpretation"): AUTHORS,
        ("26", "limitations"): " ".join(application.limits(run["source"])),
        (
            "27",
            "usability",
        ): "a code that the vocabulary does not know is read as unknown, and counted; prediction "
        "needs the bundle alone",
    }


def _in_numbers(counts: Json) -> str:
    if not counts:
        return "not counted"
    whole = f"{counts.get('subjects')} subjects, {counts.get('labels')} labels, {counts.get('positives')} positive"
    splits = [
        f"{name} {row['labels']} ({row['positives']} positive)"
        for name, row in counts.get("splits", {}).items()
    ]
    return whole + (": " + ", ".join(splits) if splits else "")


def _performance(evaluation: Json | None) -> str:
    if not evaluation:
        return _PENDING
    told = [
        f"{name} {_number(each['value'])} ({_number(each['low'])} to {_number(each['high'])})"
        for name, each in evaluation["metrics"].items()
    ]
    return (
        f"on {evaluation['n']} labels of {evaluation['n_subjects']} subjects ({evaluation['split']}): "
        + ", ".join(told)
    )


def _number(value: Any) -> str:
    return "?" if value is None else f"{value:.3f}"
