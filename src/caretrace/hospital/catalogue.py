"""Names and numbers of the virtual hospital's tables: who comes, with what, where to, and what is measured.

All numbers are *assumed* (round, textbook-like), not taken from any hospital.
"""

# ruff: noqa: E501 - a table is read by its rows, and wrapped rows cannot be compared
from __future__ import annotations

from typing import NamedTuple

# The organ systems a problem loads on; order of every `loads` tuple and of the last axis of signals.
SYSTEMS = ("circulation", "lungs", "kidneys", "infection", "brain", "blood")
CIRCULATION, LUNGS, KIDNEYS, INFECTION, BRAIN, BLOOD = range(6)


class Problem(NamedTuple):
    """Why somebody is in the ICU: share of stays, expected severity at the start, load per system."""

    name: str
    share: float
    start: float
    loads: tuple[float, float, float, float, float, float]
    units: tuple[str, ...]


PROBLEMS = (
    Problem("sepsis", 0.20, 1.65, (1.0, 0.6, 0.8, 1.2, 0.5, 0.7), ("Medical ICU", "Medical/Surgical ICU")),
    Problem("respiratory failure", 0.20, 1.45, (0.4, 1.3, 0.3, 0.7, 0.3, 0.3), ("Medical ICU",)),
    Problem("cardiac", 0.20, 1.30, (1.2, 0.7, 0.5, 0.1, 0.2, 0.2), ("Coronary Care Unit",)),
    Problem("bleeding", 0.10, 1.25, (1.1, 0.3, 0.4, 0.1, 0.3, 1.2), ("Surgical ICU", "Medical/Surgical ICU")),
    Problem("neurological", 0.12, 1.35, (0.4, 0.4, 0.2, 0.3, 1.3, 0.2), ("Neuro ICU",)),
    Problem(
        "postoperative", 0.18, 0.90, (0.7, 0.5, 0.3, 0.3, 0.2, 0.4), ("Surgical ICU", "Cardiac Surgery ICU")
    ),
)
POSTOPERATIVE = 5

RACES = ("WHITE", "BLACK/AFRICAN AMERICAN", "HISPANIC/LATINO", "ASIAN", "OTHER", "UNKNOWN")
RACE_SHARES = (0.64, 0.13, 0.08, 0.05, 0.05, 0.05)
MARITAL = ("MARRIED", "SINGLE", "WIDOWED", "DIVORCED")
CHRONIC = ("diabetes", "kidney disease", "lung disease", "heart failure", "hypertension")
# Log odds of each at age 65 and frailty 0, per 10 years, per unit of frailty.
CHRONIC_LOGITS = (
    (-1.2, 0.10, 0.4),
    (-1.9, 0.30, 0.6),
    (-1.8, 0.15, 0.5),
    (-1.7, 0.35, 0.7),
    (0.0, 0.40, 0.3),
)


class Vital(NamedTuple):
    """One vital sign: mean, sd between people, sd and hourly correlation of noise, daily swing, range.

    `gains` is the change per unit of severity with a load of 1 on each system; `extra` how often the
    sign is charted in an hour, relative to the heart rate.
    """

    name: str
    unit: str
    mean: float
    between: float
    noise: float
    correlation: float
    swing: float
    gains: tuple[float, float, float, float, float, float]
    low: float
    high: float
    decimals: int
    charted: float


VITALS = (
    Vital("HR", "bpm", 76, 8, 5.5, 0.6, 3.0, (8.5, 3.5, 0, 6.0, 0, 2.5), 25, 220, 0, 1.0),
    Vital("SpO2", "%", 97.4, 0.9, 1.2, 0.4, 0.2, (0, -2.6, 0, -0.4, 0, 0), 55, 100, 0, 0.97),
    Vital("RESP", "breaths/min", 15.5, 1.8, 2.4, 0.4, 0.5, (0.6, 4.2, 0, 1.6, 0, 0), 4, 60, 0, 0.95),
    Vital("SBP", "mmHg", 128, 11, 8.0, 0.5, 4.0, (-13.0, 0, 0, -3.0, 1.5, -5.0), 45, 240, 0, 0.90),
    Vital("DBP", "mmHg", 67, 7, 5.0, 0.5, 2.5, (-6.5, 0, 0, -2.0, 0.8, -2.5), 20, 140, 0, 0.90),
    Vital("MAP", "mmHg", 0, 0, 2.0, 0.2, 0, (0, 0, 0, 0, 0, 0), 25, 170, 0, 0.90),
    Vital("TEMP", "Cel", 36.7, 0.2, 0.25, 0.8, 0.2, (0, 0, 0, 0.50, 0, 0), 32, 41.8, 1, 0.28),
    Vital("GCS", "{score}", 15, 0.2, 0.8, 0.8, 0, (-0.4, -0.3, 0, -0.3, -2.8, 0), 3, 15, 0, 0.28),
)
HR, SPO2, RESP, SBP, DBP, MAP, TEMP, GCS = range(8)


