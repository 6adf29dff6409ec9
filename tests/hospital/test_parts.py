"""The whole hospital in one folder: every part repeatable, alone as in company, and independent of other seeds."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from caretrace.errors import ConfigError, OutputExistsError
from caretrace.hospital import PARTS, HospitalConfig, Monitors, Part, simulate, simulate_parts
from caretrace.hospital.histories import default_model, draw
from caretrace.hospital.operations import OperationsConfig
from caretrace.hospital.parts import FOLDERS, LINES, SOURCES
from caretrace.hospital.physiology import PhysiologyConfig, vitals_of
from caretrace.hospital.simulation import simulate_chunk
from caretrace.ingest import ingest, sources

TINY = HospitalConfig(
    subjects=30,
    seed=4,
    oracle_replicates=2,
    days=8,
    monitors=Monitors(people=3, step_seconds=1800),
    operations=OperationsConfig(size=0.1),
)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    folder = tmp_path_factory.mktemp("whole") / "raw"
    return folder, simulate_parts(folder, TINY)


def test_every_part_has_a_folder_a_source_and_a_line() -> None:
    assert set(get_args(Part)) == set(PARTS) == set(FOLDERS) == set(SOURCES) == set(LINES)
    assert {source.name for source in sources()} >= set(SOURCES.values())


def test_the_rows_told_are_the_rows_written(whole: tuple[Path, dict[str, int]]) -> None:
    folder, rows = whole
    tables = {name for name in files(folder) if name.endswith((".csv", ".parquet"))}
    assert tables == set(rows)
    for name, count in rows.items():
        table = (
            pl.read_parquet(folder / name)
            if name.endswith("parquet")
            else pl.read_csv(folder / name, infer_schema=False)
        )
        assert table.height == count, name
    for place in FOLDERS.values():
        assert (folder / place / "truth").is_dir()
        assert "simulated" in (folder / place / "README.md").read_text()
    for part in PARTS:
        assert f"caretrace ingest {SOURCES[part]} " in (folder / "README.md").read_text()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_alone_is_the_part_in_company_and_another_seed_is_another_hospital(
    part: Part, whole: tuple[Path, dict[str, int]], tmp_path: Path
) -> None:
    for name, seed in (("alone", 4), ("other", 5)):
        simulate_parts(tmp_path / name, dataclasses.replace(TINY, parts=(part,), seed=seed))
    together = files(whole[0] / FOLDERS[part])
    alone, other = (files(tmp_path / name / FOLDERS[part]) for name in ("alone", "other"))
    own = {name for name in alone if name.endswith((".csv", ".parquet"))}
    assert {name: alone[name] for name in own} == {name: together[name] for name in own}
    fixed = {"D_ICD_DIAGNOSES.csv", "sites.csv", "truth/parameters.parquet"}
    same = {name for name in own if other[name] == alone[name]}
    assert same <= fixed | {name for name in own if alone[name].count(b"\n") < 2}, same
    assert len(own - same) >= 4


def test_stays_alone_are_what_simulate_writes(tmp_path: Path) -> None:
    stays = dataclasses.replace(TINY, parts=("stays",))
    assert simulate_parts(tmp_path / "a", stays) == simulate(tmp_path / "b", stays)
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize("part", PARTS)
def test_its_source_takes_every_row(part: Part, whole: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    quality = ingest(SOURCES[part], whole[0] / FOLDERS[part], tmp_path / "dataset")
    assert quality["rows_quarantined"] == 0
    assert quality["unknown_files"] == []
    assert quality["events"] > 100
    read = sum(table["rows_read"] for table in quality["tables"].values())
    place = f"{FOLDERS[part]}/" if FOLDERS[part] else ""
    mine = {
        name: count
        for name, count in whole[1].items()
        if name.startswith(place) and "truth/" not in name and (place or "/" not in name)
    }
    assert read + (mine["operations/sites.csv"] if part == "operations" else 0) == sum(mine.values())
    assert "truth" in quality["never_read"]


def test_days_and_steps_set_the_length_and_rate(whole: tuple[Path, dict[str, int]]) -> None:
    vitals = pl.read_parquet(whole[0] / "monitors" / "vitals" / "*.parquet")
    span = vitals.group_by("subject_id").agg(pl.col("time").max() - pl.col("time").min())["time"]
    assert all(pl.Series([7.5 * 86400]) < span.dt.total_seconds())
    assert span.dt.total_seconds().max() < TINY.days * 86400
    assert whole[1]["operations/hours.csv"] == TINY.days * 24


def test_progress_goes_to_the_end_of_every_part_and_a_break_leaves_nothing(tmp_path: Path) -> None:
    seen: dict[str, tuple[float, float]] = {}
    simulate_parts(tmp_path / "a", TINY, lambda part, done, total: seen.update({part: (done, total)}))
    assert list(seen) == list(PARTS)
    assert all(done == total for done, total in seen.values())

    def stop(part: str, done: float, total: float) -> None:
        if part == "operations":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_parts(tmp_path / "b", TINY, stop)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    with pytest.raises(OutputExistsError):
        simulate_parts(tmp_path / "a", TINY)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parts": ("stay",)}, "did you mean 'stays'"),
        ({"parts": ()}, "give each of"),
        ({"parts": ("stays", "stays")}, "once"),
        ({"days": 0}, "days: got 0; give"),
    ],
)
def test_impossible_parts_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HospitalConfig(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="step_seconds: got 0; give"):
        Monitors(step_seconds=0)


def test_the_truth_is_written_a_chunk_at_a_time(tmp_path: Path) -> None:
    simulate(tmp_path / "raw", HospitalConfig(subjects=501, oracle_replicates=1))
    for name in ("stays", "severity"):
        assert pq.read_metadata(tmp_path / "raw" / "truth" / f"{name}.parquet").num_row_groups == 3


MEASURE = """
import resource, sys, tempfile, pathlib
from caretrace.hospital import HospitalConfig, simulate
with tempfile.TemporaryDirectory() as folder:
    simulate(pathlib.Path(folder) / "raw", HospitalConfig(subjects=int(sys.argv[1]), oracle_replicates=5))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_more_people_take_no_more_memory() -> None:
    def peak(subjects: int) -> int:
        command = [sys.executable, "-c", MEASURE, str(subjects)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak(4000) < peak(1000) * 1.1


def independent(series: np.ndarray) -> None:
    """Rows of `[seed, item]`: no two go together, nor do they on average.

    The items must be independent of each other within a seed.
    """
    n = series.shape[1]
    between = np.corrcoef(series)[np.triu_indices(len(series), 1)]
    assert np.abs(between).max() < 4.5 / np.sqrt(n), between
    assert abs(between.mean()) < 4 / np.sqrt(n * len(between))


def test_seeds_give_independent_stays() -> None:
    tables = [simulate_chunk(0, HospitalConfig(seed=seed, oracle_replicates=1)) for seed in range(8)]
    born = [t["patients"].sort("subject_id")["birth_date"].to_numpy().astype(float) for t in tables]
    independent(np.array(born))
    labs = [
        t["labs"]
        .filter(name="Creatinine")
        .group_by("subject_id", maintain_order=True)
        .agg(pl.col("value").first())
        for t in tables
    ]
    every = set.intersection(*(set(table["subject_id"]) for table in labs))
    assert len(every) > 200
    independent(
        np.array(
            [np.log(t.filter(pl.col("subject_id").is_in(sorted(every)))["value"].to_numpy()) for t in labs]
        )
    )


def test_seeds_give_independent_histories() -> None:
    model = default_model()
    drawn = [draw(1000, seed, model).histories for seed in range(8)]
    independent(np.array([h.age for h in drawn], float))
    independent(np.log(np.array([h.visit_count for h in drawn], float)))


def test_seeds_give_independent_monitors() -> None:
    """A sample of each person, and how it has changed two hours later: levels and what moves them."""
    config = PhysiologyConfig(hours=2.5, step_seconds=1800)
    shown = np.array(
        [
            [vitals_of(subject, dataclasses.replace(config, seed=seed)).block.clean for subject in range(150)]
            for seed in range(6)
        ]
    )
    for channel in range(shown.shape[2]):
        independent(shown[:, :, channel, 0])
        independent(shown[:, :, channel, -1] - shown[:, :, channel, 0])


def test_a_series_that_two_seeds_share_would_be_noticed() -> None:
    rng = np.random.default_rng(0)
    series = rng.standard_normal((8, 1000))
    independent(series)
    series[3] = 0.2 * series[2] + series[3]
    with pytest.raises(AssertionError):
        independent(series)


def test_settings_come_back(whole: tuple[Path, dict[str, int]]) -> None:
    from caretrace.config import from_dict

    stored = json.loads((whole[0] / "simulation.json").read_text())
    assert from_dict(HospitalConfig, stored) == TINY
