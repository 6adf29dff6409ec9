"""Settings of the city's emergency care, with every coefficient, its unit and its source."""

from __future__ import annotations

import dataclasses
import datetime as dt

from caretrace.errors import ConfigError
from caretrace.hospital.staff.config import Staff
from caretrace.hospital.staff.parameters import Parameter, coefficient, parameter_table

HAMBURG = "Feuerwehr Hamburg 2023"
CHARITE = "Charite, two emergency departments"
COHORT = "German MTS cohort, BMJ Open"
TUNED = "assumed, tuned to a band of the check"


@dataclasses.dataclass(frozen=True)
class Flow:
    """How calls arise and how fast everything goes. Medians and spreads are of log-normal times."""

    # demand
    runs_per_year: float = coefficient(279_471, "runs at size 1", HAMBURG)
    transported: float = coefficient(0.72, "share of runs that bring somebody to a hospital")
    visits_per_site: float = coefficient(
        129.0, "arrivals per site and day", "assumed near Charite's two departments"
    )
    weekend_visits: float = coefficient(290 / 245, "arrivals, weekend over weekday", CHARITE)
    weekend_calls: float = coefficient(1.04, "calls, weekend over weekday")
    new_year: float = coefficient(1.68, "factor on 1 January", CHARITE)
    season: float = coefficient(0.03, "amplitude, highest in mid-January")
    demand_spread: float = coefficient(0.05, "log demand, stationary standard deviation of its own wandering")
    demand_memory: float = coefficient(0.8, "correlation of that from day to day")
    influenza_visits: float = coefficient(0.05, "log demand at the peak of a wave")
    festival_calls: float = coefficient(0.15, "log calls, noon to 2 h, in a festival")
    heat_calls: float = coefficient(0.10, "log demand on a day of 30 degrees or more")
    flood_calls: float = coefficient(0.15, "log calls in a storm surge")
    flood_rate: float = coefficient(0.8, "storm surges per year, October to March")
    ice_calls: float = coefficient(0.12, "log calls in an hour of ice")
    rain_calls: float = coefficient(0.02, "log calls in an hour of rain")
    outage_rate: float = coefficient(0.7, "IT outages per site and year")
    outage_hours: float = coefficient(7.0, "h, mean of an outage, within one day")

    # ambulances
    crews_day: float = coefficient(111, "ambulances 7-19 h at size 1", HAMBURG)
    crews_night: float = coefficient(81, "ambulances 19-7 h at size 1", HAMBURG)
    call_minutes: float = coefficient(1.75, "min, median, call to dispatch", TUNED)
    call_spread: float = coefficient(0.35, "log")
    turnout_minutes: float = coefficient(1.0, "min, median")
    turnout_spread: float = coefficient(0.3, "log")
    drive_minutes: float = coefficient(4.17, "min, median with the reference share of crews free", TUNED)
    drive_spread: float = coefficient(0.40, "log", TUNED)
    drive_reference: float = coefficient(0.6, "share of crews free")
    drive_power: float = coefficient(
        -0.5, "log drive per log share free", "square-root law, Kolesar and Blum 1973"
    )
    drive_rush: float = coefficient(0.08, "log drive, 7-9 and 16-18 h on weekdays")
    drive_ice: float = coefficient(0.2, "log drive in an hour of ice")
    drive_rain: float = coefficient(0.04, "log drive in an hour of rain")
    drive_flood: float = coefficient(0.25, "log drive in a storm surge")
    scene_minutes: float = coefficient(19.0, "min, median")
    scene_spread: float = coefficient(0.4, "log")
    transport_minutes: float = coefficient(12.0, "min, median to the nearest of three candidates")
    transport_spread: float = coefficient(0.4, "log")
    divert_minutes: float = coefficient(4.0, "min of detour accepted per patient waiting for every 10 places")
    hold_limit: float = coefficient(45.0, "min at the door after which a crew hands over in the corridor")
    handoff_minutes: float = coefficient(12.0, "min, median, once there is a place")
    handoff_spread: float = coefficient(0.4, "log")
    clear_minutes: float = coefficient(12.0, "min, median until free again")
    clear_spread: float = coefficient(0.4, "log")

    # emergency department
    places_per_visit: float = coefficient(0.17, "places per arrival a day", TUNED)
    nurses_day: float = coefficient(0.055, "nurses on a shift per arrival a day")
    nurses_night: float = coefficient(0.035, "nurses on a shift per arrival a day")
    physicians_day: float = coefficient(0.03, "physicians on a shift per arrival a day")
    physicians_night: float = coefficient(0.018, "physicians on a shift per arrival a day")
    nurse_reference: float = coefficient(
        2.35, "patients in the department per nurse, ordinary", "assumed: mean of the model itself"
    )
    nurse_slowing: float = coefficient(0.10, "log treatment time per doubling of patients per nurse")
    fatigue_slowing: float = coefficient(0.015, "log treatment time per KSS point")
    patience_minutes: float = coefficient(240.0, "min, median, until a walk-in of level 4-5 leaves unseen")
    patience_spread: float = coefficient(0.6, "log")
    surge_speed: float = coefficient(-0.4, "log treatment time with one patient waiting per place or more")
    triage_minutes: float = coefficient(8.0, "min, median, arrival to triage")
    triage_spread: float = coefficient(0.5, "log")
    assess_minutes: float = coefficient(18.0, "min, median, physician's first assessment")
    assess_spread: float = coefficient(0.5, "log")
    work_up_minutes: float = coefficient(109.0, "min, median, diagnostics and treatment", TUNED)
    work_up_spread: float = coefficient(0.6, "log")
    work_up_admitted: float = coefficient(0.1, "log, for those who will be admitted", TUNED)
    outage_slowing: float = coefficient(0.3, "log treatment time during an IT outage")
    transfer_minutes: float = coefficient(49.0, "min, median, bed free to departure", TUNED)
    transfer_spread: float = coefficient(0.5, "log")

    # wards
    admission: float = coefficient(-1.02, "log odds at age 50, standard triage, walking in", TUNED)
    admission_age: float = coefficient(0.02, "log odds per year")
    admission_urgent: float = coefficient(0.9, "log odds per triage level of urgency")
    admission_ambulance: float = coefficient(0.8, "log odds")
    intensive: float = coefficient(0.133, "share of admissions to intensive care", COHORT)
    ward_days: float = coefficient(5.0, "days, median", COHORT)
    ward_spread: float = coefficient(1.115, "log, from the quartiles 2 and 9 days", COHORT)
    intensive_days: float = coefficient(2.0, "days, median")
    intensive_spread: float = coefficient(0.8, "log")
    elective_share: float = coefficient(0.25, "planned admissions per emergency admission, weekdays")
    elective_days: float = coefficient(4.0, "days, median")
    ward_occupancy: float = coefficient(0.968, "beds taken at the expected load", TUNED)
    intensive_occupancy: float = coefficient(0.79, "beds taken at the expected load")
    cancel_above: float = coefficient(0.95, "ward occupancy from which planned admissions are cut back")
    weekend_stay: float = coefficient(
        0.35, "share of weekend discharges put off to Monday while beds are free"
    )
    cleaning_hours: float = coefficient(1.0, "h until a bed can be used again")
    lounge_hours: float = coefficient(2.5, "h gained by a discharge lounge")
    ward_ratio: float = coefficient(
        7.0, "patients per nurse on a full ward", "assumed, middle of Aiken's range"
    )
    death: float = coefficient(-4.0, "log odds of an admitted patient at severity 0 and age 65")
    death_severity: float = coefficient(0.9, "log odds per unit of severity")
    death_age: float = coefficient(0.03, "log odds per year")


