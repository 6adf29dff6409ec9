"""A training that was interrupted ends with the same bits as one that was not."""

import dataclasses
import json
import shutil
import struct
import zipfile

import pytest

from caretrace.errors import BundleError
from caretrace.training.run import METRICS_FILE

from .conftest import CONFIG, assert_same_bits


class Interruption(Exception):
    """Stands for whatever stops a process."""


def interrupt_after(member, epoch):
    def progress(record):
        if (record["member"], record["epoch"]) == (member, epoch):
            raise Interruption

    return progress


def test_the_run_to_compare_with_uses_all_that_must_survive(undisturbed):
    """Otherwise equal bits would say nothing of the schedule, early stopping or the choice of the best epoch."""
    lines = [json.loads(line) for line in undisturbed[1].splitlines()]
    first, second = ([line for line in lines if line["member"] == member] for member in range(2))
    assert len(second) < len(first) == 12, "no member stopped early"
    for its in (first, second):
        assert its[-2]["learning_rate"] < CONFIG.learning_rate, "the learning rate never fell"
        losses = [line["tuning_loss"] for line in its]
        assert losses.index(min(losses)) < len(losses) - 1, "the last epoch was the best"


@pytest.mark.parametrize(("member", "epoch"), [(0, 0), (0, 1), (0, 9), (0, 11), (1, 0), (1, 6), (1, 8)])
def test_interrupted_after_an_epoch_and_resumed_it_ends_with_the_same_bits(
    training, undisturbed, tmp_path, member, epoch
):
    with pytest.raises(Interruption):
        training(tmp_path / "run", progress=interrupt_after(member, epoch))
    weights = training(tmp_path / "run")
    assert_same_bits(weights, undisturbed[0])
    assert (tmp_path / "run" / METRICS_FILE).read_text() == undisturbed[1]


@pytest.mark.parametrize("batch", [0, 3, 41, 79])
def test_interrupted_within_an_epoch_too(training, undisturbed, tmp_path, monkeypatch, batch):
    model = type(training.build())
    loss, calls = model.loss, []

    def interrupted(*arguments):
        calls.append(None)
        if len(calls) == batch + 1:
            raise Interruption
        return loss(*arguments)

    monkeypatch.setattr(model, "loss", interrupted)
    with pytest.raises(Interruption):
        training(tmp_path / "run")
    assert_same_bits(training(tmp_path / "run"), undisturbed[0])
    assert (tmp_path / "run" / METRICS_FILE).read_text() == undisturbed[1]


def test_interrupted_again_and_again(training, undisturbed, tmp_path):
    for member, epoch in [(0, 1), (0, 1), (0, 2), (0, 11), (1, 4), (1, 7)]:
        with pytest.raises(Interruption):
            training(tmp_path / "run", progress=interrupt_after(member, epoch))
    assert_same_bits(training(tmp_path / "run"), undisturbed[0])
    assert (tmp_path / "run" / METRICS_FILE).read_text() == undisturbed[1]


def test_interrupted_between_the_last_epoch_of_a_member_and_its_end(training, undisturbed, tmp_path):
    training(tmp_path / "run")
    members = tmp_path / "run" / "checkpoints"
    (members / "member-1" / "finished").unlink()  # stopped early
    assert_same_bits(training(tmp_path / "run"), undisturbed[0])
    (members / "member-0" / "finished").unlink()  # trained all its epochs
    shutil.rmtree(members / "member-1")
    assert_same_bits(training(tmp_path / "run"), undisturbed[0])
    assert (tmp_path / "run" / METRICS_FILE).read_text() == undisturbed[1]


def test_a_line_of_metrics_that_was_cut_off_is_written_again(training, undisturbed, tmp_path):
    with pytest.raises(Interruption):
        training(tmp_path / "run", progress=interrupt_after(0, 2))
    metrics = tmp_path / "run" / METRICS_FILE
    metrics.write_text(metrics.read_text()[:-20])
    training(tmp_path / "run")
    assert metrics.read_text() == undisturbed[1]


def test_going_on_with_a_finished_training_trains_nothing(training, undisturbed, tmp_path):
    training(tmp_path / "run")
    assert_same_bits(
        training(tmp_path / "run", progress=lambda record: pytest.fail("trained")), undisturbed[0]
    )


def test_a_truncated_checkpoint_is_named_with_the_remedy(training, tmp_path):
    with pytest.raises(Interruption):
        training(tmp_path / "run", progress=interrupt_after(0, 1))
    last = tmp_path / "run" / "checkpoints" / "member-0" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:500])
    with pytest.raises(
        BundleError, match=r"last.ckpt: not a checkpoint.*remove the folder .*member-0.*--resume"
    ):
        training(tmp_path / "run")


def test_the_remedy_works(training, undisturbed, tmp_path):
    with pytest.raises(Interruption):
        training(tmp_path / "run", progress=interrupt_after(0, 1))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "member-0")
    assert_same_bits(training(tmp_path / "run"), undisturbed[0])
    assert (tmp_path / "run" / METRICS_FILE).read_text() == undisturbed[1]


@pytest.mark.parametrize(("member", "epoch"), [(0, 10), (1, 6)])
def test_a_run_may_be_moved_before_it_is_resumed(training, undisturbed, tmp_path, member, epoch):
    """The best epoch lies before the move, so the score to beat must move with it."""
    with pytest.raises(Interruption):
        training(tmp_path / "here", progress=interrupt_after(member, epoch))
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert_same_bits(training(tmp_path / "there"), undisturbed[0])
    assert not (tmp_path / "here").exists()


def test_any_flipped_bit_of_a_checkpoint_is_noticed(training, tmp_path):
    """torch's own reader leaves the checksums alone and would go on from wrong weights."""
    with pytest.raises(Interruption):
        training(tmp_path / "run", progress=interrupt_after(0, 1))
    last = tmp_path / "run" / "checkpoints" / "member-0" / "last.ckpt"
    good = last.read_bytes()
    with zipfile.ZipFile(last) as archive:
        parts = [part for part in archive.infolist() if part.file_size]
    for part in parts:
        name, extra = struct.unpack_from("<HH", good, part.header_offset + 26)
        place = part.header_offset + 30 + name + extra + part.file_size // 2
        last.write_bytes(good[:place] + bytes([good[place] ^ 16]) + good[place + 1 :])
        with pytest.raises(BundleError, match=r"last\.ckpt: not a checkpoint that can be read"):
            training(tmp_path / "run")


def test_a_checkpoint_of_another_model_is_refused(training, tmp_path):
    with pytest.raises(Interruption):
        training(tmp_path / "run", progress=interrupt_after(0, 1))
    wider = dataclasses.replace(training, build=lambda: type(training.build())(99))
    with pytest.raises(
        BundleError, match=r"last\.ckpt: its weights belong to another model; remove the folder"
    ):
        wider(tmp_path / "run")
