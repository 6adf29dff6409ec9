"""What alarms say to people."""

from __future__ import annotations

import dataclasses
import json

from caretrace.apps.vitals.alarms import AlarmSettings

NAMES = {
    "hr": "heart rate",
    "spo2": "oxygen saturation",
    "resp": "respiratory rate",
    "sbp": "systolic pressure",
    "dbp": "diastolic pressure",
    "map": "mean pressure",
    "temp": "temperature",
}
_SCORES = {
    "sudden": "Something sudden: the signals changed quickly, in the way of somebody who gets worse",
    "lasting": "Something lasting: the signals stay away from what was usual for this patient",
    "surprise": "The signals go where they were not expected to go",
}


def alarm_words(reason: str, channel: str, score: float, threshold: float) -> str:
    """One sentence.

    Args:
        reason: What for.
        channel: Which sensor; empty where it is about none.
        score: When it was raised.
        threshold: From which score it is an alarm.
    """
    name = NAMES.get(channel, channel)
    if reason == "probe_off":
        return f"No {name} any more: check the probe and its cable"
    if reason == "flat":
        return f"The {name} does not change any more: check the sensor"
    if reason == "stale":
        return "Nothing arrives from this patient's monitor"
    return f"{_SCORES.get(reason, reason)} (score {score:.1f}, an alarm from {threshold:.1f})"


def as_json(settings: AlarmSettings) -> str:
    """Settings of a machine as JSON."""
    return json.dumps(dataclasses.asdict(settings))
