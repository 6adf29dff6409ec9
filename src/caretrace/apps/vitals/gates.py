"""What a ward asks of its alarms before it keeps them switched on."""

from __future__ import annotations

from typing import Any

from caretrace.apps.vitals.config import PolicyConfig
from caretrace.apps.vitals.judging import Figure

RECALL, FALSE_A_DAY, ABRUPT_DELAY = 0.80, 0.25, 60.0
SHARE_OF_LIMITS, SHARE_OF_NEWS2, RATE_WITHIN = 0.30, 0.50, 0.20


def gates(
    metrics: dict[str, Figure],
    comparators: dict[str, dict[str, Figure]],
    apart: dict[str, Figure],
    shifted: dict[str, Any],
    policy: PolicyConfig,
    step_seconds: float,
) -> dict[str, dict[str, Any]]:
    """Each bound with what was reached.

    Args:
        metrics: Of the monitor.
        comparators: Of each comparator.
        apart: Comparator → by how much the monitor's VUS-PR is above its own.
        shifted: What became of the rate under another sensor.
        policy: The stated rate.
        step_seconds: Length of a step.
    """
    found: dict[str, dict[str, Any]] = {}

    def ask(name: str, value: float | None, bound: float, least: bool) -> None:
        if value is not None:
            passed = value >= bound if least else value <= bound
            found[name] = {"passed": bool(passed), "value": float(value), "bound": bound}

    def of(figures: dict[str, Figure], name: str) -> float | None:
        return figures[name]["value"] if name in figures else None

    rate = metrics["false_alarms_per_patient_day"]["value"]
    ask("event_recall", of(metrics, "event_recall"), RECALL, True)
    ask("false_alarms_per_patient_day", rate, FALSE_A_DAY, False)
    if step_seconds <= ABRUPT_DELAY:  # an hourly chart cannot be asked for seconds
        ask("delay_median_abrupt", of(metrics, "delay_median_abrupt"), ABRUPT_DELAY, False)
    ask("warning_median", of(metrics, "warning_median"), 0.0, True)
    ask("share_of_limit_alarms", of(comparators["limits"], "our_share_of_its_alarms"), SHARE_OF_LIMITS, False)
    ask("share_of_news2_alarms", of(comparators["news2"], "our_share_of_its_alarms"), SHARE_OF_NEWS2, False)
    for name, value in apart.items():
        ask(f"vus_pr_above_{name}", value["low"], 0.0, True)
    ask("rate_off_nominal", abs(rate / policy.false_alarms_per_day - 1), RATE_WITHIN, False)
    for name in ("spo2_bias", "double_noise"):
        case = shifted[name]
        found[f"{name}_held_or_flagged"] = {
            "passed": bool(case["held"] or case["flagged"]),
            "value": float(case["false_alarms_per_patient_day"]),
            "bound": policy.false_alarms_per_day,
        }
    return found
