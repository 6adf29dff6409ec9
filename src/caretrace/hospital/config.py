"""Settings of the virtual hospital, with every coefficient of its dynamics.

Every number here is *assumed* unless a source stands beside it: chosen so that stays look plausible,
not fitted to any hospital's data.
"""

from __future__ import annotations

import dataclasses

from caretrace.errors import ConfigError


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


@dataclasses.dataclass(frozen=True)
class HospitalConfig:
    """What to simulate.

    Args:
        subjects: How many people.
        seed: The same seed writes the same bytes; other seeds give other people.
        icu_probability: Share of first admissions with an ICU stay (later ones: two thirds of it).
        noise: Scale of every measurement error; 1 is the documented default, 0 shows severity bare.
        oracle_replicates: Futures simulated per stay and landmark to compute the oracle's probability.
        dynamics: How severity moves and kills.
    """

    subjects: int = 2000
    seed: int = 0
    icu_probability: float = 0.9
    noise: float = 1.0
    oracle_replicates: int = 200
    dynamics: Dynamics = dataclasses.field(default_factory=Dynamics)

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
