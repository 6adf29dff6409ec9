"""`caretrace ingest`: raw tables to a MEDS dataset."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from caretrace.cli.console import AsJson, Console, Quiet

# Done, but more rows were quarantined than the user allowed.
OVER_LIMIT = 3


class Splits(enum.StrEnum):
    """Who decides which subject is held out."""

    OFFICIAL = "official"
    HASH = "hash"


def command(
    source: Annotated[
        str, typer.Argument(help="Which raw tables these are; `caretrace sources` lists them.")
    ],
    raw: Annotated[
        Path, typer.Argument(help="Folder with the raw tables (.csv, .csv.gz or .parquet); only read.")
    ],
    out: Annotated[Path, typer.Argument(help="Dataset folder to make; it appears whole or not at all.")],
    splits: Annotated[
        Splits,
        typer.Option(
            help="`official` keeps the source's own split where it has one; `hash` draws 70/15/15 by subject."
        ),
    ] = Splits.OFFICIAL,
    engine: Annotated[str, typer.Option(help="What runs the mapping; only `duckdb` today.")] = "duckdb",
    memory_limit: Annotated[
        str, typer.Option(help="Memory for the engine; beyond it spills to disk.")
    ] = "4GB",
    time_zone: Annotated[
        str | None,
        typer.Option(
            help="Where the clocks of raw times without a zone stood, such as Europe/Berlin; they become UTC. "
            "Without it they are taken as written."
        ),
    ] = None,
    max_quarantined: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of rows that may be quarantined; above it the exit code is 3, the dataset stays.",
        ),
    ] = 0.01,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Turn raw tables into a MEDS dataset with a quality report.

    Every row is loaded or quarantined with its reason; none is dropped. See `metadata/quality.json` and
    `quarantine/` in the dataset.

    Example: `caretrace ingest physionet-2012 challenge-2012/ data/p12`
    """
    from caretrace.ingest import ingest

    console = Console(as_json, quiet)
    with console.progress(f"ingest {source}") as bar:
        quality = ingest(
            source,
            raw,
            out,
            splits=splits.value,
            engine=engine,
            memory_limit=memory_limit,
            time_zone=time_zone,
            progress=bar.to,
        )
    _show(console, quality, out)
    console.result(quality)
    if quality["fraction_quarantined"] > max_quarantined:
        console.error(
            f"{quality['rows_quarantined']:,} of {quality['rows_read']:,} rows were quarantined, more than "
            f"the limit of {max_quarantined:.2%}; see {out / 'quarantine'}, or raise --max-quarantined"
        )
        raise typer.Exit(OVER_LIMIT)


def _show(console: Console, quality: dict[str, Any], out: Path) -> None:
    columns = ("rows_read", "rows_loaded", "rows_quarantined", "events")
    rows = [(name, *(table[column] for column in columns)) for name, table in quality["tables"].items()]
    rows += [
        (f"{name} (view)", 0, 0, 0, view["events"])
        for name, view in quality["views"].items()
        if view["events"]
    ]
    rows.append(("total", *(quality[column] for column in columns)))
    console.table(
        f"{quality['source']} → {out}", ("table", *(name.replace("_", " ") for name in columns)), rows
    )
    flags = [
        (f"{name}: {flag}", count["rows"], count["meaning"] + _split(count.get("by")))
        for part in ("tables", "views")
        for name, table in quality[part].items()
        for flag, count in table["flags"].items()
        if flag != "dictionary"
    ]
    if flags:
        console.table("Kept, but flagged", ("flag", "rows", "meaning"), flags)
    beside = [(entry["file"], entry["rows"], entry["reason"]) for entry in quality["not_mapped"]]
    if beside:
        console.table("There, but not mapped", ("file", "rows", "why"), beside)
    if quality["missing_optional"]:
        console.say(f"Not there (optional): {', '.join(quality['missing_optional'])}.")
    if quality["unknown_files"]:
        console.say(f"Not read, unknown to this source: {', '.join(quality['unknown_files'])}.")
    if quality["codes_with_mixed_units"]:
        console.say(
            f"{len(quality['codes_with_mixed_units'])} codes hold values in several units, so codes.parquet "
            "leaves their unit empty; see codes_with_mixed_units in metadata/quality.json."
        )
    parts = ", ".join(f"{name} {count:,}" for name, count in quality["splits"].items())
    console.say(
        f"{quality['subjects']:,} subjects ({parts}), {quality['codes']:,} codes. "
        f"Next: `caretrace inspect {out}`"
    )


def _split(by: dict[str, int] | None) -> str:
    if not by:
        return ""
    shown = [f"{name} {count:,}" for name, count in list(by.items())[:5]]
    return f" ({', '.join(shown)}{', ...' if len(by) > 5 else ''})"
