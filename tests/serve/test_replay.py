"""The demo's replay: what it sends is the recording, in step with a clock that says so."""

import asyncio
import datetime as dt
import json

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.cli import tour
from caretrace.dataset import Dataset
from caretrace.errors import ConfigError
from caretrace.serve.live.samples import CHANNELS
from caretrace.serve.paired import NOTE, PairedRecords
from caretrace.serve.replay import Recording, Replay, read_recording

STEP = 60.0


def recording(steps=30, subjects=(7, 9)):
    offset = np.repeat(np.arange(steps) * STEP, len(subjects))
    subject = np.tile(np.array(subjects, np.int64), steps)
    value = np.arange(len(offset), dtype=np.float32)
    return Recording(subject, offset, np.zeros(len(offset), np.int16), value, STEP)


def columns(time):
    """Of data, with times of this type."""
    return dict(zip(schema.DATA_COLUMNS, (pl.Int64, time, pl.String, pl.Float32, pl.String), strict=True))


class Wall:
    """A clock that stands until somebody sleeps."""

    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


class Ward:
    """Keeps what it is sent, and stops the replay after so many batches."""

    def __init__(self, most, stored=None, refused=()):
        self.most, self.stored, self.refused = most, stored, list(refused)
        self.batches, self.tried, self.places = [], [], {}

    async def place(self, subject, bed, ward):
        self.places[subject] = (bed, ward)

    def ready(self):
        return []

    def newest(self):
        return self.stored

    async def accept(self, batch):
        self.tried.append(batch.batch_id)
        if self.refused and self.refused.pop(0):
            raise TimeoutError
        self.batches.append((batch, self.clock()))
        if len(self.batches) >= self.most:
            raise asyncio.CancelledError


def replayed(monkeypatch, ward, speed=60.0, start_hours=0.25, steps=30):
    wall = Wall()
    monkeypatch.setattr(asyncio, "sleep", wall.sleep)
    replay = Replay(recording(steps), speed, start_hours, wall=wall)
    ward.clock = replay.clock
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(replay.run(ward))
    return replay, wall


def test_each_step_comes_when_the_ward_s_clock_shows_it(monkeypatch):
    ward = Ward(most=11)
    begun = Wall().now
    _, wall = replayed(monkeypatch, ward)
    before, live = ward.batches[0], ward.batches[1:]
    assert len(before[0]) == 15 * 2, "a quarter of an hour of two people came at once"
    assert [len(batch) for batch, _ in live] == [2] * 10
    for batch, clock in live:
        assert clock == pytest.approx(batch.time[0])
    assert wall.now - begun == pytest.approx(9.0), "ten minutes in as many seconds, the first at once"


def test_what_was_sent_is_the_recording(monkeypatch):
    ward = Ward(most=16)
    replay, _ = replayed(monkeypatch, ward)
    sent = [batch for batch, _ in ward.batches]
    assert np.array_equal(np.concatenate([b.value for b in sent]), replay.recording.value)
    assert np.array_equal(np.concatenate([b.subject for b in sent]), replay.recording.subject)
    times = np.concatenate([b.time for b in sent])
    assert np.array_equal(times - times[0], replay.recording.offset)
    assert np.all(times % STEP == 0), "a step of the recording is a step of the ward"


def test_it_begins_again_where_it_ended(monkeypatch):
    ward = Ward(most=18)
    replay, _ = replayed(monkeypatch, ward)
    times = np.concatenate([batch.time for batch, _ in ward.batches])
    assert np.array_equal(np.unique(np.diff(np.unique(times))), [STEP])
    assert ward.batches[-2][0].value[0] == 0.0
    assert len({batch.batch_id for batch, _ in ward.batches}) == 18, replay


def test_after_a_restart_it_goes_on_behind_what_is_stored(monkeypatch):
    stored = Wall().now + 50_000
    ward = Ward(most=2, stored=stored)
    replayed(monkeypatch, ward)
    assert ward.batches[0][0].time[0] > stored


def test_a_batch_that_could_not_be_taken_is_sent_again_under_the_same_name(monkeypatch):
    ward = Ward(most=2, refused=[True, True, False])
    replayed(monkeypatch, ward)
    assert ward.tried[0] == ward.tried[1] == ward.tried[2]
    assert [len(batch) for batch, _ in ward.batches] == [30, 2]


def test_the_clock_never_runs_ahead_of_what_was_sent():
    wall = Wall()
    replay = Replay(recording(), 60.0, 0.25, wall=wall)
    replay.begin()
    start = replay.clock()
    wall.now += 3600
    assert replay.clock() <= start + STEP


def test_everybody_has_a_bed(monkeypatch):
    ward = Ward(most=1)
    replay, _ = replayed(monkeypatch, ward)
    assert ward.places == replay.beds == {7: ("A-01", "A"), 9: ("A-02", "A")}


