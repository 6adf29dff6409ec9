"""Numbers about the live ward for Prometheus; none of them is about a subject."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

SAMPLES = Counter("caretrace_samples", "Samples that are on the disk")
BATCHES = Counter("caretrace_batches", "Batches that are on the disk", ["outcome"])
COMMIT = Histogram(
    "caretrace_batch_seconds",
    "From a batch's arrival until it is on the disk",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
)
ALARMS = Counter("caretrace_alarm_changes", "What happened to alarms", ["kind", "state"])
SUBJECTS = Gauge("caretrace_subjects", "Subjects who are watched")
IMPLAUSIBLE = Gauge(
    "caretrace_implausible_samples", "Samples no living body can have, not scored, since the start"
)
LATE = Gauge("caretrace_late_samples", "Samples that came after their step, not scored, since the start")
STEPS = Gauge("caretrace_scored_steps", "Steps of subjects that were scored, since the start")
UNSCORED = Gauge("caretrace_unscored_batches", "Batches on the disk that nobody has scored yet")
LAST = Gauge("caretrace_log_batches", "Batches that were ever appended to the log, by whichever process")
READERS = Gauge("caretrace_stream_readers", "Readers of the event stream")
EVICTED = Counter("caretrace_stream_evicted", "Readers that took no events and were cut off")
