"""`caretrace sources`: what can be ingested."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from caretrace.cli.console import AsJson, Console, Quiet


def command(
    name: Annotated[str | None, typer.Argument(help="Tell all about this source.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the sources that `caretrace ingest` can read, or tell all about one.

    Example: `caretrace sources mimic-iv` says which tables become which events, and how to get them.
    """
    console = Console(as_json, quiet)
    if name is None:
        _list(console)
    else:
        _tell(console, name)


def _list(console: Console) -> None:
    from caretrace.ingest import sources

    found = sources()
    rows = [(s.name, s.summary, s.licence, "yes" if s.has_demo else "") for s in found]
    console.table("Sources", ("source", "holds", "licence", "--fetch-demo"), rows)
    console.say(
        "Next: `caretrace sources NAME` tells more about one; `caretrace ingest NAME RAW OUT` turns its raw tables "
        "into a MEDS dataset."
    )
    fields = ("name", "title", "summary", "url", "licence", "has_demo")
    console.result({"sources": [{field: getattr(source, field) for field in fields} for source in found]})


def _tell(console: Console, name: str) -> None:
    from caretrace.ingest import source_mapping, sources

    mapping = source_mapping(name)
    source = next(source for source in sources() if source.name == name)
    about = {
        "what": mapping.title,
        "version": mapping.version,
        "licence": mapping.licence,
        "where": mapping.url,
    }
    console.table(name, ("", ""), list(about.items()))
    mapped = [(", ".join(t.files), "" if t.optional else "yes", _codes(t)) for t in mapping.tables.values()]
    console.table("Tables (.csv, .csv.gz or .parquet)", ("file", "needed", "becomes"), mapped)
    if mapping.not_mapped:
        console.table("Not mapped", ("file", "why"), list(mapping.not_mapped.items()))
    if mapping.options:
        console.table("--option NAME=VALUE", ("name", "what it does"), list(mapping.options.items()))
    for note in mapping.notes:
        console.say(f"- {note}")
    fetch = " --fetch-demo" if source.has_demo else ""
    console.say(f"Next: `caretrace ingest {name}{fetch} RAW OUT`")
    console.result(
        {
            **about,
            "name": name,
            "tables": [
                {"file": file, "needed": bool(needed), "becomes": codes} for file, needed, codes in mapped
            ],
            "not_mapped": dict(mapping.not_mapped),
            "options": dict(mapping.options),
            "notes": list(mapping.notes),
            "has_demo": source.has_demo,
        }
    )


def _codes(table: Any) -> str:
    """The first part of the codes a table gives, each once."""
    heads = dict.fromkeys(event.code.text.split("//")[0] for event in table.events)
    return ", ".join(heads) or "looked up by other tables"