@dataclasses.dataclass(frozen=True)
class Interventions:
    """What an organisation can change; everything off is the city as it is.

    Args:
        extra_ambulances: More crews, day and night.
        extra_nurses: More nurses on every shift, in each emergency department and on each ward of 30 beds.
        discharge_lounge: Patients who are ready leave their bed for a lounge.
    """

    extra_ambulances: int = 0
    extra_nurses: int = 0
    discharge_lounge: bool = False


@dataclasses.dataclass(frozen=True)
class Trials:
    """What the city tries out in turns, drawn by its seed; nothing by default.

    Args:
        block_days: How long each turn lasts.
        most_ambulances: Each turn has 0 to so many more crews.
        most_nurses: Each turn and hospital has 0 to so many more nurses on every shift, as `extra_nurses`.
        lounge_share: Share of turns and hospitals with a discharge lounge.
    """

    block_days: int = 14
    most_ambulances: int = 0
    most_nurses: int = 0
    lounge_share: float = 0.0

    def __post_init__(self) -> None:
        if self.block_days < 1:
            raise ConfigError(f"trials.block_days: got {self.block_days}; give 1 or more")
        for name in ("most_ambulances", "most_nurses"):
            if not 0 <= getattr(self, name) <= 100:
                raise ConfigError(f"trials.{name}: got {getattr(self, name)}; give 0 to 100")
        if not 0 <= self.lounge_share <= 1:
            raise ConfigError(f"trials.lounge_share: got {self.lounge_share}; give a share from 0 to 1")

    @property
    def running(self) -> bool:
        """Whether anything is tried out."""
        return bool(self.most_ambulances or self.most_nurses or self.lounge_share)


