"""`caretrace token`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from caretrace.cli.console import AsJson, Console, Quiet
from caretrace.cli.options import extra


class Action(StrEnum):
    """What to do."""

    ADD = "add"
    REVOKE = "revoke"
    LIST = "list"


class Role(StrEnum):
    """What the holder may do."""

    VIEWER = "viewer"
    CLINICIAN = "clinician"
    ADMIN = "admin"


def command(
    action: Annotated[Action, typer.Argument(help="add makes one, revoke ends one, list shows them.")],
    name: Annotated[
        str | None, typer.Argument(help="Who holds it; stands in the audit. Not needed for list.")
    ] = None,
    file: Annotated[
        Path,
        typer.Option(help="File of the tokens: `--token-file` of serve, or tokens.json in its state folder."),
    ] = Path("demo/serve/tokens.json"),
    role: Annotated[
        Role,
        typer.Option(
            help="viewer sees wards and alarms; clinician acknowledges, predicts and reads patients; admin also reads "
            "the audit."
        ),
    ] = Role.VIEWER,
    ward: Annotated[
        list[str] | None, typer.Option(help="Only patients of this ward; repeat for more. Default: all.")
    ] = None,
    days: Annotated[float, typer.Option(help="How long it is valid.")] = 90.0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make, end and list the tokens by which people and programs may use the service.

    Example: `caretrace token add ward-a-desk --role clinician --ward A --file demo/serve/tokens.json`

    A token is shown once; only its hash is kept. Ending one works at once, while the service runs.
    """
    from caretrace.errors import ConfigError

    with extra("serve"):
        from caretrace.serve.clock import iso
        from caretrace.serve.security.tokens import Tokens

    console, tokens = Console(as_json, quiet), Tokens(file)
    if action is Action.LIST:
        rows = [token.describe() for token in tokens.all()]
        shown = [
            [
                row["name"],
                row["role"],
                ", ".join(row["wards"] or ["all"]),
                row["expires"][:10],
                (row["revoked"] or "")[:10],
            ]
            for row in rows
        ]
        console.table(f"Tokens in {file}", ["name", "role", "wards", "expires", "revoked"], shown)
        console.result({"tokens": rows})
        return
    if name is None:
        raise typer.BadParameter(f"whose token? `caretrace token {action.value} NAME`")
    if action is Action.REVOKE:
        ended = tokens.revoke(name)
        console.say(f"Ended {ended} token(s) of {name}.")
        console.result({"revoked": ended})
        return
    secret = tokens.add(name, role.value, wards=ward, days=days)
    found = next((token for token in reversed(tokens.all()) if token.name == name), None)
    if found is None:
        raise ConfigError(f"{file} was changed by somebody else meanwhile; try again")
    console.table(f"Token of {name}, shown this once", ["token", "role"], [[secret, role.value]])
    console.result({"token": secret, "name": name, "role": role.value, "expires": iso(found.expires)})
