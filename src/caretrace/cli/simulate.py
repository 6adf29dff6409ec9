"""`caretrace simulate`: raw tables of the virtual hospital."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from caretrace.cli.console import AsJson, Console, Quiet


def command(
    out: Annotated[Path, typer.Argument(help="Folder to make; it must not exist yet.")],
    subjects: Annotated[
        int | None, typer.Option(help="How many people; 2000 by default, which makes about 110 MB of tables.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed writes the same bytes, another one other people.")
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="Plant a rule of death to test explanations on: single, conjunctive, ordered, redundant or decoy. "
            "May be given more than once; truth/rule_events.parquet lists what was planted.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with settings, shaped like `simulation.json` of a run.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, for example --set noise=0.5."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a hospital: raw tables as a hospital would export them, and the truth behind them.

    Nothing in it is real, and no figure from it says anything about real patients.

    Example: `caretrace simulate raw --subjects 500 --seed 7`

    With planted rules: `caretrace simulate raw --rule single --set planted_strength=4`
    """
    from caretrace.config import load
    from caretrace.files import refuse_existing
    from caretrace.hospital import HospitalConfig, simulate

    console = Console(as_json, quiet)
    overrides = [*(set_ or ()), *([f"rules=[{', '.join(rule)}]"] if rule else ())]
    settings = load(HospitalConfig, config, overrides)
    if subjects is not None:
        settings = dataclasses.replace(settings, subjects=subjects)
    if seed is not None:
        settings = dataclasses.replace(settings, seed=seed)
    refuse_existing(out)
    with console.progress("simulating subjects", total=settings.subjects) as advance:
        rows = simulate(out, settings, advance)
    console.result({"out": str(out), "subjects": settings.subjects, "seed": settings.seed, "rows": rows})
    console.table(f"Simulated hospital in {out}", ("file", "rows"), list(rows.items()))
    console.say(f"Next: caretrace ingest hospital {out} DATASET")
