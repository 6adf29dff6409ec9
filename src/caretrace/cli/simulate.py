"""`caretrace simulate`: raw tables of the virtual hospital."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from caretrace.cli.console import AsJson, Console, Quiet


def command(
    out: Annotated[Path | None, typer.Argument(help="Folder to make; it must not exist yet.")] = None,
    subjects: Annotated[
        int | None,
        typer.Option(
            help="How many people have ICU stays, and how many others have visit histories; 2000 by default. "
            "1,000 make about 55 MB of tables."
        ),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(
            help="How long the monitors record and the city's emergency care is run; 14 by default."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed writes the same bytes, another one other people.")
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            help="Write this part only: stays, histories, vitals or operations. May be given more than once.",
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="Plant a rule of death to test explanations on: single, conjunctive, ordered, redundant or decoy. "
            "May be given more than once; truth/rule_events.parquet lists what was planted.",
        ),
    ] = None,
    vary_staffing: Annotated[
        bool,
        typer.Option(
            "--vary-staffing",
            help="The city tries things out: every fortnight 0 to 20 more ambulances, and in each hospital 0 to 3 more "
            "nurses a shift and perhaps a discharge lounge, at random. From such a city a model can learn what "
            "staffing does; truth/trials.parquet says what was tried.",
        ),
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with settings, shaped like `simulation.json` of a run.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, for example --set noise=0.5."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Write nothing: run the simulated city for many seeds and compare it with published numbers.",
        ),
    ] = False,
    seeds: Annotated[int, typer.Option(min=2, help="How many seeds --check runs.")] = 30,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a hospital: raw tables as a hospital would export them, and the truth behind them.

    Nothing in it is real, and no figure from it says anything about real patients. Four parts: ICU stays, visit
    histories with ICD-9 codes, vital signs of monitored patients, and a city's ambulances, emergency departments
    and staff.

    Example: `caretrace simulate raw --subjects 500 --seed 7`

    Second by second: `caretrace simulate raw --part vitals --days 2 --set monitors.step_seconds=1`

    A year of a city: `caretrace simulate raw --part operations --days 365`

    A city to learn what-ifs from: `caretrace simulate raw --part operations --days 364 --vary-staffing`

    With planted rules: `caretrace simulate raw --rule single --set planted_strength=4`

    Against published numbers, one minute: `caretrace simulate --check`
    """
    console = Console(as_json, quiet)
    if check:
        _check(console, seeds)
        return
    if out is None:
        raise typer.BadParameter("name the folder to make, or give --check", param_hint="OUT")
    lists = {"rules": rule, "parts": part}
    trials = _trials() if vary_staffing else []
    overrides = [
        *trials,
        *(set_ or ()),
        *(f"{name}=[{', '.join(given)}]" for name, given in lists.items() if given),
    ]
    _write(console, out, config, overrides, {"subjects": subjects, "days": days, "seed": seed})


def _trials() -> list[str]:
    """What `--vary-staffing` stands for, as settings that `--set` may still change."""
    from caretrace.hospital.operations.config import VARIED

    return [f"operations.trials.{name}={value}" for name, value in dataclasses.asdict(VARIED).items()]


def _write(
    console: Console, out: Path, config: Path | None, overrides: list[str], given: dict[str, int | None]
) -> None:
    """Write the parts that are asked for, and say which command reads each."""
    from caretrace.config import load
    from caretrace.files import refuse_existing
    from caretrace.hospital import HospitalConfig, simulate_parts
    from caretrace.hospital.parts import FOLDERS, SOURCES

    settings = load(HospitalConfig, config, overrides)
    for name, value in given.items():
        if value is not None:
            settings = dataclasses.replace(settings, **{name: value})  # type: ignore[arg-type]
    refuse_existing(out)
    with console.progress("simulating") as bar:
        rows = simulate_parts(
            out, settings, lambda name, done, total: bar.to(f"simulating {name}", done, total)
        )
    told = {"subjects": settings.subjects, "days": settings.days, "seed": settings.seed}
    console.result({"out": str(out), **told, "parts": list(settings.parts), "rows": rows})
    console.table(f"Simulated hospital in {out}", ("file", "rows"), list(rows.items()))
    for each in settings.parts:
        console.say(f"Next: caretrace ingest {SOURCES[each]} {out / FOLDERS[each]} DATASET")


def _check(console: Console, seeds: int) -> None:
    """Every published band beside the simulated value; exit code 1 if one is missed."""
    from caretrace.hospital.operations import check

    with console.progress("simulating the city", total=seeds) as advance:
        bands = check(range(seeds), progress=advance)
    console.table(
        f"{seeds} seeds of the simulated city beside published numbers",
        ("what", "published", "allowed", "simulated (95 %)", "inside"),
        [
            (
                band.name,
                f"{band.target:g}",
                f"{band.low:g} to {band.high:g}",
                f"{band.value:.3g} ({band.interval[0]:.3g} to {band.interval[1]:.3g})",
                band.inside,
            )
            for band in bands
        ],
    )
    found = [{**dataclasses.asdict(band), "inside": band.inside} for band in bands]
    console.result({"seeds": seeds, "bands": found, "all_inside": all(band.inside for band in bands)})
    missed = [band.name for band in bands if not band.inside]
    if missed:
        console.error(f"outside the allowed range: {', '.join(missed)}")
        raise typer.Exit(1)
