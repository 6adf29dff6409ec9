"""Synthetic subjects in formats that others read. To add one: one file here, and one row in `FORMATS`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.export.tables import FLAG, tables_of
from caretrace.apps.synth.models.decoder.sampling import SamplingConfig
from caretrace.apps.synth.models.generator import Generator, Request, iter_chunks
from caretrace.errors import ConfigError, unknown_name
from caretrace.evaluation.histories import Histories
from caretrace.files import whole_folder

# Name → module with a `Writer` and a `read`; imported only when asked for.
FORMATS = {
    "meds": "caretrace.apps.synth.export.meds",
    "mimic-iii": "caretrace.apps.synth.export.mimic_iii",
    "fhir": "caretrace.apps.synth.export.fhir",
    "omop": "caretrace.apps.synth.export.omop",
}
NOTICE = f"""{FLAG}

Nobody in these files exists. They were drawn by a model (caretrace generate); dates are invented. Do not mix them with
real records, and conclude nothing about any person from them.
"""


def write_subjects(
    generator: Generator,
    request: Request,
    out: Path,
    kind: str,
    config: SamplingConfig | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Any]:
    """Draw subjects and write them; the folder appears whole or not at all, in the memory of one chunk.

    Args:
        generator: Draws them.
        request: How many, and who.
        out: Folder to make.
        kind: One of `FORMATS`.
        config: How they are drawn.
        progress: Told the subjects done, and how many in all.

    Returns:
        `subjects`, `visits`, `diagnoses`, `format`, `out`.

    Raises:
        ConfigError: No such format.
        OutputExistsError: `out` is taken.
    """
    module = _format(kind)
    counts = {"subjects": 0, "visits": 0, "diagnoses": 0}
    with whole_folder(out) as folder:
        (folder / f"{FLAG}.txt").write_text(NOTICE, encoding="utf-8")
        writer = module.Writer(folder, generator.vocabulary)
        try:
            for subject, records in iter_chunks(generator, request, config):
                tables = tables_of(subject, records, generator.vocabulary, request.seed)
                writer.add(tables)
                counts["subjects"] += tables.people.height
                counts["visits"] += tables.visits.height
                counts["diagnoses"] += tables.diagnoses.height
                progress(counts["subjects"], request.subjects)
        finally:
            writer.close()
    return {**counts, "format": kind, "out": str(out)}


def read_subjects(folder: Path, kind: str, vocabulary: Vocabulary) -> Histories:
    """The histories that `write_subjects` wrote, subjects in order of their ids.

    Raises:
        ConfigError: No such format.
        InputError: Not such files, or not marked as synthetic.
    """
    found: Histories = _format(kind).read(folder, vocabulary)
    return found


def _format(kind: str) -> Any:
    if kind not in FORMATS:
        raise ConfigError(unknown_name("format", kind, FORMATS))
    return importlib.import_module(FORMATS[kind])
