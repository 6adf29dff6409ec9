"""What is kept of the heads of a run's models."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from caretrace.application import silent
from caretrace.application.heads import write_heads
from caretrace.application.predictor import Predictor
from caretrace.application.run import Run
from caretrace.apps import load_application
from caretrace.data.batch import EventBatch
from caretrace.explain.heads import Looks, ShowsHeads

APPLICATION = load_application("mortality")


@dataclasses.dataclass
class Staged:
    """The run's own score, with heads and layers made to look where we say."""

    score: ShowsHeads
    records: int = 0

    def looks(self, sample: EventBatch) -> list[Looks]:
        self.records += 1
        found = []
        for each in self.score.looks(sample):
            steps, noise = len(each.hours), np.random.default_rng(self.records)
            pooling = noise.random(each.pooling.shape)
            pooling[0] = np.exp(-each.hours / 6)  # the first head looks at what is recent
            layers = np.zeros((2, 1, steps, steps))
            layers[0, 0] = np.eye(steps)
            layers[1, 0, :, 0] = 1.0
            pooling /= pooling.sum(1, keepdims=True)
            found.append(dataclasses.replace(each, pooling=pooling, layers=layers))
        return found


@pytest.fixture
def run(tiny_run, tmp_path) -> Run:
    return Run(shutil.copytree(tiny_run, tmp_path / "run"))


def test_staged_heads_are_seen_through(run: Run) -> None:
    predictor = Predictor.from_pretrained(APPLICATION, run.bundle)
    staged = Staged(APPLICATION.score(predictor.members))
    found = write_heads(predictor, run, run.dataset(), staged, silent)
    assert found is not None
    assert json.loads((run.path / "explain" / "heads.json").read_text()) == found
    assert found["records"] == staged.records > 10
    sure = {
        (row["head"], each["what"]) for row in found["heads"] for each in row["follows"] if each["p"] < 0.01
    }
    assert (0, "time") in sure
    assert {head for head, what in sure if what == "time"} == {0}
    near, far = found["layers"][:2]
    assert (near["member"], near["layer"], near["hours"], near["near"], near["nearer"]) == (
        0,
        0,
        0.0,
        1.0,
        1.0,
    )
    assert far["hours"] > far["even_hours"]
    assert len(found["layers"]) == 2 * len(predictor.members)


def test_a_model_without_heads_has_no_file(run: Run) -> None:
    predictor = Predictor.from_pretrained(APPLICATION, run.bundle)
    assert write_heads(predictor, run, run.dataset(), lambda batch: batch, silent) is None
    assert not (run.path / "explain").exists()
