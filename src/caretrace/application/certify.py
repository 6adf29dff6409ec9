"""`caretrace explain --certify`: every method against planted truth, rule by rule, seed by seed."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caretrace import __version__
from caretrace import config as configs
from caretrace.application import Progress, Supervised, silent
from caretrace.application.explain import score_of
from caretrace.application.planted import World, make_world
from caretrace.errors import CohortError, ConfigError, unknown_name
from caretrace.explain.certificate import Certificate, Finding, finding_from
from caretrace.explain.faithfulness import Gate, judge
from caretrace.explain.methods import METHODS, Method
from caretrace.explain.scores import Attends, GradedScore, Score, row
from caretrace.explain.shuffling import shuffled
from caretrace.files import read_json, write_json
from caretrace.hospital import HospitalConfig
from caretrace.hospital.config import RULES, Rule

SUBJECTS = 1500
RECORDS = 24
# A model that reads one code of a hundred reads, shuffled, the same one by chance once in a hundred times: three would
# make that a third of the mean.
_SHUFFLES = 10
_FEWEST_RECORDS = 5


@dataclasses.dataclass(frozen=True)
class Plan:
    """On what to judge.

    Args:
        rules: Planted rules.
        seeds: Seeds; each simulates, trains and explains anew.
        subjects: Simulated people per rule and seed.
        records: Held-out records at most that are explained, of people who died and for whom the rule held.
        strength: Log hazard that a rule adds or takes away; the default decides who dies.
        methods: Keys of `METHODS`; by default all that the model has.
    """

    rules: tuple[str, ...] = RULES
    seeds: tuple[int, ...] = (0,)
    subjects: int = SUBJECTS
    records: int = RECORDS
    strength: float = HospitalConfig.planted_strength
    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for rule in self.rules:
            if rule not in RULES:
                raise ConfigError(unknown_name("rule", rule, RULES))
        for method in self.methods:
            if method not in METHODS:
                raise ConfigError(unknown_name("method", method, METHODS))


def certify(
    application: Supervised,
    config: Any,
    plan: Plan,
    work: Path | None = None,
    progress: Progress = silent,
    findings: Path | None = None,
) -> Certificate:
    """Simulate with planted rules, train, explain held-out subjects who died by the rule, and judge.

    Each rule and seed stands for itself, and with a folder for findings what was found is not sought again: several
    processes may share it, a rule each, and an interrupted certification goes on.

    Args:
        application: The application whose model is trained.
        config: Its settings.
        plan: On what to judge.
        work: Folder to keep tables, datasets and checkpoints in; by default a temporary one.
        progress: Told about each piece of work.
        findings: Folder that keeps a file per rule and seed; one of other settings is replaced.

    Raises:
        CohortError: Too few held-out records died by a rule.
        ConfigError: The application cannot be explained, or an unknown rule or method.
    """
    context: dict[str, Any] = {
        "caretrace": __version__,
        "application": application.name,
        "config": configs.to_dict(config),
        "planted": {"subjects": plan.subjects, "planted_strength": plan.strength},
        "records": plan.records,
        "methods": list(plan.methods),
    }
    found = []
    for seed in plan.seeds:
        for rule in plan.rules:
            kept = None if findings is None else findings / f"{rule}-{seed}.json"
            one = None if kept is None else _known(kept, context)
            if one is None:
                with tempfile.TemporaryDirectory(prefix="caretrace-certify-") as temporary:
                    folder = (work or Path(temporary)) / f"{rule}-{seed}"
                    one = _find(application, config, plan, (rule, seed), folder, progress)  # type: ignore[arg-type]
                if kept is not None:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    write_json(kept, {"of": context, "finding": one.to_dict()})
            found.append(one)
    return Certificate(application.name, context["config"], context["planted"], RULES, tuple(found))


def _known(path: Path, context: Mapping[str, Any]) -> Finding | None:
    """What an earlier certification of the same settings found; None where there is none, or it is no such file."""
    try:
        stored = read_json(path)
        same = stored["of"] == json.loads(json.dumps(context))
        return finding_from(stored["finding"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _find(
    application: Supervised,
    config: Any,
    plan: Plan,
    which: tuple[Rule, int],
    folder: Path,
    progress: Progress,
) -> Finding:
    rule, seed = which
    folder.mkdir(parents=True)
    hospital = HospitalConfig(
        subjects=plan.subjects,
        seed=seed,
        rules=(rule,),
        planted_strength=plan.strength,
        oracle_replicates=1,  # nobody asks the oracle here
    )
    seeded = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))
    world = make_world(application, seeded, hospital, folder, progress)
    cases = world.cases[: plan.records]
    if len(cases) < _FEWEST_RECORDS:
        raise CohortError(
            f"only {len(cases)} held-out records of {plan.subjects} subjects died by the rule {rule}; simulate more "
            "with --subjects"
        )
    gates = gates_of(application, world, plan, seed, progress)
    return Finding(rule, seed, world.auroc, len(cases), gates)


def gates_of(
    application: Supervised, world: World, plan: Plan, seed: int, progress: Progress
) -> dict[str, dict[str, Gate]]:
    """Gates of every method that the model has, on one world."""
    score = score_of(application, world.members)
    others = [
        score_of(application, [shuffled(member, seed * 1000 + number) for member in world.members])
        for number in range(_SHUFFLES)
    ]
    cases = world.cases[: plan.records]
    methods = applicable(score, world, plan.methods)
    found = {}
    for number, method in enumerate(methods):
        progress(f"{world.rule}: judging {method.name}", number, len(methods))
        found[method.name] = judge(
            method,
            score,
            cases,
            rule=world.rule_score,
            shuffled=others,
            together=world.rule == "redundant",
            seed=seed,
        )
    return found


def applicable(score: Score, world: World, asked: Sequence[str] = ()) -> list[Method]:
    """The methods that a score can be explained by, in the order of `METHODS`."""
    kinds = {"removal"}
    if isinstance(score, GradedScore):
        kinds.add("gradient")
    sample = row(world.cases[0].sample, 0)
    looks: set[str] = set(score.attention(sample)) if isinstance(score, Attends) else set()
    return [
        method
        for name, method in METHODS.items()
        if (name in looks if method.kind == "attention" else method.kind in kinds)
        and (not asked or name in asked)
    ]