class Lab(NamedTuple):
    """One analyte: panel, unit, reference range, typical value, sd between people, sd of noise, range.

    `gains` as in `Vital`, on the log of the value where `log` is set; `slow` follows severity with a lag
    of half a day; `chronic` is the shift brought by one chronic illness (its place in CHRONIC).
    """

    name: str
    panel: int
    unit: str
    ref_low: float
    ref_high: float
    typical: float
    between: float
    noise: float
    log: bool
    slow: bool
    gains: tuple[float, float, float, float, float, float]
    low: float
    high: float
    decimals: int
    chronic: tuple[int, float] = (0, 0.0)


CHEMISTRY, COUNT, GAS, LIVER = range(4)
LABS = (
    Lab("Creatinine", CHEMISTRY, "mg/dL", 0.6, 1.3, 0.9, 0.25, 0.07, True, True, (0, 0, 0.25, 0, 0, 0), 0.2, 18, 1, (1, 0.75)),
    Lab("Urea nitrogen (BUN)", CHEMISTRY, "mg/dL", 7, 20, 17, 0.28, 0.10, True, True, (0.05, 0, 0.22, 0, 0, 0.05), 3, 200, 0, (1, 0.5)),
    Lab("Sodium", CHEMISTRY, "mmol/L", 135, 145, 139, 3.0, 1.8, False, True, (0, 0, 0, 0, 1.0, 0), 110, 175, 0),
    Lab("Potassium", CHEMISTRY, "mmol/L", 3.5, 5.1, 4.1, 0.3, 0.25, False, True, (0, 0, 0.18, 0, 0, 0), 2.0, 8.5, 1, (1, 0.3)),
    Lab("Bicarbonate", CHEMISTRY, "mmol/L", 22, 29, 25, 2.2, 1.3, False, False, (-1.6, 0.3, -0.9, 0, 0, 0), 5, 45, 0, (2, 2.5)),
    Lab("Glucose", CHEMISTRY, "mg/dL", 70, 140, 122, 0.18, 0.16, True, False, (0.05, 0, 0, 0.06, 0.03, 0), 30, 800, 0, (0, 0.35)),
    Lab("White blood cells", COUNT, "10*9/L", 4.0, 11.0, 9.0, 0.30, 0.10, True, True, (0, 0.02, 0, 0.18, 0, 0.04), 0.3, 70, 1),
    Lab("Platelets", COUNT, "10*9/L", 150, 400, 240, 0.28, 0.06, True, True, (0, 0, 0, -0.07, 0, -0.24), 5, 900, 0),
    Lab("Haemoglobin", COUNT, "g/dL", 12.0, 16.0, 11.8, 1.5, 0.4, False, True, (0, 0, -0.2, 0, 0, -0.9), 4, 19, 1),
    Lab("Lactate", GAS, "mmol/L", 0.5, 2.0, 1.15, 0.25, 0.17, True, False, (0.36, 0.05, 0, 0.12, 0, 0.06), 0.3, 25, 1),
    Lab("pH", GAS, "[pH]", 7.35, 7.45, 7.41, 0.015, 0.02, False, False, (-0.022, -0.022, -0.01, 0, 0, 0), 6.8, 7.65, 2),
    Lab("pCO2", GAS, "mmHg", 35, 45, 39, 3.5, 3.0, False, False, (-1.0, 3.0, 0, 0, 0, 0), 15, 110, 0, (2, 8.0)),
    Lab("pO2", GAS, "mmHg", 75, 100, 98, 0.15, 0.16, True, False, (0, -0.13, 0, -0.02, 0, 0), 30, 450, 0),
    Lab("Bilirubin, total", LIVER, "mg/dL", 0.2, 1.2, 0.7, 0.40, 0.08, True, True, (0.05, 0, 0, 0.10, 0, 0.22), 0.1, 45, 1),
    Lab("INR", LIVER, "{INR}", 0.8, 1.2, 1.12, 0.15, 0.05, True, True, (0.03, 0, 0, 0.03, 0, 0.12), 0.8, 12, 1),
    Lab("C-reactive protein", LIVER, "mg/L", 0, 5, 14, 0.70, 0.20, True, True, (0.05, 0.1, 0, 0.65, 0, 0.1), 0.3, 500, 0),
)  # fmt: skip


class Drug(NamedTuple):
    """One prescription as the chart writes it; `name` carries strength and form, as free text does."""

    name: str
    dose: float
    unit: str
    route: str


