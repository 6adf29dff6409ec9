"""Every coefficient about the people who work in the virtual hospital, with unit and source."""

from __future__ import annotations

import dataclasses
import math

from caretrace.hospital.staff.parameters import coefficient

INGRE = "Ingre et al. 2014, doi 10.1371/journal.pone.0108679"
AIKEN = "Aiken et al. 2002"
GRIFFITHS = "Griffiths et al. 2014"
MAGNET = "Magnet4Europe 2024"
LI = "Li et al. 2024; half of a standardised difference that is an upper bound"


@dataclasses.dataclass(frozen=True)
class Staff:
    """How staff sleep, tire, burn out, leave, and what that does to care.

    Sleepiness is the three-process model; burnout a slow latent number with mean 0 and standard deviation
    1 in a staff at reference load, above a threshold of which somebody counts as burnt out.
    """

    # sleep, hours before a duty of each kind
    sleep_off: float = coefficient(7.7, "h")
    sleep_early: float = coefficient(6.2, "h")
    sleep_late: float = coefficient(7.6, "h")
    sleep_night: float = coefficient(5.7, "h, by day after a night")
    sleep_long: float = coefficient(6.3, "h, before a duty of 12 h")
    sleep_spread: float = coefficient(0.8, "h, standard deviation from day to day")
    sleep_run: float = coefficient(-0.1, "h per consecutive day worked beyond the second")
    sleep_burnout: float = coefficient(-0.2, "h per unit of burnout")
    kss_person: float = coefficient(0.84, "KSS points, between people", INGRE)

    # absence and filling of gaps
    sick_start: float = coefficient(0.0085, "per person and day")
    sick_days: float = coefficient(7.0, "days, mean of a spell")
    sick_burnout: float = coefficient(0.35, "log rate per unit of burnout")
    sick_influenza: float = coefficient(0.7, "log rate at the peak of a wave")
    fill_hospital: float = coefficient(0.6, "share of gaps filled by overtime, hospital")
    fill_ambulance: float = coefficient(0.92, "share of gaps filled by overtime, ambulances")
    fill_extension: float = coefficient(0.4, "share of overtime that makes a duty of 12 h or more")
    ward_absence: float = coefficient(0.08, "share of ward nurses absent, mean")

    # burnout
    burnout_nurse: float = coefficient(0.26, "prevalence", MAGNET)
    burnout_physician: float = coefficient(0.25, "prevalence", MAGNET)
    burnout_paramedic: float = coefficient(0.26, "prevalence", "assumed: as nurses")
    burnout_days: float = coefficient(120.0, "days, time constant")
    burnout_trait: float = coefficient(0.6, "share of the variance that is the person's own")
    burnout_load: float = coefficient(math.log(1.23), "log odds per patient per nurse", AIKEN)
    burnout_moral: float = coefficient(0.8, "burnout per unit share of patients overdue")
    burnout_support: float = coefficient(0.15, "burnout, standard deviation between units by support")
    burnout_fatigue: float = coefficient(0.05, "burnout per KSS point above the reference")

    # intent to leave and leaving
    leave_nurse: float = coefficient(0.33, "prevalence of the intent to leave", MAGNET)
    leave_physician: float = coefficient(0.29, "prevalence of the intent to leave", MAGNET)
    leave_paramedic: float = coefficient(0.33, "prevalence of the intent to leave", "assumed: as nurses")
    leave_burnout: float = coefficient(1.1, "log odds of the intent per unit of burnout")
    leave_offer: float = coefficient(math.log(2), "log odds of the intent with an offer in hand")
    offer_rate: float = coefficient(0.7, "offers per person and year")
    offer_days: float = coefficient(50.0, "days an offer stands")
    quit_intent: float = coefficient(0.22, "per year, with the intent")
    quit_other: float = coefficient(0.04, "per year, without")
    quit_offer: float = coefficient(math.log(1.8), "log rate with an offer in hand")
    vacancy_days: float = coefficient(60.0, "days until a leaver is replaced")
    hire_burnout: float = coefficient(-0.2, "burnout of new staff, mean")

    # references: at these values the published prevalences hold
    kss_reference: float = coefficient(
        5.2, "KSS points, mean over duties", "assumed: mean of the model itself"
    )
    overdue_reference: float = coefficient(0.02, "share of patients", "assumed: mean of the model itself")

    # what it does to care
    death_load: float = coefficient(math.log(1.07), "log odds per patient per nurse", AIKEN)
    death_boarding: float = coefficient(1 / 82, "added risk, bed later than 6-8 h", "Jones et al. 2022")
    unsafe_long: float = coefficient(math.log(1.41), "log odds, duty of 12 h or more", GRIFFITHS)
    unsafe_overtime: float = coefficient(math.log(1.67), "log odds, overtime", GRIFFITHS)
    unsafe_base: float = coefficient(0.04, "adverse events per visit at reference")
    unsafe_fatigue: float = coefficient(0.10, "log odds per KSS point")
    unsafe_overload: float = coefficient(0.5, "log odds per doubling of the patients per nurse")
    climate_burnout: float = coefficient(-0.34, "safety climate, standard deviations", LI)
    unsafe_climate: float = coefficient(-0.5, "log odds per standard deviation of safety climate")
    quality_base: float = coefficient(74.0, "handoff quality, points of 100")
    quality_spread: float = coefficient(10.0, "points, standard deviation between handoffs")
    quality_burnout: float = coefficient(-0.22, "quality, standard deviations, burnt out or not", LI)
    quality_fatigue: float = coefficient(-2.0, "points per KSS point")
    quality_overload: float = coefficient(-6.0, "points per doubling of the patients per nurse")
    document_base: float = coefficient(2.2, "log odds of an item being filled in")
    document_fatigue: float = coefficient(-0.12, "log odds per KSS point")
    document_overload: float = coefficient(-0.55, "log odds per doubling of the patients per nurse")
    document_outage: float = coefficient(-1.2, "log odds during an IT outage")
    delay_fatigue: float = coefficient(0.03, "log turnout time per KSS point")
