"""What a training does: repeats itself, stops early, slows down, and stops at what is not a number."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from caretrace.errors import CaretraceError, ConfigError
from caretrace.training.config import TrainingConfig
from caretrace.training.run import METRICS_FILE

from .conftest import CONFIG, assert_same_bits, records


def differ(some, others):
    return any(not torch.equal(tensor, others[0][name]) for name, tensor in some[0].items())


def test_the_same_seed_gives_the_same_bits(training, undisturbed, tmp_path):
    torch.manual_seed(123)  # what the process drew before must not matter
    assert_same_bits(training(tmp_path / "run"), undisturbed[0])
    assert (tmp_path / "run" / METRICS_FILE).read_text() == undisturbed[1]


def test_another_seed_and_another_member_give_other_ones(training, undisturbed, tmp_path):
    config = dataclasses.replace(CONFIG, seed=1, members=1)
    assert differ(training(tmp_path / "run", config), undisturbed[0])
    assert differ(undisturbed[0][:1], undisturbed[0][1:])


def test_more_members_leave_the_first_ones_as_they_are(training, undisturbed, tmp_path):
    one = training(tmp_path / "run", dataclasses.replace(CONFIG, members=1))
    assert_same_bits(one, undisturbed[0][:1])


def test_it_learns_and_each_member_keeps_its_best_epoch(training, undisturbed, tmp_path):
    training(tmp_path / "run")
    for member, weights in enumerate(undisturbed[0]):
        losses = [r["tuning_loss"] for r in records(tmp_path / "run") if r["member"] == member]
        model = training.build().eval()
        model.load_state_dict(weights)
        batch = training.tuning.batch(np.arange(len(training.tuning)))
        with torch.inference_mode():
            loss = model.tuning_loss(model(batch), torch.from_numpy(training.tuning.outcomes))
        assert loss.item() == pytest.approx(min(losses), abs=1e-6)
        assert min(losses) < losses[0]


def test_training_stops_when_patience_is_over(training, undisturbed, tmp_path):
    training(tmp_path / "run")
    losses = [r["tuning_loss"] for r in records(tmp_path / "run") if r["member"] == 1]
    assert len(losses) - 1 - losses.index(min(losses)) == CONFIG.patience_steps / 4


def test_the_learning_rate_falls_when_the_loss_stalls(training, tmp_path):
    training(tmp_path / "run")
    its = [r for r in records(tmp_path / "run") if r["member"] == 1]
    bad, rate, best = 0, CONFIG.learning_rate, math.inf
    for record in its:  # torch's rule: better by one in ten thousand, patience of one epoch
        bad = 0 if record["tuning_loss"] < best * (1 - 1e-4) else bad + 1
        best = min(best, record["tuning_loss"])
        if bad > 1:
            bad, rate = 0, rate * CONFIG.plateau_factor
        assert record["learning_rate"] == pytest.approx(rate)
    assert rate < CONFIG.learning_rate


def test_every_epoch_is_told_as_it_is_written(training, tmp_path):
    told = []
    training(tmp_path / "run", progress=told.append)
    assert told == records(tmp_path / "run")
    assert {"member", "epoch", "train_loss", "tuning_loss", "tuning_auroc", "learning_rate"} == set(told[0])


def spoil_after(monkeypatch, training, calls_before, where):
    """From its n-th call on, a model's output is not a number."""
    model = type(training.build())
    forward, calls = model.forward, []

    def spoilt(self, batch):
        if self.training == (where == "training"):
            calls.append(None)
        out = forward(self, batch)
        return out * math.nan if len(calls) > calls_before and self.training == (where == "training") else out

    monkeypatch.setattr(model, "forward", spoilt)


@pytest.mark.parametrize(("where", "calls_before"), [("training", 9), ("tuning", 2)])
def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_checkpoint(
    training, undisturbed, tmp_path, monkeypatch, where, calls_before
):
    with monkeypatch.context() as patched:
        spoil_after(patched, training, calls_before, where)
        with pytest.raises(CaretraceError, match=rf"the {where} loss became nan in epoch 2.*learning_rate"):
            training(tmp_path / "run")
    kept = torch.load(tmp_path / "run" / "checkpoints" / "member-0" / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in kept["state_dict"].values())
    assert_same_bits(training(tmp_path / "run"), undisturbed[0])  # it was the model's fault, now mended


def test_a_learning_rate_that_is_far_too_high_is_told(training, tmp_path):
    with pytest.raises(CaretraceError, match=r"a lower training\.learning_rate"):
        training(tmp_path / "run", dataclasses.replace(CONFIG, learning_rate=1e30))


def test_steps_are_rounded_up_to_epochs():
    config = TrainingConfig(batch_size=32)
    assert [config.epochs(steps, 120) for steps in (1, 4, 5, 8)] == [1, 1, 2, 2]
    assert config.epochs(3, 1) == 3
    assert config.epochs(2000, 1) == 60  # a tiny cohort is not looked at for ever


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("members", 0),
        ("max_steps", 0),
        ("patience_steps", 0),
        ("plateau_steps", -1),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-3),
        ("learning_rate", math.nan),
        ("weight_decay", -0.1),
        ("gradient_clip", 0.0),
        ("plateau_factor", 1.0),
        ("plateau_factor", 0.0),
        ("seed", -1),
        ("max_tokens", 0),
        ("accumulate", 0),
        ("checkpoint_steps", 0),
        ("devices", 0),
        ("nodes", -1),
        ("stream_sample", 0),
        ("lanes", 0),
        ("workers", -1),
    ],
)
def test_settings_that_cannot_be_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"training\.{name}: got {value}"):
        TrainingConfig(**{name: value})


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(
        ConfigError, match=r"training\.stream and training\.max_tokens.*leave one of them out"
    ):
        TrainingConfig(stream=True, max_tokens=100)


def test_steps_are_counted_in_the_batches_there_are():
    assert TrainingConfig(batch_size=32).epochs(24, 120, n_batches=12) == 2
