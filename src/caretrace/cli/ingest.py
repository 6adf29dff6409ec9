"""`caretrace ingest`: raw tables to a MEDS dataset."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from caretrace.cli.console import AsJson, Console, Quiet
from caretrace.errors import ConfigError

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
        Path,
        typer.Argument(
            help="Folder with the raw tables (.csv, .csv.gz or .parquet), or for some sources one file; only read."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Dataset folder to make; it appears whole or not at all.")],
    splits: Annotated[
        Splits,
        typer.Option(
            help="`official` keeps the source's own split where it has one; `hash` draws 70/15/15 by subject."
        ),
    ] = Splits.OFFICIAL,
    engine: Annotated[
        str,
        typer.Option(help="What runs the mapping: `duckdb` on this machine, `spark` on a cluster or here."),
    ] = "duckdb",
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
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="What the source lets you choose, as name=value; may be repeated. `caretrace sources NAME` lists them."
        ),
    ] = None,
    fetch_demo: Annotated[
        bool,
        typer.Option(
            "--fetch-demo",
            help="First download the openly licensed demo of this source to RAW, checking every checksum.",
        ),
    ] = False,
    fetch_url: Annotated[
        str | None, typer.Option(help="A mirror to fetch the demo from, instead of its publisher.")
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

    With nothing at hand: `caretrace ingest mimic-iv --fetch-demo mimic-iv-demo/ data/m4`
    """
    from caretrace.files import refuse_existing
    from caretrace.ingest import ingest

    console = Console(as_json, quiet)
    options = _options(option or [])
    refuse_existing(out)
    if fetch_demo:
        _fetch(console, source, raw, fetch_url)
    with console.progress(f"ingest {source}") as bar:
        quality = ingest(
            source,
            raw,
            out,
            splits=splits.value,
            engine=engine,
            memory_limit=memory_limit,
            time_zone=time_zone,
            options=options,
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


def _options(given: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name in options:
            why = "is given twice" if name in options else "must be written name=value"
            raise ConfigError(f"--option {text}: {name!r} {why}")
        options[name] = value
    return options


def _fetch(console: Console, source: str, raw: Path, base_url: str | None) -> None:
    from caretrace.ingest.download import fetch_demo

    with console.progress(f"fetch {source}") as bar:
        found = fetch_demo(
            source,
            raw,
            base_url=base_url,
            progress=lambda name, done, size: bar.to(
                f"fetch {name}, kB", done // 1000, size and size // 1000
            ),
        )
    console.say(f"{len(found)} files of the demo are in {raw}, checked.")


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