# Given to most people from admission on, with the share who get it.
ROUTINE = (
    (Drug("Pantoprazole 40 mg vial", 40, "mg", "IV"), 0.55),
    (Drug("Heparin sodium 5,000 units/mL, subcutaneous", 5000, "units", "SC"), 0.60),
    (Drug("Acetaminophen 325 mg tablet", 650, "mg", "PO"), 0.65),
    (Drug("Docusate sodium 100 mg capsule", 100, "mg", "PO"), 0.40),
    (Drug("Ondansetron 4 mg/2 mL injection", 4, "mg", "IV"), 0.25),
)
# One per chronic illness, in the order of CHRONIC.
LONG_TERM = (
    Drug("Insulin glargine 100 units/mL", 18, "units", "SC"),
    Drug("Sevelamer carbonate 800 mg tablet", 800, "mg", "PO"),
    Drug("Ipratropium-albuterol nebuliser solution", 3, "mL", "NEB"),
    Drug("Metoprolol tartrate 25 mg tablet", 25, "mg", "PO"),
    Drug("Lisinopril 10 mg tablet", 10, "mg", "PO"),
)
ANTIBIOTICS = (
    Drug("Vancomycin 1 g/200 mL premix bag", 1000, "mg", "IV"),
    Drug("Piperacillin-tazobactam 4.5 g IVPB", 4.5, "g", "IV"),
    Drug("Meropenem 1 g vial", 1000, "mg", "IV"),
    Drug("Ceftriaxone 1 g vial", 1000, "mg", "IV"),
    Drug("Cefepime 2 g vial", 2000, "mg", "IV"),
)
HYDROCORTISONE = Drug("Hydrocortisone sodium succinate 100 mg vial", 50, "mg", "IV")
FUROSEMIDE = Drug("Furosemide 40 mg/4 mL injection", 40, "mg", "IV")
LEVETIRACETAM = Drug("Levetiracetam 500 mg/5 mL vial", 500, "mg", "IV")

INTUBATION = ("Endotracheal intubation", "Endotracheal intubation, rapid sequence")
VENTILATION = ("Invasive mechanical ventilation",)
OXYGEN = ("High-flow nasal oxygen", "Non-invasive ventilation (BiPAP)")
CENTRAL_LINE = ("Central venous catheter, right internal jugular", "Central venous catheter, left subclavian")
ARTERIAL_LINE = ("Arterial line, radial", "Arterial line, femoral")
DIALYSIS = ("Continuous veno-venous haemodiafiltration", "Intermittent haemodialysis")
IMAGING = ("Chest X-ray, portable", "CT head without contrast", "Transthoracic echocardiogram")

SPECIMENS = ("BLOOD CULTURE", "SPUTUM", "URINE", "BRONCHOALVEOLAR LAVAGE")
TESTS = ("Blood culture, routine (aerobic and anaerobic)", "Respiratory culture", "Urine culture", "Respiratory culture, quantitative")  # fmt: skip
ORGANISMS = ("STAPHYLOCOCCUS AUREUS", "ESCHERICHIA COLI", "KLEBSIELLA PNEUMONIAE", "PSEUDOMONAS AERUGINOSA", "ENTEROCOCCUS FAECIUM", "STAPHYLOCOCCUS, COAGULASE NEGATIVE")  # fmt: skip
# Share of each organism per specimen, in the order of SPECIMENS.
ORGANISM_SHARES = (
    (0.25, 0.25, 0.12, 0.06, 0.10, 0.22),
    (0.40, 0.08, 0.20, 0.28, 0.02, 0.02),
    (0.03, 0.55, 0.17, 0.08, 0.15, 0.02),
    (0.32, 0.08, 0.20, 0.36, 0.02, 0.02),
)
# Antibiotics tested per organism, with the chance to be resistant.
PANELS: tuple[tuple[tuple[str, float], ...], ...] = (
    (("OXACILLIN", 0.35), ("VANCOMYCIN", 0.01), ("CLINDAMYCIN", 0.30)),
    (("CEFTRIAXONE", 0.15), ("CIPROFLOXACIN", 0.25), ("MEROPENEM", 0.01)),
    (("CEFTRIAXONE", 0.20), ("PIPERACILLIN/TAZO", 0.15), ("MEROPENEM", 0.04)),
    (("CEFEPIME", 0.15), ("PIPERACILLIN/TAZO", 0.18), ("MEROPENEM", 0.15)),
    (("AMPICILLIN", 0.80), ("VANCOMYCIN", 0.35), ("LINEZOLID", 0.02)),
    (("OXACILLIN", 0.60), ("VANCOMYCIN", 0.01), ("LINEZOLID", 0.01)),
)
