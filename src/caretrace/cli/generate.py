"""`caretrace generate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from caretrace.cli.console import AsJson, Console, Quiet


class Format(StrEnum):
    """What is written."""

    MEDS = "meds"
    MIMIC_III = "mimic-iii"
    FHIR = "fhir"
    OMOP = "omop"


class Sex(StrEnum):
    """Sex as recorded."""

    F = "F"
    M = "M"


def command(
    run: Annotated[Path, typer.Argument(help="Run folder of an application that generates: synth.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many subjects.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    age: Annotated[
        int | None,
        typer.Option(min=0, max=120, help="Years at the first visit, of all; default: as in training."),
    ] = None,
    sex: Annotated[Sex | None, typer.Option(help="Of all; default: as in training.")] = None,
    kind: Annotated[
        Format,
        typer.Option(
            "--format",
            help="meds: a dataset for every other verb. mimic-iii: PATIENTS, ADMISSIONS, DIAGNOSES_ICD. "
            "fhir: R4 bundles, one a line. omop: CDM 5.4 tables.",
        ),
    ] = Format.MEDS,
    seed: Annotated[
        int, typer.Option(min=0, help="The same seed draws the same subjects; more repeat them.")
    ] = 0,
    temperature: Annotated[
        float, typer.Option(help="1 samples the model; below 1 subjects grow alike, so judge them again.")
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option(min=0, help="Only the most probable codes of each choice; 0 for all.")
    ] = 0,
    top_p: Annotated[
        float, typer.Option(help="Only the most probable codes that together have this probability.")
    ] = 1.0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw synthetic subjects from a trained generator, and write them as others read them.

    Example: `caretrace generate runs/synth --n 10000 --age 70 --sex F --format omop --out synthetic`

    Nobody in the files exists, and every file says so. Memory does not grow with `--n`.
    """
    from caretrace.application.run import Run
    from caretrace.application.verbs import Draw, generate
    from caretrace.apps import load_application

    console = Console(as_json, quiet)
    opened = Run(run)
    application = load_application(opened.read()["application"], "generate")
    draw = Draw(n, kind.value, seed, age, None if sex is None else sex.value, temperature, top_k, top_p)
    with console.progress("drawing subjects", n) as bar:
        counts = generate(application, opened, out, draw, progress=bar.to)
    rows = [[name, value] for name, value in counts.items() if isinstance(value, int)]
    console.table(f"Synthetic subjects in {out} ({kind.value})", ["what", "number"], rows)
    console.result(counts)
