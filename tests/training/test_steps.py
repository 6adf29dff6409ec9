"""Within an epoch: checkpoints between batches, and what is done is not done again."""

import dataclasses
import errno

import pytest
import torch

from caretrace.training.run import METRICS_FILE

from .conftest import CONFIG, assert_same_bits


class Interruption(Exception):
    """Stands for whatever stops a process."""


def count_batches(monkeypatch, training, until=None):
    """Training losses computed from here on; after `until` of them the training is interrupted."""
    model = type(training.build())
    loss, calls = model.loss, []

    def counted(*arguments):
        if len(calls) == until:
            raise Interruption
        calls.append(None)
        return loss(*arguments)

    monkeypatch.setattr(model, "loss", counted)
    return calls


SETTINGS = {
    "every batch": {"checkpoint_steps": 1},
    "every second": {"checkpoint_steps": 2},
    "in portions": {"checkpoint_steps": 1, "accumulate": 3},
    "by length": {"checkpoint_steps": 1, "max_tokens": 150},
}


@pytest.fixture(scope="module")
def wholes(training, tmp_path_factory):
    """Weights, metrics and number of batches of runs that nobody interrupted and that write no such checkpoints."""
    found = {}
    for name, settings in SETTINGS.items():
        config = dataclasses.replace(CONFIG, members=1, max_steps=24, **settings)
        run = tmp_path_factory.mktemp("whole")
        with pytest.MonkeyPatch.context() as patched:
            calls = count_batches(patched, training)
            weights = training(run, dataclasses.replace(config, checkpoint_steps=None))
        found[name] = config, weights, (run / METRICS_FILE).read_text(), len(calls)
    return found


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("batch", [1, 2, 6, 7, 13])
def test_interrupted_within_an_epoch_it_goes_on_with_the_next_batch(
    training, wholes, tmp_path, monkeypatch, name, batch
):
    config, weights, metrics, total = wholes[name]
    at = batch * config.accumulate
    with monkeypatch.context() as patched:
        count_batches(patched, training, until=at)
        with pytest.raises(Interruption):
            training(tmp_path / "run", config)
    calls = count_batches(monkeypatch, training)
    assert_same_bits(training(tmp_path / "run", config), weights)
    assert (tmp_path / "run" / METRICS_FILE).read_text() == metrics
    # The checkpoint before the interruption may be one step old, or two where every second is kept.
    assert total - at <= len(calls) <= total - at + config.checkpoint_steps * config.accumulate


def test_interrupted_at_every_batch_one_after_the_other(training, wholes, tmp_path, monkeypatch):
    config, weights, metrics, total = wholes["every batch"]
    done = 0
    while True:
        with monkeypatch.context() as patched:
            calls = count_batches(patched, training, until=2)
            try:
                found = training(tmp_path / "run", config)
                break
            except Interruption:
                done += len(calls)
    assert done > total / 2
    assert_same_bits(found, weights)
    assert (tmp_path / "run" / METRICS_FILE).read_text() == metrics


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS])
def test_a_checkpoint_that_cannot_be_written_stops_the_training(training, tmp_path, monkeypatch, number):
    """Lightning 2.6 goes on without one after a PermissionError (its issue 21800)."""
    save = torch.save

    def refused(value, target, *arguments, **settings):
        if "epoch" in value:  # a checkpoint, and not what torch saves besides
            raise OSError(number, "refused", str(target))
        save(value, target, *arguments, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", refused)
        with pytest.raises(OSError, match="refused"):
            training(tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_a_folder_without_the_right_to_write_stops_the_training(training, tmp_path, monkeypatch):
    """As the superuser writes everywhere, the file system is made to say no."""
    from pathlib import Path

    opened = Path.open

    def refused(self, mode="r", *arguments, **settings):
        if ".ckpt" in self.name and "w" in mode:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return opened(self, mode, *arguments, **settings)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(PermissionError, match=r"best\.ckpt"):
        training(tmp_path / "run")
