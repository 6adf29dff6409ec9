"""The monitoring export: what is in the files is what was simulated, and the truth stands apart."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace.errors import InputError, OutputExistsError
from caretrace.hospital.physiology import (
    CHANNELS,
    FIRST_SUBJECT,
    PhysiologyConfig,
    compare_hours,
    describe_hours,
    simulate_vitals,
    simulated_hours,
    vitals_of,
)

CONFIG = PhysiologyConfig(
    subjects=53, hours=5, step_seconds=20, share_deteriorating=1, first_onset_hours=3, artefacts_per_hour=6,
    seed=2, keep_clean=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    folder = tmp_path_factory.mktemp("vitals") / "raw"
    return folder, simulate_vitals(folder, CONFIG)


def digests(folder: Path) -> dict[str, str]:
    files = (f for f in folder.rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_the_same_seed_writes_the_same_bytes(export: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    simulate_vitals(tmp_path / "again", CONFIG)
    assert digests(tmp_path / "again") == digests(export[0])


def test_files_hold_what_was_simulated_and_gaps_are_absent(export: tuple[Path, dict[str, int]]) -> None:
    folder, rows = export
    vitals = pl.read_parquet(folder / "vitals" / "*.parquet")
    assert sorted(p.name for p in (folder / "vitals").iterdir()) == [
        "vitals-00000.parquet",
        "vitals-00001.parquet",
    ]
    assert vitals.height == sum(n for name, n in rows.items() if name.startswith("vitals/"))
    assert vitals["subject_id"].n_unique() == CONFIG.subjects
    for subject in (0, 7, 52):
        recording = vitals_of(subject, CONFIG)
        own = vitals.filter(pl.col("subject_id") == FIRST_SUBJECT + subject)
        kept = ~np.isnan(recording.block.values).all(axis=0)
        assert 0 < kept.sum() < len(kept)
        begin = np.datetime64(recording.plan.person.start, "s").astype("datetime64[us]")
        expected = begin + recording.block.second[kept].astype("timedelta64[s]")
        np.testing.assert_array_equal(own["time"].to_numpy(), expected)
        for channel, name in enumerate(CHANNELS):
            shown = own[name].cast(pl.Float32).fill_null(float("nan")).to_numpy()
            np.testing.assert_array_equal(shown, recording.block.values[channel][kept])
    assert own["spo2"].null_count() > 0
    assert vitals.schema["hr"] == pl.Int16


def test_the_truth_tells_every_event_and_artefact(export: tuple[Path, dict[str, int]]) -> None:
    folder, rows = export
    truth = {p.stem: pl.read_parquet(p) for p in (folder / "truth").glob("*.parquet")}
    assert set(truth) == {"subjects", "events", "artefacts", "disturbances"}
    assert {f"truth/{name}.parquet": table.height for name, table in truth.items()}.items() <= rows.items()
    patients = pl.read_parquet(folder / "patients.parquet")
    assert patients.columns == ["subject_id", "age", "sex", "start"]
    recording = vitals_of(4, CONFIG)
    events = truth["events"].filter(pl.col("subject_id") == FIRST_SUBJECT + 4)
    start = patients.filter(pl.col("subject_id") == FIRST_SUBJECT + 4)["start"][0]
    assert [(t - start).total_seconds() for t in events["onset"]] == [e.onset for e in recording.plan.events]
    assert [(t - start).total_seconds() for t in events["end"]] == [e.end for e in recording.plan.events]
    struck = recording.plan.artefacts
    own = truth["artefacts"].filter(pl.col("subject_id") == FIRST_SUBJECT + 4)
    assert own.height == sum(len(struck.channels(i)) for i in range(len(struck.start)))
    assert truth["subjects"]["prone"].all()


def test_the_clean_signal_and_the_course_go_to_the_truth(export: tuple[Path, dict[str, int]]) -> None:
    clean = pl.read_parquet(export[0] / "truth" / "clean" / "*.parquet")
    assert clean.height == CONFIG.subjects * CONFIG.samples
    own = clean.filter(pl.col("subject_id") == FIRST_SUBJECT + 3)
    np.testing.assert_array_equal(own["course"].to_numpy(), vitals_of(3, CONFIG).block.course)


def test_without_events_the_tables_are_there_with_their_columns(tmp_path: Path) -> None:
    quiet = PhysiologyConfig(
        subjects=2, hours=2, step_seconds=3600, share_deteriorating=0, artefacts_per_hour=0
    )
    rows = simulate_vitals(tmp_path / "raw", quiet)
    events = pl.read_parquet(tmp_path / "raw" / "truth" / "events.parquet")
    assert events.height == rows["truth/events.parquet"] == 0
    assert events.schema["onset"] == pl.Datetime("us")
    assert events.schema["kind"] == pl.String
    assert not (tmp_path / "raw" / "truth" / "clean").exists()
    assert json.loads((tmp_path / "raw" / "simulation.json").read_text())["step_seconds"] == 3600


def test_an_existing_folder_is_left_alone(export: tuple[Path, dict[str, int]]) -> None:
    with pytest.raises(OutputExistsError):
        simulate_vitals(export[0], CONFIG)


MEASURE = """
import resource, sys, tempfile, pathlib
from caretrace.hospital.physiology import PhysiologyConfig, simulate_vitals
with tempfile.TemporaryDirectory() as folder:
    simulate_vitals(pathlib.Path(folder) / "raw", PhysiologyConfig(subjects=1, hours=float(sys.argv[1])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_writing_takes_no_more_memory_for_a_longer_recording() -> None:
    def peak(hours: int) -> int:
        command = [sys.executable, "-c", MEASURE, str(hours)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak(24 * 20) < peak(24 * 5) * 1.1


def test_figures_of_a_small_table_are_those_worked_out_by_hand() -> None:
    hours = list(range(14))
    rows = {"subject_id": [1] * 14 + [2] * 2, "hour": [*hours, 0, 1]}
    one = [80.0 + (-1) ** h for h in hours]
    table = pl.DataFrame(rows | {name: [*one, 100.0, 100.0] for name in CHANNELS})
    found = {(c, f): v for c, f, v in describe_hours(table).iter_rows()}
    assert found["hr", "mean"] == pytest.approx(82.5)
    assert found["hr", "sd within"] == pytest.approx(1)  # the second subject is too short to count
    assert found["hr", "lag 1 h"] == pytest.approx(-1)
    assert found["hr", "lag 6 h"] == pytest.approx(1)
    assert found["hr~spo2", "correlation within"] == pytest.approx(1)
    with pytest.raises(InputError, match="no column temp"):
        describe_hours(table.drop("temp"))


def real_hours(folder: Path, database: str) -> pl.DataFrame:
    names = {name: "o2sat" if name == "spo2" else name for name in CHANNELS}
    table = pl.read_parquet(folder / "icu-demo-hourly" / database / "los" / "dyn.parquet")
    hour = pl.col("time").dt.total_hours()
    return table.select(subject_id="stay_id", hour=hour, **names).with_columns(
        pl.col(CHANNELS).fill_nan(None)
    )


# Largest difference of simulated and real figures: levels and spreads in units of the real sd, the rest as such.
SCALED = {
    "mean": 0.10,
    "sd": 0.10,
    "q05": 0.35,
    "q50": 0.20,
    "q95": 0.25,
    "sd between": 0.15,
    "sd within": 0.15,
}
PLAIN = {"lag 1 h": 0.12, "lag 6 h": 0.15, "correlation within": 0.15}


@pytest.mark.data
def test_the_signs_resemble_those_of_the_eicu_demo(caretrace_data: Path) -> None:
    """Gains and levels were set by hand next to these very figures: agreement shows that the ward *can* look
    like this. Run with `-s` to see the table; `hr~spo2` is the coupling of heart rate and saturation."""
    compared = compare_hours(
        real_hours(caretrace_data, "eicu"), simulated_hours(700, PhysiologyConfig(hours=80, seed=1))
    )
    spread = dict(compared.filter(pl.col("figure") == "sd").select("channel", "real").iter_rows())
    failed = []
    for channel, figure, real, simulated in compared.iter_rows():
        print(f"{channel:10s} {figure:20s} real {real:8.2f}  simulated {simulated:8.2f}")
        tolerance = SCALED[figure] * spread[channel] if figure in SCALED else PLAIN[figure]
        if not abs(real - simulated) <= tolerance:
            failed.append((channel, figure, real, simulated, tolerance))
    assert not failed
