"""`caretrace serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caretrace.cli.console import AsJson, Console, Quiet
from caretrace.cli.options import extra
from caretrace.serve.settings import DEMO_FILE

if TYPE_CHECKING:
    from caretrace.serve.settings import ServeSettings


def command(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders that `caretrace train` wrote, or one folder of `caretrace demo`."),
    ],
    store: Annotated[
        str | None,
        typer.Option(
            help="Where samples and alarms are kept: postgresql://user:password@host/name or sqlite:///FILE; default: "
            "SQLite in the state folder."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Folder for tokens, sessions, audit and jobs; default: `serve` in the demo or the first run."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="Tokens that `caretrace token` wrote; default: tokens.json in the state folder."),
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM file; without one, put a proxy that speaks TLS in front.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of a limit, such as requests_per_second=1000; repeat for more."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="NAME=DAYS to keep, such as samples_days=7; null for ever; repeat for more."),
    ] = None,
    mqtt: Annotated[
        str | None,
        typer.Option(
            help="Also take samples from a broker: mqtt://host/topic or mqtts://user:password@host/ward/+/vitals; "
            "messages are JSON like the body of POST /vitals."
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            help="Processes: one leads (scores, alarms, pages), the others take batches of vital signs beside it; "
            "more than one need --store postgresql://…",
        ),
    ] = 1,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Serve runs: predictions and explanations over HTTP, live vital signs with alarms, boards, and a page.

    Example: `caretrace serve demo`

    For a team: `caretrace serve runs/vitals runs/mortality --host 0.0.0.0 --store postgresql://… --workers 3`

    Research use only, never a bedside device. Ctrl-C stops it; what was acknowledged is on the disk.
    """
    console = Console(as_json, quiet)
    with extra("serve"):
        from caretrace.serve.start import serve

    asked: dict[str, Any] = {
        "store": store,
        "host": host,
        "port": port,
        "token_file": token_file,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
        "mqtt": mqtt,
        "workers": workers,
    }
    settings = _settings(runs, state, limit or [], keep or [], asked)

    def ready(address: str) -> None:
        console.say(f"Open {address} in a browser. Research use only. Ctrl-C stops it.")
        if not settings.loopback and settings.tls_certificate is None:
            console.say(
                "Without --tls-certificate tokens travel in the clear: only behind a proxy that speaks TLS."
            )
        console.result({"address": address, "state": str(settings.state)})

    serve(settings, ready)


def _settings(
    runs: list[Path], state: Path | None, limits: list[str], keep: list[str], asked: dict[str, Any]
) -> ServeSettings:
    """What the options say together.

    Raises:
        ConfigError: An unknown limit, or a demo beside other runs.
    """
    from caretrace.config import load
    from caretrace.errors import ConfigError
    from caretrace.serve.settings import Limits, Retention, ServeSettings

    demo = runs[0] if (runs[0] / DEMO_FILE).is_file() else None
    if demo is not None and len(runs) > 1:
        raise ConfigError(f"{demo} is a demo, which names its own runs; give it alone")
    return ServeSettings(
        runs=tuple(runs) if demo is None else _runs_of(demo),
        state=state or runs[0] / "serve",
        demo=demo,
        limits=load(Limits, None, limits),
        retention=load(Retention, None, keep),
        **asked,
    )


def _runs_of(demo: Path) -> tuple[Path, ...]:
    """The runs that a demo's file names."""
    from caretrace.errors import BundleError
    from caretrace.files import read_json

    try:
        return tuple(demo / name for name in read_json(demo / DEMO_FILE)["runs"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BundleError(
            f"{demo / DEMO_FILE} is damaged ({error}); remove {demo} and run `caretrace demo`"
        ) from None
