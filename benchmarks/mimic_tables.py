"""Tables in the shape of MIMIC-IV 2.2, invented: every file of the release, `chartevents` of any size.

    python benchmarks/mimic_tables.py FOLDER --rows 10e6

Column names, order and file names are those of the release (hosp and icu modules, .csv.gz). Everybody has
one admission with one ICU stay, some 3,000 rows of `chartevents` as in MIMIC-IV, and some forty rows in the
other tables together. The same seed gives the same text in every file. Nothing in here is about anybody.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb

ROWS_PER_SUBJECT = 3000
# Other items than those below: numbers in `_UNITS`, and texts. Their ids are not in use in MIMIC-IV.
NUMERIC_ITEMS, TEXT_ITEMS = 200, 120

# What is charted most: item, label, category, unit, lowest and highest value.
VITALS = (
    (220045, "Heart Rate", "Routine Vital Signs", "bpm", 45, 150),
    (220210, "Respiratory Rate", "Respiratory", "insp/min", 6, 40),
    (220277, "O2 saturation pulseoxymetry", "Respiratory", "%", 85, 100),
    (220179, "Non Invasive Blood Pressure systolic", "Routine Vital Signs", "mmHg", 75, 200),
    (220180, "Non Invasive Blood Pressure diastolic", "Routine Vital Signs", "mmHg", 35, 110),
    (220181, "Non Invasive Blood Pressure mean", "Routine Vital Signs", "mmHg", 50, 140),
    (220050, "Arterial Blood Pressure systolic", "Routine Vital Signs", "mmHg", 75, 200),
    (220052, "Arterial Blood Pressure mean", "Routine Vital Signs", "mmHg", 50, 140),
    (223761, "Temperature Fahrenheit", "Routine Vital Signs", "°F", 95, 104),
    (220339, "PEEP set", "Respiratory", "cmH2O", 5, 15),
    (220621, "Glucose (serum)", "Labs", "mg/dL", 60, 300),
    (220615, "Creatinine (serum)", "Labs", "mg/dL", 1, 6),
)
LABS = (
    (50912, "Creatinine", "mg/dL", 1, 6),
    (50931, "Glucose", "mg/dL", 60, 300),
    (50971, "Potassium", "mEq/L", 3, 6),
    (50983, "Sodium", "mEq/L", 125, 150),
    (51006, "Urea Nitrogen", "mg/dL", 8, 80),
    (51221, "Hematocrit", "%", 22, 48),
    (51265, "Platelet Count", "K/uL", 40, 400),
    (51301, "White Blood Cells", "K/uL", 2, 25),
)

# Tables of one or more rows for each subject `s`: how many, and each column with its formula.
# A column without a formula is empty, as many are in MIMIC.
PER_SUBJECT = {
    "hosp/patients": (1, """subject_id, gender: if(i % 2 = 0, 'F', 'M'), anchor_age: 20 + i % 70,
        anchor_year: year(admitted), anchor_year_group: '2014 - 2016',
        dod: if(dead, strftime(admitted + interval 9 day, '%Y-%m-%d'), null)"""),
    "hosp/admissions": (1, """subject_id, hadm_id, admittime: admitted, dischtime: admitted + interval 9 day,
        deathtime: if(dead, admitted + interval 9 day, null),
        admission_type: ['URGENT', 'EW EMER.', 'ELECTIVE'][1 + i % 3], admit_provider_id: 'P1',
        admission_location: 'EMERGENCY ROOM', discharge_location: if(dead, 'DIED', 'HOME'),
        insurance: 'Medicare', language: 'ENGLISH', marital_status: 'SINGLE', race: 'WHITE', edregtime, edouttime,
        hospital_expire_flag: dead::int"""),
    "hosp/transfers": (2, """subject_id, hadm_id, transfer_id: 40000000 + 2 * i + k,
        eventtype: if(k = 0, 'admit', 'discharge'), careunit: if(k = 0, 'Medicine', null),
        intime: admitted + k * interval 9 day, outtime"""),
    "hosp/services": (1, """subject_id, hadm_id, transfertime: admitted, prev_service, curr_service: 'MED'"""),
    "hosp/diagnoses_icd": (5, """subject_id, hadm_id, seq_num: k + 1,
        icd_code: ['4019', '42731', 'I10', 'E785', '5849'][1 + k],
        icd_version: if(k = 2 or k = 3, 10, 9)"""),
    "hosp/procedures_icd": (1, """subject_id, hadm_id, seq_num: 1, chartdate: admitted::date,
        icd_code: '9604', icd_version: 9"""),
    "hosp/drgcodes": (1, """subject_id, hadm_id, drg_type: 'HCFA', drg_code: '871', description: 'SEPTICEMIA',
        drg_severity, drg_mortality"""),
    "hosp/hcpcsevents": (1, """subject_id, hadm_id, chartdate: admitted::date, hcpcs_cd: '99281', seq_num: 1,
        short_description: 'Emergency dept visit'"""),
    "hosp/omr": (2, """subject_id, chartdate: admitted::date, seq_num: 1,
        result_name: if(k = 0, 'Weight (Lbs)', 'Height (Inches)'),
        result_value: if(k = 0, 150 + i % 90, 60 + i % 15)"""),
    "hosp/prescriptions": (4, """subject_id, hadm_id, pharmacy_id: 50000000 + 4 * i + k, poe_id, poe_seq,
        order_provider_id, starttime: admitted + k * interval 7 hour, stoptime: admitted + interval 3 day,
        drug_type: 'MAIN', drug: ['Heparin', 'Insulin', 'Vancomycin', 'Furosemide'][1 + k], formulary_drug_cd, gsn,
        ndc: '00338004904', prod_strength, form_rx, dose_val_rx: 5 * (1 + k), dose_unit_rx: 'mg', form_val_disp,
        form_unit_disp, doses_per_24_hrs, route: 'IV'"""),
    "hosp/pharmacy": (4, """subject_id, hadm_id, pharmacy_id: 50000000 + 4 * i + k, poe_id,
        starttime: admitted + k * interval 7 hour, stoptime: admitted + interval 3 day,
        medication: ['Heparin', 'Insulin', 'Vancomycin', 'Furosemide'][1 + k], proc_type, status, entertime,
        verifiedtime, route: 'IV', frequency, disp_sched, infusion_type, sliding_scale, lockout_interval, basal_rate,
        one_hr_max, doses_per_24_hrs, duration, duration_interval, expiration_value, expiration_unit, expirationdate,
        dispensation, fill_quantity"""),
    "hosp/emar": (4, """subject_id, hadm_id, emar_id: subject_id || '-' || k, emar_seq: k, poe_id,
        pharmacy_id: 50000000 + 4 * i + k, enter_provider_id, charttime: admitted + k * interval 8 hour,
        medication: ['Heparin', 'Insulin', 'Vancomycin', 'Furosemide'][1 + k], event_txt: 'Administered', scheduletime,
        storetime: admitted + k * interval 8 hour"""),
    "hosp/emar_detail": (1, """subject_id, emar_id: subject_id || '-0', emar_seq: 0, parent_field_ordinal: '1.1',
        administration_type, pharmacy_id: 50000000 + 4 * i, barcode_type, reason_for_no_barcode,
        complete_dose_not_given, dose_due, dose_due_unit, dose_given: 5, dose_given_unit: 'mg',
        will_remainder_of_dose_be_given, product_amount_given, product_unit, product_code, product_description,
        product_description_other, prior_infusion_rate, infusion_rate, infusion_rate_adjustment,
        infusion_rate_adjustment_amount, infusion_rate_unit, route, infusion_complete, completion_interval,
        new_iv_bag_hung, continued_infusion_in_other_location, restart_interval, side, site,
        non_formulary_visual_verification"""),
    "hosp/labevents": (8, """labevent_id: 8 * i + k, subject_id, hadm_id, specimen_id: 8 * i + k,
        itemid: lab.itemid, order_provider_id, charttime: admitted + k * interval 9 hour,
        storetime: admitted + k * interval 9 hour + interval 50 minute, value: lab.low + dice % lab.width,
        valuenum: lab.low + dice % lab.width, valueuom: lab.unit, ref_range_lower: lab.low + 1,
        ref_range_upper: lab.low + 9,
        flag: if(dice % lab.width > 9, 'abnormal', null), priority: 'ROUTINE', comments"""),
    "hosp/microbiologyevents": (1, """microevent_id: i, subject_id, hadm_id, micro_specimen_id: i, order_provider_id,
        chartdate: admitted::date, charttime: admitted + interval 5 hour, spec_itemid: 70012,
        spec_type_desc: 'BLOOD CULTURE', test_seq: 1, storedate: (admitted + interval 3 day)::date,
        storetime: admitted + interval 3 day, test_itemid: 90201, test_name: 'Blood Culture, Routine', org_itemid,
        org_name, isolate_num, quantity, ab_itemid, ab_name, dilution_text, dilution_comparison, dilution_value,
        interpretation, comments: 'NO GROWTH.'"""),
    "hosp/poe": (1, """poe_id: subject_id || '-1', poe_seq: 1, subject_id, hadm_id, ordertime: admitted,
        order_type: 'General Care', order_subtype, transaction_type: 'New', discontinue_of_poe_id,
        discontinued_by_poe_id, order_provider_id, order_status: 'Inactive'"""),
    "hosp/poe_detail": (1, """poe_id: subject_id || '-1', poe_seq: 1, subject_id, field_name: 'Admit to',
        field_value: 'Medicine'"""),
    "icu/icustays": (1, """subject_id, hadm_id, stay_id, first_careunit: 'Medical Intensive Care Unit (MICU)',
        last_careunit: 'Medical Intensive Care Unit (MICU)', intime: admitted, outtime: admitted + interval 8 day,
        los: 8.0"""),
    "icu/inputevents": (2, """subject_id, hadm_id, stay_id, caregiver_id: 444,
        starttime: admitted + k * interval 2 hour, endtime: admitted + interval 5 hour,
        storetime: admitted + k * interval 2 hour, itemid: 219000,
        amount: 100, amountuom: 'ml', rate: 20, rateuom: 'mL/hour', orderid: i, linkorderid: i,
        ordercategoryname: '01-Drips', secondaryordercategoryname,
        ordercomponenttypedescription: 'Main order parameter',
        ordercategorydescription: 'Continuous Med', patientweight: 80, totalamount: 100, totalamountuom: 'ml',
        isopenbag: 0, continueinnextdept: 0, statusdescription: 'FinishedRunning', originalamount: 100,
        originalrate: 20"""),
    "icu/ingredientevents": (2, """subject_id, hadm_id, stay_id, caregiver_id: 444,
        starttime: admitted + k * interval 2 hour, endtime: admitted + interval 5 hour,
        storetime: admitted + k * interval 2 hour, itemid: 219001, amount: 100, amountuom: 'ml', rate: 20,
        rateuom: 'mL/hour', orderid: i, linkorderid: i, statusdescription: 'FinishedRunning', originalamount: 0,
        originalrate: 20"""),
    "icu/procedureevents": (1, """subject_id, hadm_id, stay_id, caregiver_id: 444, starttime: admitted,
        endtime: admitted + interval 30 hour, storetime: admitted + interval 30 hour, itemid: 219002, value: 1800,
        valueuom: 'min', location, locationcategory, orderid: i, linkorderid: i, ordercategoryname: 'Ventilation',
        ordercategorydescription: 'ContinuousProcess', patientweight: 80, isopenbag: 1, continueinnextdept: 0,
        statusdescription: 'FinishedRunning', ORIGINALAMOUNT: 1800, ORIGINALRATE: 1"""),
    "icu/outputevents": (2, """subject_id, hadm_id, stay_id, caregiver_id: 444,
        charttime: admitted + (1 + k) * interval 4 hour,
        storetime: admitted + (1 + k) * interval 4 hour, itemid: 219003,
        value: 50 + dice % 500, valueuom: 'ml'"""),
    "icu/datetimeevents": (1, """subject_id, hadm_id, stay_id, caregiver_id: 444, charttime: admitted,
        storetime: admitted, itemid: 219004, value: admitted, valueuom: 'Date', warning: 0"""),
}  # fmt: skip

# Tables about codes, the same whatever the size: a query each.
DICTIONARIES = {
    "hosp/d_hcpcs": "SELECT '99281' code, null category, 'Emergency department visit' long_description, "
    "'Emergency dept visit' short_description",
    "hosp/d_icd_diagnoses": "SELECT * FROM (VALUES ('4019', 9, 'Unspecified essential hypertension'), "
    "('42731', 9, 'Atrial fibrillation'), ('I10', 10, 'Essential (primary) hypertension'), "
    "('E785', 10, 'Hyperlipidemia, unspecified'), ('5849', 9, 'Acute kidney failure, unspecified')) "
    "t(icd_code, icd_version, long_title)",
    "hosp/d_icd_procedures": "SELECT '9604' icd_code, 9 icd_version, "
    "'Insertion of endotracheal tube' long_title",
    "hosp/d_labitems": "SELECT itemid, \"label\", 'Blood' fluid, 'Chemistry' category FROM labs ORDER BY itemid",
    "hosp/provider": "SELECT 'P1' provider_id",
    "icu/caregiver": "SELECT 444 caregiver_id",
    "icu/d_items": 'SELECT itemid, "label", "label" abbreviation, linksto, category, unitname, param_type, '
    "null lownormalvalue, null highnormalvalue FROM ("
    "SELECT itemid, \"label\", 'chartevents' linksto, category, unit unitname, 'Numeric' param_type FROM vitals "
    f"UNION ALL SELECT 240000 + i, 'Measurement ' || i, 'chartevents', 'General', null, 'Numeric' "
    f"FROM range({NUMERIC_ITEMS}) t(i) UNION ALL "
    f"SELECT 245000 + i, 'Assessment ' || i, 'chartevents', 'Adm History/FHPA', null, 'Text' "
    f"FROM range({TEXT_ITEMS}) t(i) UNION ALL "
    "SELECT * FROM (VALUES (219000, 'Norepinephrine', 'inputevents', 'Medications', 'mg', 'Solution'), "
    "(219001, 'Water', 'ingredientevents', 'Ingredients', 'ml', 'Ingredient'), "
    "(219002, 'Invasive Ventilation', 'procedureevents', 'Ventilation', null, 'Process'), "
    "(219003, 'Foley', 'outputevents', 'Output', 'ml', 'Numeric'), "
    "(219004, 'Last menstrual period', 'datetimeevents', 'Dates', null, 'Date time')) v) "
    "ORDER BY itemid",
}

# The maps of the mimic-code repository that two other pipelines ask for; one row each.
CONCEPT_MAPS = (
    "d_labitems_to_loinc",
    "inputevents_to_rxnorm",
    "lab_itemid_to_loinc",
    "meas_chartevents_main",
    "meas_chartevents_value",
    "numerics-summary",
    "outputevents_to_loinc",
    "proc_datetimeevents",
    "proc_itemid",
    "waveforms-summary",
)
CONCEPT_HEADER = (
    "itemid (omop_source_code),label,omop_concept_id,omop_concept_code,omop_concept_name,omop_vocabulary_id"
)

_UNITS = "['mL', 'cm', 'L/min', 'points', 'mA', 'joules', 'units', 'sec']"
_WORDS = (
    "['Alert', 'Sinus Rhythm', 'Clear', 'Strong/Palpable', 'Intermittent', 'Not applicable', "
    "'Within normal limits', 'Obeys Commands', 'Side rails up, bed in lowest position', 'Yes']"
)


def write_tables(folder: Path, rows: int, seed: int = 0, *, threads: int = 2) -> int:
    """Write every table below `folder`.

    Args:
        folder: Made if it is not there; gets `hosp/`, `icu/` and the concept maps.
        rows: Rows of `icu/chartevents.csv.gz`; rounded down to whole subjects.
        seed: Another seed, other values.
        threads: For DuckDB.

    Returns:
        The rows of `chartevents` written.
    """
    subjects = max(20, rows // ROWS_PER_SUBJECT)
    per = max(1, rows // subjects)
    for module in ("hosp", "icu"):
        (folder / module).mkdir(parents=True, exist_ok=True)
    for name in CONCEPT_MAPS:
        (folder / f"{name}.csv").write_text(f"{CONCEPT_HEADER}\n1,none,1,1-1,none,LOINC\n", encoding="utf-8")
    with duckdb.connect(config={"threads": threads, "memory_limit": "2GB"}) as connection:
        connection.sql(
            f"CREATE TABLE s AS SELECT i, 10000000 + i subject_id, 20000000 + i hadm_id, 30000000 + i stay_id, "
            f"timestamp '2110-01-01 08:00:00' + interval (hash(i, {seed + 1}) % 900000) hour admitted, "
            f"hash(i, {seed + 2}) % 9 = 0 dead FROM range({subjects}) t(i)"
        )
        for name, head, rows_of in (
            ("vitals", "itemid, label, category, unit", VITALS),
            ("labs", "itemid, label, unit", LABS),
        ):
            values = ", ".join(str((*row[:-1], row[-1] - row[-2])) for row in rows_of)
            connection.sql(f"CREATE TABLE {name} AS SELECT * FROM (VALUES {values}) t({head}, low, width)")
        listed = "(SELECT list(labs ORDER BY itemid) FROM labs)"
        for name, (number, columns) in PER_SUBJECT.items():
            base = (
                f"(SELECT *, hash(i, k, {seed + 1}) dice, {listed}[1 + ((i + k) % {len(LABS)})::int] lab "
                f"FROM s, range({number}) n(k) ORDER BY i, k)"
            )
            _write(connection, f"SELECT {_columns(columns)} FROM {base}", folder / f"{name}.csv.gz")
        for name, query in DICTIONARIES.items():
            _write(connection, query, folder / f"{name}.csv.gz")
        _write(connection, _chartevents(subjects, per, seed), folder / "icu/chartevents.csv.gz")
    return subjects * per


def _chartevents(subjects: int, per: int, seed: int) -> str:
    """Sorted by subject and hour, like the published file: 18 rows an hour, one in three of them text."""
    listed = "(SELECT list(vitals ORDER BY itemid) FROM vitals)"
    return f"""
    SELECT 10000000 + s subject_id, 20000000 + s hadm_id, 30000000 + s stay_id, dice % 19999 caregiver_id,
      chart charttime, chart + interval (dice % 61) minute storetime,
      case kind when 0 then 245000 + other % {TEXT_ITEMS} when 1 then 240000 + other % {NUMERIC_ITEMS}
        else vital.itemid end itemid,
      if(kind = 0, {_WORDS}[1 + (other % 10)::int], number::varchar) "value", if(kind = 0, null, number) valuenum,
      case kind when 0 then null when 1 then {_UNITS}[1 + (other % 8)::int] else vital.unit end valueuom,
      (dice % 97 = 0)::int warning
    FROM (
      SELECT s, dice, dice % 3 kind, dice // 3 % 10007 other, vital,
        if(kind = 1, dice // 7 % 500 / 10, vital.low + dice // 7 % vital.width)::decimal(5, 1) number_,
        if(kind = 1, number_::varchar, number_::int::varchar) number,
        admitted + interval (k * 168 // {per} * 60 + dice % 4 * 15) minute chart
      FROM (
        SELECT *, {listed}[1 + (dice // 11 % {len(VITALS)})::int] vital
        FROM (SELECT j // {per} s, j % {per} k, hash(j, {seed + 1}) dice FROM range({subjects * per}) t(j))
      ) JOIN s AS who ON who.i = s
    )"""


def _columns(text: str) -> str:
    """`a: f(x), b` → `f(x) AS "a", NULL AS "b"`; the ids are columns of the base already."""
    found = []
    for part in _split(text):
        name, _, formula = (piece.strip() for piece in part.partition(":"))
        given = formula or (name if name in ("subject_id", "hadm_id", "stay_id") else "NULL")
        found.append(f'{given} AS "{name}"')
    return ", ".join(found)


def _split(text: str) -> list[str]:
    """At the commas outside of brackets and quotes."""
    parts, depth, quoted = [""], 0, False
    for letter in text:
        quoted ^= letter == "'"
        depth += 0 if quoted else (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _write(connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> None:
    connection.sql(f"COPY ({query}) TO '{target}' (FORMAT csv, HEADER, COMPRESSION gzip)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=float, default=1e6, help="rows of chartevents")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{write_tables(options.folder, int(options.rows), options.seed):,} rows of chartevents")


if __name__ == "__main__":
    main()
