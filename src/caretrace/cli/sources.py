"""`caretrace sources`: what can be ingested."""

from __future__ import annotations

from caretrace.cli.console import AsJson, Console, Quiet


def command(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the sources that `caretrace ingest` can read, and where to get them.

    Example: `caretrace sources --json`
    """
    from caretrace.ingest import sources

    console = Console(as_json, quiet)
    found = sources()
    rows = [(source.name, source.title, source.summary, source.licence, source.url) for source in found]
    console.table("Sources", ("source", "what", "holds", "licence", "where"), rows)
    console.say("Next: `caretrace ingest SOURCE RAW OUT` turns the raw tables into a MEDS dataset.")
    fields = ("name", "title", "summary", "url", "licence")
    console.result({"sources": [{name: getattr(source, name) for name in fields} for source in found]})
