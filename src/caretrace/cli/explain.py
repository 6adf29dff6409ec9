"""`caretrace explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caretrace.cli.console import AsJson, Console, Quiet

if TYPE_CHECKING:
    from caretrace.application import Application
    from caretrace.application.run import Run
    from caretrace.explain.certificate import Certificate
    from caretrace.explain.explanation import Explanation

# How the models of a certificate are trained unless --set says otherwise: minutes, not hours, for five rules.
# Cross-fitting takes several members.
QUICK = ("training.members=1", "training.max_steps=800", "training.cross_fit=false")


def command(
    run: Annotated[
        Path | None,
        typer.Argument(help="Run folder that `caretrace train` wrote; may be left out with --certify."),
    ] = None,
    subject: Annotated[
        int | None,
        typer.Option(
            help="Whose prediction to explain; default: the held-out subject with the highest risk."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="removal, ablation, integrated_gradients, gradient_shap; or, drawn only, pooling and rollout."
        ),
    ] = "removal",
    top: Annotated[
        int, typer.Option(min=1, help="How many measurements to show; all of them are written.")
    ] = 15,
    certify: Annotated[
        bool,
        typer.Option(
            "--certify",
            help="Judge every method on the virtual hospital, where the causes of death are planted, and write the "
            "certificate into the run and its bundle. What was found for a rule and seed is kept beside it in "
            "certificate.findings, so an interrupted certification goes on, and several may share the work by --rules.",
        ),
    ] = False,
    rules: Annotated[
        str,
        typer.Option(
            help="With --certify: all, or some of single,conjunctive,ordered,redundant,decoy. Only all of them certify."
        ),
    ] = "all",
    seeds: Annotated[
        int, typer.Option(min=1, help="With --certify: seeds per rule; each simulates and trains anew.")
    ] = 1,
    subjects: Annotated[
        int, typer.Option(min=200, help="With --certify: simulated people per rule and seed.")
    ] = 1500,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            help="With --certify: judge this method only; may be given more than once. What is not judged is not "
            "certified.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="With --certify and no run: file for the certificate; default: certificate.json."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="With --certify: a setting of the models that are trained, such as training.members=5.",
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say which measurements moved a prediction, under a heading that says whether the method may be believed.

    Example: `caretrace explain runs/p12 --subject 132539`

    What is believed was tested: `caretrace explain runs/p12 --certify` (a quarter of an hour), and in full
    `caretrace explain runs/p12 --certify --seeds 5 --set training.members=5`

    One method on small worlds, as the demo does it (a minute):
    `caretrace explain RUN --certify --judge removal --subjects 600 --set training.max_steps=200`

    A method that fails a gate is still shown, with the words "not importance" over it. Beside the tables it writes
    `explanation.html`, a page to read in a browser: timeline, risk along the stay, events, groups, attention.
    """
    console = Console(as_json, quiet)
    if certify:
        _certify(console, run, out, (rules, seeds, subjects, judge or []), set_ or [])
        return
    if run is None:
        raise typer.BadParameter("name a run, or give --certify", param_hint="RUN")
    from caretrace.application import Supervised
    from caretrace.application.run import Run
    from caretrace.apps import load_application

    opened = Run(run)
    application = load_application(opened.read()["application"], "explain")
    if not isinstance(application, Supervised):
        _explain_otherwise(console, application, opened, subject)
        return
    from caretrace.application.explain import explain
    from caretrace.report.subject_page import PAGE

    with console.progress("starting") as bar:
        explanation, folder = explain(application, opened, subject, method=method, progress=bar.to)
    _show(console, explanation, top)
    console.say(f"Wrote {folder / PAGE}")
    if not explanation.certified:
        console.say(f"To have the methods judged on this configuration: caretrace explain {run} --certify")
    console.result({"explanation": str(folder), "page": str(folder / PAGE), **explanation.to_dict(top)})


def _explain_otherwise(console: Console, application: Application, run: Run, subject: int | None) -> None:
    """What an application without labels says."""
    from caretrace.application.verbs import explain

    with console.progress("starting") as bar:
        found = explain(application, run, subject, progress=bar.to)
    console.table(found["heading"], found["columns"], found["rows"])
    for limit in found["limits"]:
        console.say(limit)
    console.result(found)


def _certify(
    console: Console,
    run: Path | None,
    out: Path | None,
    asked: tuple[str, int, int, list[str]],
    overrides: list[str],
) -> None:
    from caretrace.application.certify import Plan, certify
    from caretrace.application.explain import FOLDER, as_overrides, put_into_bundle
    from caretrace.application.run import Run
    from caretrace.application.verbs import supervised
    from caretrace.apps import load_application
    from caretrace.config import load
    from caretrace.explain.certificate import FILE
    from caretrace.hospital.config import RULES

    rules, seeds, subjects, judge = asked
    chosen = tuple(RULES) if rules == "all" else tuple(each.strip() for each in rules.split(","))
    plan = Plan(rules=chosen, seeds=tuple(range(seeds)), subjects=subjects, methods=tuple(judge))
    if run is None:
        application = load_application("mortality")
        config = load(application.config_class, None, [*QUICK, *overrides])
        target = out or Path(FILE)
    else:
        stored = Run(run).read()
        application = load_application(stored["application"], "explain")
        config = load(application.config_class, None, [*as_overrides(stored["config"]), *QUICK, *overrides])
        target = run / FOLDER / FILE
    with console.progress("starting") as bar:
        findings = target.with_suffix(".findings")
        certificate = certify(supervised(application), config, plan, progress=bar.to, findings=findings)
    certificate.save(target)
    if run is not None:
        put_into_bundle(certificate, Run(run).bundle)
    show_certificate(console, certificate)
    console.say(f"Wrote {target}" + ("" if run is None else f" and {Run(run).bundle / FILE}"))
    console.result({"certificate": str(target), **certificate.to_dict()})


