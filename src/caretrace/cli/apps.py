"""`caretrace apps`."""

from __future__ import annotations

from typing import Any

from caretrace.cli.console import AsJson, Console, Quiet


def command(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the applications: what each does, which verbs it answers, which configurations it names.

    Example: `caretrace apps`
    """
    from caretrace.application.configs import names_of
    from caretrace.application.verbs import verbs_of
    from caretrace.apps import APPS, load_application

    console = Console(as_json, quiet)
    found: list[dict[str, Any]] = []
    for name in APPS:
        application = load_application(name)
        found.append(
            {
                "name": name,
                "summary": application.summary,
                "verbs": list(verbs_of(application)),
                "configs": names_of(application),
            }
        )
    console.table(
        "Applications",
        ("name", "what it does", "verbs", "named configurations"),
        [[a["name"], a["summary"], " ".join(a["verbs"]), " ".join(a["configs"])] for a in found],
    )
    console.result({"applications": found})
