"""Settings of the virtual hospital, with every coefficient of its dynamics.

Every number here is *assumed* unless a source stands beside it: chosen so that stays look plausible,
not fitted to any hospital's data.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from caretrace.errors import ConfigError, unknown_name
from caretrace.hospital.operations.config import OperationsConfig
from caretrace.hospital.physiology.config import PhysiologyConfig

Part = Literal["stays", "histories", "vitals", "operations"]
PARTS: tuple[Part, ...] = get_args(Part)
Rule = Literal["single", "conjunctive", "ordered", "redundant", "decoy"]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """How severity moves from hour to hour, and what it does; severity has no unit (0 well, 4 moribund).

    A stay is always in one of three phases (improving, steady, deteriorating), which moves a set-point;
    severity reverts to the set-point with noise (an Ornstein-Uhlenbeck process on hours) and is thrown
    off by shocks.
    """

    reversion: float = 0.15  # per hour; assumed, half-life about 7 h
    volatility: float = 0.10  # per square root of an hour; assumed, stationary sd about 0.22
    drift_improving: float = -0.035  # set-point per hour; assumed
    drift_deteriorating: float = 0.040  # set-point per hour; assumed
    setpoint_max: float = 3.6  # assumed
    switch_per_hour: float = 0.010  # chance to change phase in an hour; assumed, a phase lasts 4 days
    recovery_share: float = 0.97  # of the changes, how many go to the better of the two others; assumed
    shock_per_hour: float = 0.0006  # assumed, one in 35 days at average frailty
    shock_frailty: float = 0.35  # log rate per unit of frailty; assumed
    shock_size: float = 0.9  # severity added at once; assumed
    death_log_hazard: float = -13.7  # per hour, at severity 0, age 65, frailty 0; assumed
    death_severity: float = 2.6  # log hazard per unit of severity; assumed
    death_age: float = 0.5  # log hazard per 10 years; assumed
    death_frailty: float = 0.6  # log hazard per unit of frailty; assumed
    calm_severity: float = 0.85  # below this a patient counts as calm; assumed
    calm_hours: int = 8  # calm for this long before discharge is considered; assumed
    discharge_per_hour: float = 0.08  # once calm for long enough; assumed
    ward_death_logit: float = -4.9  # of dying on the ward after the ICU; assumed
    ward_death_severity: float = 1.0  # per unit of severity at ICU discharge; assumed
    ward_death_risk: float = 1.4  # per unit of the static log hazard (age and frailty); assumed
    return_logit: float = -3.4  # of coming back to the ICU in the same admission; assumed
    return_severity: float = 1.0  # per unit of severity at ICU discharge; assumed
    max_icu_hours: int = 720  # whoever is alive after 30 days leaves for long-term care; assumed
    rule_from_hours: int = 48  # hour of an ICU stay from which a planted rule acts; after the tasks' gap


@dataclasses.dataclass(frozen=True)
class Faults:
    """What goes wrong between the bedside and the table: chances per row, 0 by default.

    Args:
        artefact: A vital sign is written as 0 (lead off) or as the most a monitor shows (line flushed).
        wrong_unit: Temperature, glucose or creatinine stands in another unit than the one beside it.
        correction: A lab result is first reported tenfold too high or low, and put right some hours later.
        misspelling: Two letters of a prescribed drug's name have changed places.
    """

    artefact: float = 0.0
    wrong_unit: float = 0.0
    correction: float = 0.0
    misspelling: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            rate = getattr(self, field.name)
            if not 0 <= rate <= 1:
                raise ConfigError(f"faults.{field.name}: got {rate}; give a share of rows from 0 to 1")


@dataclasses.dataclass(frozen=True)
class Monitors:
    """Who is monitored, and how finely; see `PhysiologyConfig`.

    Args:
        people: How many people lie under a monitor, each for all `days`.
        step_seconds: Seconds between two rows: 1 (1 Hz) to 3600 (hourly).
        share_deteriorating: Share of people who deteriorate, sooner or later.
        artefacts_per_hour: Mean number per person, of all kinds together.
        disturbances_per_hour: Mean number of harmless exertions and short desaturations per person.
        keep_clean: Whether the truth also holds the signal before artefacts and rounding, as large as the vitals.
    """

    people: int = 50
    step_seconds: int = 60
    share_deteriorating: float = 0.3
    artefacts_per_hour: float = 1.0
    disturbances_per_hour: float = 0.5
    keep_clean: bool = False

    def __post_init__(self) -> None:
        self.physiology(1, 0)

    def physiology(self, days: int, seed: int) -> PhysiologyConfig:
        """The settings of the recordings.

        Raises:
            ConfigError: One of them is out of range; the message calls `people` `subjects`.
        """
        rest = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "people"}
        return PhysiologyConfig(subjects=self.people, hours=24.0 * days, seed=seed, **rest)


@dataclasses.dataclass(frozen=True)
class HospitalConfig:
    """What to simulate.

    Args:
        subjects: How many people have stays, and how many others have visit histories.
        seed: The same seed writes the same bytes; other seeds give other people.
        icu_probability: Share of first admissions with an ICU stay (later ones: two thirds of it).
        noise: Scale of every measurement error; 1 is the documented default, 0 shows severity bare.
        oracle_replicates: Futures simulated per stay and landmark to compute the oracle's probability.
        dynamics: How severity moves and kills.
        rules: Planted rules of death to switch on: single, conjunctive, ordered, redundant, decoy.
        planted_strength: Log hazard of death added where a rule holds, taken away where none does; 0.5 is
            a weak effect, 15 decides who dies. Without effect while `rules` is empty.
        faults: What goes wrong between the bedside and the table.
        parts: What `caretrace simulate` writes: stays, histories, vitals, operations.
        days: How long the monitors record and the city is run.
        monitors: Who is monitored, and how finely.
        operations: The city, its emergency care and its staff.
    """

    subjects: int = 2000
    seed: int = 0
    icu_probability: float = 0.9
    noise: float = 1.0
    oracle_replicates: int = 200
    dynamics: Dynamics = dataclasses.field(default_factory=Dynamics)
    rules: tuple[Rule, ...] = ()
    planted_strength: float = 15.0
    faults: Faults = dataclasses.field(default_factory=Faults)
    parts: tuple[Part, ...] = PARTS
    days: int = 14
    monitors: Monitors = dataclasses.field(default_factory=Monitors)
    operations: OperationsConfig = dataclasses.field(default_factory=OperationsConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.subjects <= 1_000_000:
            raise ConfigError(f"subjects: got {self.subjects}; give a number from 1 to 1000000")
        if self.seed < 0:
            raise ConfigError(f"seed: got {self.seed}; give 0 or a positive whole number")
        if not 0 <= self.icu_probability <= 1:
            raise ConfigError(f"icu_probability: got {self.icu_probability}; give a share from 0 to 1")
        if not 0 <= self.noise <= 10:
            raise ConfigError(f"noise: got {self.noise}; give a factor from 0 to 10")
        if not 1 <= self.oracle_replicates <= 10_000:
            raise ConfigError(f"oracle_replicates: got {self.oracle_replicates}; give 1 to 10000")
        if not 49 <= self.dynamics.max_icu_hours <= 2000:
            raise ConfigError(f"dynamics.max_icu_hours: got {self.dynamics.max_icu_hours}; give 49 to 2000")
        if not 24 <= self.dynamics.rule_from_hours <= 2000:
            hours = self.dynamics.rule_from_hours
            raise ConfigError(
                f"dynamics.rule_from_hours: got {hours}; give 24 to 2000: a rule's events lie in the first 24 hours"
            )
        self._check_parts()
        for rule in self.rules:
            if rule not in RULES:
                raise ConfigError(unknown_name("rule", rule, list(RULES)))
        if len(set(self.rules)) < len(self.rules):
            raise ConfigError(f"rules: got {', '.join(self.rules)}; give each rule once")
        if not 0 <= self.planted_strength <= 30:
            raise ConfigError(f"planted_strength: got {self.planted_strength}; give 0 to 30")

    def _check_parts(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise ConfigError(unknown_name("part", part, list(PARTS)))
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise ConfigError(
                f"parts: got {', '.join(self.parts) or 'none'}; give each of {', '.join(PARTS)} once"
            )
        if not 1 <= self.days <= 3660:
            raise ConfigError(f"days: got {self.days}; give a number from 1 to 3660")
