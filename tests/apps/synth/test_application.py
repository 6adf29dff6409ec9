"""What the application refuses, and what it keeps beside its figures."""

import json
from pathlib import Path

import numpy as np
import pytest

from caretrace.application.configs import find_config, names_of
from caretrace.application.run import Run
from caretrace.application.verbs import Draw, evaluate, generate, train, verbs_of
from caretrace.apps import load_application
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.config import JudgingConfig
from caretrace.apps.synth.drawings import COUNT_LEAST, drawings
from caretrace.apps.synth.judging import judge
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, ConfigError

from ...contracts.own import write_histories
from .people import histories

SYNTH = load_application("synth")
COUNTED = ["model=marginals", "judging.comparators=[]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synth")
    dataset = Dataset(write_histories(folder / "data"))
    train(SYNTH, dataset, load(SYNTH.config_class, None, COUNTED), folder / "run")
    return Run(folder / "run")


def test_every_named_configuration_is_one():
    names = names_of(SYNTH)
    assert {"recommended", "decoder", "prompt-bart", "n-gram", "marginals"} <= set(names)
    for name in names:
        found = load(SYNTH.config_class, find_config(SYNTH, Path(name)))
        assert found.model == (SYNTH.config_class().model if name == "recommended" else name)


def test_it_cannot_go_on_with_a_run(run, tmp_path):
    with pytest.raises(ConfigError, match="a generator is trained in one go"):
        train(SYNTH, run.dataset(), SYNTH.config_class(), tmp_path / "run", resume=True)


@pytest.mark.parametrize("split", ["train", None])
def test_what_it_learned_from_cannot_judge_it(run, split):
    with pytest.raises(CohortError, match="the generator learned from these subjects"):
        evaluate(SYNTH, run, split=split)
    assert not run.evaluation.exists()


def test_it_draws_the_subjects_that_were_asked_for(run, tmp_path):
    assert "generate" in verbs_of(SYNTH)
    counts = generate(SYNTH, run, tmp_path / "out", Draw(7, "omop", age=44, sex="M"))
    assert (counts["subjects"], counts["format"]) == (7, "omop")
    people = (tmp_path / "out" / "PERSON.csv").read_text().splitlines()
    assert len(people) == 8
    assert all(",8507," in row for row in people[1:])


def test_judging_settings_are_checked():
    with pytest.raises(ConfigError, match="times 0 must be at least 1"):
        JudgingConfig(times=0)


def test_too_few_for_a_part_leaves_that_part_out_and_says_so():
    few = histories([(50, n % 2, [{0}]) for n in range(400)], Vocabulary.of(["4019", "4280"]))
    verdict = judge(few.take(np.arange(200)), few.take(np.arange(200, 300)), few.take(np.arange(300, 400)),
                    parts=("validity", "utility"))  # fmt: skip
    assert "duplicates" in verdict["gates"]
    assert list(verdict["not_judged"]) == ["utility"]
    assert "at least 25 are needed" in verdict["not_judged"]["utility"]


def test_drawings_hold_no_real_person():
    vocabulary = Vocabulary.of(["25000", "4019", "4280", "V270"])
    rare = COUNT_LEAST - 1
    real = histories([(50 + n % 40, n % 2, [{3} if n < rare else {0, 1}]) for n in range(300)], vocabulary)
    made = histories([(77, 1, [{0, 1}, {2}])] * 300, vocabulary)
    found = drawings(real, {"ours": made, "other": made}, vocabulary)
    assert json.loads(json.dumps(found)) == found
    assert not any(name.startswith("V270") for name in found["prevalence"]["codes"])
    assert set(found["prevalence"]["made"]) == {"ours", "other"}
    assert {one["age"] for one in found["people"]} == {77}  # synthetic ones alone
    assert len(found["people"][0]["visits"]) == 2
    assert len(found["pairs"]["real"]) == len(found["pairs"]["categories"])
