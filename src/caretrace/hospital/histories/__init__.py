"""The population: who comes, how often, and with which ICD-9-CM diagnoses, with the exact likelihood of each history.

    model = default_model()
    drawn = draw(30_000, seed=0, model=model)               # in memory; iter_chunks streams
    exact = log_likelihoods(drawn.histories, model)         # [subject], nats
    log_likelihood([{"4019", "4280"}, {"4280"}], 71, "F", model)
    entropy_rate(model, seed=1)                             # nats per subject and per code
    simulate_histories(Path("raw"), 30_000, seed=0)         # PATIENTS, ADMISSIONS, DIAGNOSES_ICD and truth/

Codes have no dot, as in MIMIC-III. How histories come about stands in `model.py`, the numbers in
`profiles.py` and `construction.py`. Every coefficient is assumed; nothing here describes real patients.
"""

from caretrace.hospital.histories.catalogue import AGE_EDITS, SEXES, Catalogue, catalogue, ccs_labels
from caretrace.hospital.histories.construction import default_model
from caretrace.hospital.histories.dates import Dates, draw_dates, sequence
from caretrace.hospital.histories.entropy import EntropyRate, entropy_rate, expected_visits
from caretrace.hospital.histories.likelihood import log_likelihood, log_likelihoods, phenotype_posterior
from caretrace.hospital.histories.model import HistoryModel
from caretrace.hospital.histories.records import Histories, from_lists, join
from caretrace.hospital.histories.sampling import Drawn, draw, iter_chunks
from caretrace.hospital.histories.tables import simulate_histories

__all__ = [
    "AGE_EDITS",
    "SEXES",
    "Catalogue",
    "Dates",
    "Drawn",
    "EntropyRate",
    "Histories",
    "HistoryModel",
    "catalogue",
    "ccs_labels",
    "default_model",
    "draw",
    "draw_dates",
    "entropy_rate",
    "expected_visits",
    "from_lists",
    "iter_chunks",
    "join",
    "log_likelihood",
    "log_likelihoods",
    "phenotype_posterior",
    "sequence",
    "simulate_histories",
]