# `caretrace simulate --vary-staffing`: twice what the what-ifs ask for lies in the middle of it.
VARIED = Trials(most_ambulances=20, most_nurses=3, lounge_share=0.5)


@dataclasses.dataclass(frozen=True)
class OperationsConfig:
    """What to simulate of a city's emergency care.

    Args:
        size: 1 is a city of Hamburg's size with ten hospitals; runs, crews and hospitals shrink with it.
        start: First day, ISO date.
        warm_up_days: Days simulated before the first that is written.
        flow: Coefficients of the flow of patients.
        staff: Coefficients of the people who work there.
        interventions: What is changed for good.
        trials: What is tried out in turns.
    """

    size: float = 1.0
    start: str = "2023-01-01"
    warm_up_days: int = 3
    flow: Flow = dataclasses.field(default_factory=Flow)
    staff: Staff = dataclasses.field(default_factory=Staff)
    interventions: Interventions = dataclasses.field(default_factory=Interventions)
    trials: Trials = dataclasses.field(default_factory=Trials)

    def __post_init__(self) -> None:
        if not 0.1 <= self.size <= 20:
            raise ConfigError(f"size: got {self.size}; give a factor from 0.1 (one hospital) to 20")
        try:
            dt.date.fromisoformat(self.start)
        except ValueError:
            raise ConfigError(f"start: got {self.start!r}; give a day such as 2023-01-01") from None
        if not 0 <= self.warm_up_days <= 365:
            raise ConfigError(f"warm_up_days: got {self.warm_up_days}; give 0 to 365")
        for name in ("extra_ambulances", "extra_nurses"):
            if not 0 <= getattr(self.interventions, name) <= 100:
                raise ConfigError(
                    f"interventions.{name}: got {getattr(self.interventions, name)}; give 0 to 100"
                )

    @property
    def sites(self) -> int:
        """Number of hospitals."""
        return max(1, round(10 * self.size))

    @property
    def first_day(self) -> dt.date:
        """The first day written."""
        return dt.date.fromisoformat(self.start)


def parameters(config: OperationsConfig | None = None) -> list[Parameter]:
    """Every coefficient with its value, unit and source, as one table."""
    config = config or OperationsConfig()
    return parameter_table("flow", config.flow) + parameter_table("staff", config.staff)
