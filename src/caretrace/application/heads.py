"""What the heads of a run's models look at, over held-out records: measured once per bundle, kept in the run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.application import Progress
from caretrace.application.evaluate import labels_for
from caretrace.application.predictor import Predictor
from caretrace.application.run import Run
from caretrace.data.batch import EventBatch
from caretrace.dataset import Dataset
from caretrace.explain import certificate as certificates
from caretrace.explain import heads
from caretrace.explain.heads import Looks, ShowsHeads, Traits, traits
from caretrace.explain.scores import row
from caretrace.explain.surroundings import HEADS
from caretrace.files import read_json, write_json
from caretrace.report.record import EXPLANATIONS
from caretrace.training.bundle import MANIFEST

FORMAT_VERSION = 1
RECORDS = 48
# Codes that a query may point at: the commonest of these records.
CODES = 30
_POINTED_AT = 3
_TYPES = [kind.value for kind in schema.EventType]


def write_heads(
    predictor: Predictor, run: Run, dataset: Dataset, score: object, progress: Progress
) -> dict[str, Any] | None:
    """Measure the heads and write `explain/heads.json`, unless it is there for this very bundle.

    Args:
        predictor: The run's ensemble.
        run: The run.
        dataset: Where held-out subjects are; any subjects where it has none.
        score: The ensemble's logit.
        progress: Told about each piece of work.

    Returns:
        What is in the file; None for models without heads, or without a record to look at.
    """
    if not isinstance(score, ShowsHeads):
        return None
    path, own = run.path / EXPLANATIONS / HEADS, _fingerprint(run)
    if path.is_file():
        stored: dict[str, Any] = read_json(path)
        if (stored.get("format_version"), stored.get("bundle")) == (FORMAT_VERSION, own):
            return stored
    records = _records(predictor, run, dataset, progress)
    if not records:
        return None
    progress("explaining: what heads look at", 0, 2)
    seen = [(sample, score.looks(sample)) for sample in records]
    progress("explaining: heads against chance", 1, 2)
    found = {
        "format_version": FORMAT_VERSION,
        "bundle": own,
        "records": len(records),
        "draws": heads.DRAWS,
        "heads": _heads(seen, predictor, _names(dataset)),
        "layers": _layers(seen),
    }
    write_json(path, found)
    return found


def _fingerprint(run: Run) -> str:
    """Of the bundle without its certificate, which may come later."""
    parts = read_json(run.bundle / MANIFEST)["sha256"]
    kept = {name: value for name, value in parts.items() if name != certificates.FILE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _records(predictor: Predictor, run: Run, dataset: Dataset, progress: Progress) -> list[EventBatch]:
    """Some held-out records, one per subject, chosen without looking at them."""
    splits = dataset.splits
    labels = labels_for(run, dataset).frame.sort(schema.SUBJECT_ID, schema.PREDICTION_TIME)
    last = labels.unique(schema.SUBJECT_ID, keep="last", maintain_order=True)
    held_out = last.join(
        splits.filter(pl.col(schema.SPLIT) == schema.HELD_OUT), on=schema.SUBJECT_ID, how="semi"
    )
    chosen = held_out if len(held_out) else last
    chosen = chosen.sample(min(RECORDS, len(chosen)), seed=0).sort(schema.SUBJECT_ID)
    inputs = predictor.application.collect(
        dataset, chosen, None, lambda done, total: progress("reading records to look at", done, total)
    )
    samples = predictor.preprocessor.transform(inputs)
    batches = (row(samples.batch(np.array([number])), 0) for number in range(len(samples)))
    return [batch for batch in batches if not bool(batch.padding_mask.all())]


def _names(dataset: Dataset) -> dict[str, str | None]:
    if schema.DESCRIPTION not in dataset.codes.columns:
        return {}
    return dict(dataset.codes.select(schema.CODE, schema.DESCRIPTION).iter_rows())


Seen = list[tuple[EventBatch, list[Looks]]]


def _heads(seen: Seen, predictor: Predictor, names: dict[str, str | None]) -> list[dict[str, Any]]:
    """Every pooling head of every member, judged together."""
    numbers, counts = np.unique(
        np.concatenate([np.unique(each.code) for each, _ in seen]), return_counts=True
    )
    vocabulary = predictor.preprocessor.vocabulary.codes
    known = [int(n) for n in numbers[np.argsort(-counts, kind="stable")] if 0 <= n - 2 < len(vocabulary)][
        :CODES
    ]
    described = [(sample, looks, traits(sample, looks[0], len(_TYPES), known)) for sample, looks in seen]
    weights = [(np.concatenate([each.pooling for each in looks]), found) for _, looks, found in described]
    rows = [dataclasses.asdict(each) for each in heads.following(weights)]
    for each in rows:
        each["which"] = _TYPES[each["which"]] if each["what"] == heads.TYPE else None
    properties = [
        {"kind": heads.TIME, "name": "recent"},
        {"kind": heads.SEVERITY, "name": "extreme values"},
        *({"kind": heads.TYPE, "name": name} for name in _TYPES),
        *({"kind": "code", "name": names.get(vocabulary[n - 2]) or vocabulary[n - 2]} for n in known),
    ]
    pointing = _pointing([(looks, found) for _, looks, found in described])
    steps = np.mean([heads.effective_steps(pooling) for pooling, _ in weights], axis=0)
    length = float(np.mean([pooling.shape[1] for pooling, _ in weights]))
    per_member = len(seen[0][1][0].query)
    return [
        {
            "member": number // per_member,
            "head": number % per_member,
            "effective_steps": float(steps[number]),
            "steps": length,
            "follows": [each for each in rows if each["head"] == number],
            "points_at": [
                {**properties[each.direction], "cosine": each.cosine, "p": each.p}
                for each in pointing
                if each.head == number
            ][:_POINTED_AT],
        }
        for number in range(len(steps))
    ]


def _pointing(described: list[tuple[list[Looks], Traits]]) -> list[heads.Pointing]:
    keys = [np.concatenate([each.keys for each in looks], axis=1) for looks, _ in described]
    properties = [
        np.concatenate([-found.hours[None], found.severity[None], found.types, found.codes])
        for _, found in described
    ]
    query = np.concatenate([each.query for each in described[0][0]])
    return heads.pointing(query, heads.directions(keys, properties))


def _layers(seen: Seen) -> list[dict[str, Any]]:
    """Reach of each head of each layer, mean over the records whose layers were looked into."""
    found: dict[tuple[int, int, int], list[heads.Reach]] = {}
    for _, looks in seen:
        for member, each in enumerate(looks):
            if each.layers is None:
                continue
            for reached in heads.reach(each.layers, each.hours):
                found.setdefault((member, reached.layer, reached.head), []).append(reached)
    return [
        {
            "member": member,
            "layer": layer,
            "head": head,
            "records": len(rows),
            **{
                name: float(np.mean([getattr(each, name) for each in rows]))
                for name in ("hours", "even_hours", "near", "even_near")
            },
            "nearer": float(np.mean([each.hours < each.even_hours for each in rows])),
        }
        for (member, layer, head), rows in sorted(found.items())
    ]