def write_dataset(folder):
    code = "VITAL//heart_rate//bpm"
    times = pl.datetime_range(
        pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 1, 0, 4), "1m", time_unit="us", eager=True
    )
    rows = pl.DataFrame(
        {
            "subject_id": [1] * 5 + [2] * 5,
            "time": pl.concat([times, times.dt.offset_by("40d")]),
            "code": [code] * 10,
            "numeric_value": [60.0, 61.0, None, 63.0, 64.0, 80.0, 81.0, 82.0, 83.0, 84.0],
            "text_value": [None] * 10,
        },
        schema=columns(pl.Datetime("us")),
    )
    path = folder / schema.DATA_DIR / "held_out" / "0.parquet"
    path.parent.mkdir(parents=True)
    rows.write_parquet(path)
    (folder / schema.METADATA_DIR).mkdir()
    splits = pl.DataFrame({"subject_id": [1, 2], "split": ["held_out"] * 2})
    splits.write_parquet(folder / schema.SPLITS_FILE)
    codes = pl.DataFrame({"code": [code], "description": ["Heart rate"], "parent_codes": [[]]})
    codes.write_parquet(folder / schema.CODES_FILE)
    (folder / schema.DATASET_FILE).write_text(json.dumps({"dataset_name": "x"}))
    return folder


def test_recordings_of_different_days_begin_together(tmp_path):
    read = read_recording(Dataset(write_dataset(tmp_path / "d")), "held_out")
    assert read.step_seconds == STEP
    assert read.subject.tolist() == [1, 2, 1, 2, 2, 1, 2, 1, 2]
    assert read.offset.tolist() == [0, 0, 60, 60, 120, 180, 180, 240, 240]
    assert set(read.channel.tolist()) == {CHANNELS.index("hr")}
    assert read.seconds == 300


def test_a_folder_without_demo_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match=r"demo\.json is not there; make the folder with `caretrace demo"):
        Replay.open(tmp_path)


def test_a_demo_without_vitals_has_no_replay(tmp_path):
    (tmp_path / "demo.json").write_text('{"runs": {}}')
    assert Replay.open(tmp_path) is None


def records_of(every_hours=0.2):
    """Of bed 7: a fact, something an hour before the label's moment, something 10 minutes after it."""
    minutes = [None, -60, 10]
    rows = pl.DataFrame(
        {
            "subject_id": [7] * 3,
            "time": [None if each is None else dt.timedelta(minutes=each) for each in minutes],
            "code": ["GENDER//F", "LAB//lactate", "LAB//late"],
            "numeric_value": [None, 2.0, 9.0],
            "text_value": [None] * 3,
        },
        schema=columns(pl.Duration("us")),
    )
    return PairedRecords(rows, every_hours)


def test_risks_are_asked_for_every_few_hours_of_the_ward_from_what_is_known_by_then(monkeypatch):
    wall, asked = Wall(), []
    nap = asyncio.sleep

    async def sleep(seconds):
        await wall.sleep(seconds)
        await nap(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    replay = Replay(recording(), 60.0, 0.25, wall=wall, paired=records_of())
    ward = Ward(most=46)  # once around: 15 steps to the end, 30 of the next round
    ward.clock = replay.clock

    async def keep(rows, moment, note):
        asked.append((moment, rows))
        assert note == NOTE

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(replay.run(ward, keep))
    moments = [moment for moment, _ in asked]
    assert np.diff(moments).tolist() == [dt.timedelta(minutes=12)] * 3
    first = moments[0]
    assert first.replace(tzinfo=dt.UTC).timestamp() == ward.batches[1][0].time[0], "when the live part begins"
    seen = [rows["code"].to_list() for _, rows in asked]
    assert seen[0] == ["GENDER//F", "LAB//lactate"], "what comes ten minutes later is not known yet"
    assert asked[0][1]["time"].to_list() == [None, first - dt.timedelta(hours=1)]
    assert seen[1] == ["GENDER//F", "LAB//lactate", "LAB//late"]
    assert seen[2] == ["GENDER//F", "LAB//lactate"], "it has begun again"
    assert all(rows["time"].drop_nulls().max() <= moment for moment, rows in asked)


def test_what_goes_wrong_with_the_risks_does_not_stop_the_ward(monkeypatch, caplog):
    ward, wall, nap = Ward(most=10), Wall(), asyncio.sleep

    async def sleep(seconds):
        await wall.sleep(seconds)
        await nap(0)

    async def keep(*_):
        raise ConfigError("no model today")

    monkeypatch.setattr(asyncio, "sleep", sleep)
    replay = Replay(recording(), 60.0, 0.25, wall=wall, paired=records_of())
    ward.clock = replay.clock
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(replay.run(ward, keep))
    assert len(ward.batches) == 10
    assert "no model today" in caplog.text


def test_a_demo_pairs_beds_with_held_out_records_and_says_so(tmp_path, tiny_dataset, tiny_run):
    write_dataset(tmp_path / "dataset" / "vitals")
    (tmp_path / "dataset" / "mortality").symlink_to(tiny_dataset)
    labels = pl.read_parquet(tiny_run / "evaluation" / "predictions.parquet").select(schema.LABEL_COLUMNS)
    labels.write_parquet(tmp_path / "labels")
    described = tour.describe(["mortality", "vitals"], tmp_path)
    told = described["risks"]
    assert "other simulated people" in told["note"]
    held_out = Dataset(tiny_dataset).splits.filter(pl.col("split") == "held_out")["subject_id"].to_list()
    assert set(told["records"].values()) <= set(held_out)
    paired = PairedRecords.open(tmp_path, told)
    bed, record = next(iter(told["records"].items()))
    own = paired.rows.filter(pl.col("subject_id") == int(bed))
    rows = Dataset(tiny_dataset).scan().filter(pl.col("subject_id") == record).collect()
    assert own["code"].to_list() == rows["code"].to_list()
    assert "risks" not in tour.describe(["vitals"], tmp_path)
