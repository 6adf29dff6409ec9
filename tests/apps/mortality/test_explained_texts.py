"""The short ways of explaining hold where texts are read, too, and for the document's model."""

import dataclasses

import numpy as np
import pytest
import torch

from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.mortality.document import DocumentModel
from caretrace.apps.mortality.explanation import MortalityScore
from caretrace.apps.mortality.model import MortalityModel
from caretrace.explain.gradients import integrated_gradients
from caretrace.explain.removal import removal
from caretrace.explain.scores import score_once, score_without

from .test_explanation import N_CODES, STATIC, record

RNG = np.random.default_rng(3)
SIZES = {"d_model": 8, "n_bins": 4, "pooling_heads": 2, "lookback_hours": 24.0, "text": "tfidf"}


class Five:
    """Vectors of five texts."""

    matrix, width = RNG.normal(size=(5, 6)).astype(np.float32), 6


def score(**change) -> MortalityScore:
    torch.manual_seed(0)
    config = MortalityConfig(**{**SIZES, **change})
    if config.design == "clinical-longformer":
        made = DocumentModel(config, n_static=STATIC, texts=Five())
    else:
        made = MortalityModel(config, n_codes=N_CODES, n_types=11, n_static=STATIC, texts=Five())
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return MortalityScore([made.eval()])


SCORES = {
    "steps": score(step_hours=4.0),
    "a step per measurement": score(step_hours=0.0),
    "document": score(design="clinical-longformer", backbone="transformer", step_hours=0.0, level_hours=()),
}


def sample():
    rows = [
        (float(RNG.integers(0, 96)) / 4, int(RNG.integers(1, N_CODES)), float(RNG.random()))
        for _ in range(16)
    ]
    plain = record(rows)
    text_id = torch.from_numpy(RNG.integers(-1, 5, plain.code.shape))
    return dataclasses.replace(plain, text_id=text_id, hours_since_admission=torch.tensor([30.0]))


SAMPLE = sample()


@pytest.mark.parametrize("name", SCORES)
def test_leaving_one_out_is_exact(name):
    literal = score_without(SCORES[name], SAMPLE, np.eye(16, dtype=bool))
    with torch.no_grad():
        np.testing.assert_allclose(SCORES[name].without_each(SAMPLE).numpy(), literal, atol=2e-4)


@pytest.mark.parametrize("name", SCORES)
def test_the_path_ends_at_the_record_and_credits_sum_up(name):
    path = SCORES[name].path(SAMPLE)
    with torch.no_grad():
        end = path(torch.ones(1, 16), SAMPLE.static)
    assert float(end) == pytest.approx(score_once(SCORES[name], SAMPLE), abs=2e-4)
    bound = (
        0.03 if name == "document" else 0.01
    )  # its random weights nearly cancel: the whole to divide by is small
    assert integrated_gradients(SCORES[name], SAMPLE).completeness_error < bound


@pytest.mark.parametrize("name", SCORES)
def test_a_text_is_part_of_what_is_explained(name):
    silent = dataclasses.replace(SAMPLE, text_id=torch.full_like(SAMPLE.text_id, -1))
    moved = removal(SCORES[name], SAMPLE).credit - removal(SCORES[name], silent).credit
    assert (np.abs(moved) > 1e-4).mean() > 0.5