def show_certificate(console: Console, certificate: Certificate) -> None:
    """The worst of every gate over all rules and seeds, a column per method; what is drawn only stands apart."""
    from caretrace.explain.faithfulness import BOUNDS, MEANING
    from caretrace.explain.methods import METHODS

    methods = certificate.methods()
    judged = [method for method in methods if METHODS[method].kind != "attention"]
    drawn = [method for method in methods if METHODS[method].kind == "attention"]
    _gate_table(console, certificate, "Gates: the worst over all rules and seeds; ✗ where it failed", judged)
    _gate_table(console, certificate, "Drawn only, never importance", drawn)
    console.table(
        f"What was explained; gates of {methods[0]}",
        ["rule", "seed", "AUROC", "records", "recovery", "decoy"],
        [
            [
                each.rule,
                each.seed,
                each.auroc,
                each.records,
                *(_cell(each.gates.get(methods[0], {}).get(name)) for name in ("recovery", "decoy")),
            ]
            for each in certificate.findings
        ],
    )
    for method in methods:
        console.say(f"{method}: {certificate.heading(method)}")
    for name in BOUNDS:
        if any(name in certificate.gates(method) for method in methods):
            console.say(f"  {name}: {MEANING[name]}")


def _gate_table(console: Console, certificate: Certificate, title: str, methods: list[str]) -> None:
    from caretrace.explain.faithfulness import BOUNDS

    gates = {method: certificate.gates(method) for method in methods}
    names = [name for name in BOUNDS if any(name in found for found in gates.values())]
    if names:
        console.table(
            title,
            ["gate", "bound", *(_SHORT.get(method, method) for method in methods)],
            [
                [name, _bound(*BOUNDS[name]), *(_cell(gates[method].get(name)) for method in methods)]
                for name in names
            ],
        )


# Column headings that let four methods stand beside each other in 80 columns.
_SHORT = {"integrated_gradients": "IG", "gradient_shap": "SHAP"}
_SIGNS = {"at least": "≥", "above": ">", "at most": "≤", "below": "<"}


def _bound(value: float, direction: str) -> str:
    return f"{_SIGNS[direction]} {value:g}"


def _cell(gate: Any) -> str:
    if gate is None:
        return "–"
    digits = ".1e" if 0 < abs(gate.value) < 1e-3 else ".3g"
    return f"{gate.value:{digits}}" + ("" if gate.passed else " ✗")


def _event(each: dict[str, Any]) -> list[Any]:
    """A measurement in words: a number with its unit, or the text of what has none."""
    from caretrace import schema
    from caretrace.explain import explanation as names

    words, value = names.words_of(each)
    return [
        f"{each[schema.TIME]:%m-%d %H:%M}",
        f"{each[names.HOURS_BEFORE]:.1f}",
        words,
        value,
        f"{each[names.CREDIT]:+.2f}",
        f"{each[names.CREDIT_SPREAD]:.2f}",
        f"{each[names.RISK_WITHOUT]:.1%}",
    ]


def _show(console: Console, explanation: Explanation, top: int) -> None:
    outcome = {None: "unknown", True: "positive", False: "negative"}[explanation.outcome]
    console.table(
        f"Subject {explanation.subject_id} at {explanation.prediction_time}: risk {explanation.risk:.1%} "
        f"(outcome: {outcome})",
        ["compared with", "logit", "logit of that"],
        [
            [
                explanation.reference,
                explanation.logit,
                "–" if explanation.reference_logit is None else f"{explanation.reference_logit:.3f}",
            ]
        ],
    )
    console.table(
        explanation.heading,
        ["time", "h before", "event", "value", "credit", "±", "risk without"],
        [_event(each) for each in explanation.top(top).iter_rows(named=True)],
    )
    _show_rest(console, explanation)
    for limit in explanation.limits:
        console.say(limit)


def _show_rest(console: Console, explanation: Explanation) -> None:
    """What is not a single measurement: static features, event types, time windows."""
    from caretrace.explain import explanation as names

    console.table(
        "Static features",
        ["feature", "value", "credit (logit)", "risk without"],
        [
            [
                each[names.FEATURE],
                each[names.VALUE],
                f"{each[names.CREDIT]:+.3f}",
                f"{each[names.RISK_WITHOUT]:.1%}",
            ]
            for each in explanation.static.iter_rows(named=True)
        ],
    )
    console.table(
        "Without all of it",
        ["what", "credit (logit)"],
        [
            *([f"all {kind}", f"{credit:+.3f}"] for kind, credit in explanation.types.items()),
            *(
                [
                    f"{w['from_hours']:g} to {w['to_hours']:g} h before, {w['measurements']:g} measurements",
                    f"{w['credit']:+.3f}",
                ]
                for w in explanation.windows[:5]
            ),
        ],
    )
