"""The report of a vitals run: what its alarms catch and cost, beside what a ward has today."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from caretrace.report.figures_page import Cell, Part, Table, Words, gates_table, kept, render_figures_page
from caretrace.report.record import Json, mapping
from caretrace.report.wording import compact, decimal

_WORDS = Words(
    title="Alarms from vital signs",
    loss="Loss of the detector",
    note="An alarm here is a line in a file. Nothing on this page has been near a bed.",
    series={"train_loss": ("training", 0)},
)
# Figure → heading of its column.
_FIGURES = {
    "vus_pr": "VUS-PR",
    "event_recall": "events caught",
    "false_alarms_per_patient_day": "false alarms a patient-day",
    "alarms_per_patient_day": "alarms a patient-day",
    "delay_median_abrupt": "median delay of abrupt events, s",
    "delay_median_gradual": "median delay of gradual events, s",
}
_MODELS = {
    "limits": "limits, no delay",
    "limits_15_s": "limits, 15 s",
    "news2": "NEWS2",
    "ewma": "EWMA chart",
    "cusum": "CUSUM chart",
    "conv-lstm-autoencoder": "the document's model",
    "sub-pca": "Sub-PCA",
    "sub-lof": "Sub-LOF",
    "sub-iforest": "Sub-IForest",
    "kshape-ad": "KShapeAD",
}
_GATES = {
    "event_recall": "events caught",
    "false_alarms_per_patient_day": "false alarms a patient-day",
    "delay_median_abrupt": "median delay of abrupt events, s",
    "share_of_limit_alarms": "alarms at equal recall, of those of limits",
    "share_of_news2_alarms": "alarms at equal recall, of those of NEWS2",
    "rate_off_nominal": "how far the rate of false alarms is off the stated one",
    "spo2_bias_held_or_flagged": "the rate under a saturation read 2 % too high, held or flagged",
    "double_noise_held_or_flagged": "the rate under doubled noise, held or flagged",
}


def render_vitals_report(run: Path, limits: list[str], out: Path | None = None) -> Path:
    """Write the HTML report of a vitals run from what lies in its folder; arguments as in `render_figures_page`."""
    return render_figures_page(run, limits, _WORDS, _parts, out)


def _parts(evaluation: Json) -> list[Part]:
    names = {
        name: _GATES.get(name) or name.replace("vus_pr_above_", "VUS-PR above that of ").replace("_", " ")
        for name in mapping(evaluation, "gates")
    }
    beside = (
        "Held-out people, and the same recordings for all. Below each figure is its 95 % interval, over people. A "
        "detector without alarms of its own is judged by VUS-PR alone: how well its scores rank steps near events "
        "(Paparrizos 2022)."
    )
    return [
        Part("summary", "In short", list(_lines(evaluation, names))),
        Part("alarms", "What alarms catch, and what they cost", [beside], [_models(evaluation)]),
        Part("bounds", "Bounds", [], [gates_table(evaluation, names)]),
        *_document(evaluation),
    ]


def _lines(evaluation: Json, names: dict[str, str]) -> Iterator[str]:
    ours = mapping(evaluation, "metrics")
    caught, false = mapping(ours, "event_recall"), mapping(ours, "false_alarms_per_patient_day")
    if caught and false:
        yield (
            f"{decimal(caught.get('value'))} of the events are caught, with {decimal(false.get('value'))} false alarms "
            f"a patient-day, on {evaluation.get('n_subjects')} people, {compact(evaluation.get('patient_days'))} days "
            f"and {evaluation.get('n')} events."
        )
    yield from kept(evaluation, names)


def _models(evaluation: Json) -> Table:
    """A row per model, the recommended one first."""
    rows = [("this model", mapping(evaluation, "metrics"))]
    rows += [(_MODELS.get(name, name), each) for name, each in mapping(evaluation, "comparators").items()]
    cells = [(name, [Cell.of(mapping(each, figure)) for figure in _FIGURES]) for name, each in rows if each]
    return Table(("Model", *_FIGURES.values()), cells)


def _document(evaluation: Json) -> list[Part]:
    """Figure and value, where the document's model was judged."""
    figures = mapping(evaluation, "document_table")
    if not figures:
        return []
    told = "What the prototype's document reported, of the same kind of model on windows of one person each."
    rows = [(name.replace("_", " "), [Cell(decimal(value))]) for name, value in figures.items()]
    return [Part("document", "The document's own table", [told], [Table(("Figure", "found"), rows)])]
