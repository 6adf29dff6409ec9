"""Which methods passed which gates, on which planted data with which seeds: the paper an explanation carries.

It travels in the run and in the bundle as `certificate.json`. A method that failed a gate, or that is attention,
may be drawn, but the words of `heading` stand over it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caretrace import __version__
from caretrace.errors import BundleError
from caretrace.explain.faithfulness import BOUNDS, Gate, gate, worst
from caretrace.explain.methods import DEFAULT, METHODS
from caretrace.files import read_json, write_json

FILE = "certificate.json"
FORMAT_VERSION = 1
NOT_IMPORTANCE = "not importance"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one planted rule and one seed showed.

    Args:
        rule: Name of the planted rule.
        seed: Seed of the simulation and of the training.
        auroc: Of the model on held-out subjects: a model that has not learned the rule cannot be explained by it.
        records: Records that were explained.
        gates: Method → gate → what it found.
    """

    rule: str
    seed: int
    auroc: float
    records: int
    gates: Mapping[str, Mapping[str, Gate]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        gates = {
            method: {name: each.to_dict() for name, each in found.items()}
            for method, found in self.gates.items()
        }
        return {**dataclasses.asdict(dataclasses.replace(self, gates={})), "gates": gates}


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What is known of the methods, on one configuration of one application.

    Args:
        application: Name of the application.
        config: Settings of the models that were explained, training included.
        planted: Settings of the virtual hospital, the same for every finding but rule and seed.
        rules: Every rule that a method must stand on to be certified.
        findings: One per rule and seed.
    """

    application: str
    config: Mapping[str, Any]
    planted: Mapping[str, Any]
    rules: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def missing(self) -> list[str]:
        """Rules that nothing was planted by."""
        return [rule for rule in self.rules if rule not in {each.rule for each in self.findings}]

    def methods(self) -> list[str]:
        """Methods that were judged, in the order of `METHODS`."""
        return [name for name in METHODS if any(name in each.gates for each in self.findings)]

    def gates(self, method: str) -> dict[str, Gate]:
        """The worst of every gate over all findings."""
        found = [each.gates[method] for each in self.findings if method in each.gates]
        return {
            name: worst(name, [gates[name] for gates in found if name in gates])
            for name in BOUNDS
            if any(name in gates for gates in found)
        }

    def failed(self, method: str) -> list[str]:
        """Gates that the method did not pass somewhere."""
        return [name for name, found in self.gates(method).items() if not found.passed]

    def certified(self, method: str) -> bool:
        """Whether its credits may be called importance: every rule, every gate, and not attention."""
        if method not in self.methods() or self.missing or METHODS[method].kind == "attention":
            return False
        return all(method in each.gates for each in self.findings) and not self.failed(method)

    def faithful(self, method: str) -> bool:
        """Whether it failed nothing but the decoy of the trained model, and not that of the rule itself.

        Such credits say truly what moves the model; the model itself leans on what merely travels with a cause.
        """
        found = self.gates(method) if method in self.methods() else {}
        rule = found.get("rule_decoy")
        blamed = bool(found) and self.failed(method) == ["decoy"] and rule is not None and rule.passed
        return blamed and not self.missing and METHODS[method].kind != "attention"

    def heading(self, method: str) -> str:
        """What a page or table must say over the credits of a method."""
        title = METHODS[method].title
        if self.certified(method):
            return f"{title} (certified on planted truth)"
        if self.faithful(method):
            return f"{title} (faithful to the model; {NOT_IMPORTANCE}: such a model leans on a planted decoy)"
        return f"{title} ({NOT_IMPORTANCE}: {self.why_not(method)})"

    def judged_on(self, method: str) -> str | None:
        """On how much a method was judged, in words; None where it never was."""
        found = [each for each in self.findings if method in each.gates]
        if not found:
            return None
        rules, seeds = len({each.rule for each in found}), len({each.seed for each in found})
        people, records = self.planted.get("subjects"), sum(each.records for each in found)
        members = dict(self.config.get("training") or {}).get("members", "an unknown number of")
        return (
            f"judged on {records} records of simulated people who died by {rules} planted rules ({people} people a "
            f"rule, {seeds} {'seed' if seeds == 1 else 'seeds'}), in models of {members} "
            f"{'member' if members == 1 else 'members'}"
        )

    def why_not(self, method: str) -> str:
        """Why the method is not certified, in words."""
        if METHODS[method].kind == "attention":
            return "what a model looks at is not what moves it"
        if method not in self.methods():
            return "never judged on planted truth"
        if failed := self.failed(method):
            return f"failed {', '.join(failed)}"
        return (
            f"not judged on the rules {', '.join(self.missing)}" if self.missing else "not judged everywhere"
        )

    def to_dict(self) -> dict[str, Any]:
        """What `certificate.json` holds."""
        methods = {
            name: {
                "title": METHODS[name].title,
                "kind": METHODS[name].kind,
                "certified": self.certified(name),
                "faithful": self.certified(name) or self.faithful(name),
                "heading": self.heading(name),
                "gates": {each: found.to_dict() for each, found in self.gates(name).items()},
            }
            for name in self.methods()
        }
        return {
            "format_version": FORMAT_VERSION,
            "caretrace": __version__,
            "application": self.application,
            "data": "the virtual hospital; simulated, no real person",
            "planted": dict(self.planted),
            "config": dict(self.config),
            "rules": list(self.rules),
            "default": DEFAULT,
            "methods": methods,
            "runs": [each.to_dict() for each in self.findings],
        }

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_json(path, self.to_dict())


def read_certificate(path: Path) -> Certificate:
    """The certificate at `path`. Whether a method passed is computed again, not read.

    Raises:
        BundleError: It is damaged, or of a newer version.
    """
    try:
        stored = read_json(path)
        if stored["format_version"] > FORMAT_VERSION:
            raise BundleError(
                f"{path} was written by caretrace {stored['caretrace']}; install that or certify again"
            )
        return Certificate(
            application=stored["application"],
            config=stored["config"],
            planted=stored["planted"],
            rules=tuple(stored["rules"]),
            findings=tuple(finding_from(each) for each in stored["runs"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{path} is not a certificate ({type(error).__name__}); make one with `caretrace explain --certify`"
        ) from None


def empty(application: str, rules: Sequence[str]) -> Certificate:
    """The certificate of an application that nobody has judged."""
    return Certificate(application, {}, {}, tuple(rules), ())


def finding_from(stored: Mapping[str, Any]) -> Finding:
    """The finding that `Finding.to_dict` described, held against the bounds of today."""
    gates = {
        method: {name: gate(name, float(each["value"])) for name, each in found.items()}
        for method, found in stored["gates"].items()
    }
    rest = {name: stored[name] for name in ("rule", "seed", "auroc", "records")}
    return Finding(**rest, gates=gates)
