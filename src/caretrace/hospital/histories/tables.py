"""Raw tables as a hospital would hand them over, in MIMIC-III's layout, and the truth in a folder of its own."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from caretrace.files import whole_folder, write_json
from caretrace.hospital.histories.catalogue import SEXES, Catalogue, catalogue
from caretrace.hospital.histories.construction import default_model
from caretrace.hospital.histories.dates import Dates, draw_dates, sequence
from caretrace.hospital.histories.model import HistoryModel
from caretrace.hospital.histories.sampling import CHUNK, Drawn, check_sample, draw_chunk

FIRST_SUBJECT = 20_000_001
VISITS_OF_A_SUBJECT = 100  # hadm_id = subject_id * this + number of the visit

README = """# Simulated visits with diagnoses

Everything in this folder is simulated by caretrace; no real person is in here, and no figure from it says
anything about real patients. `PATIENTS`, `ADMISSIONS`, `DIAGNOSES_ICD` and `D_ICD_DIAGNOSES` have the columns
of MIMIC-III that apply; ICD-9-CM codes have no dot. Times are UTC. `truth/` holds what was latent: the
phenotype of each subject, the episode of each visit, and which population it was (`population.json`).
"""


def simulate_histories(
    out: Path,
    subjects: int,
    seed: int,
    *,
    model_seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> dict[str, int]:
    """Draw subjects and write their tables, chunk by chunk.

    The same arguments write the same bytes; a larger `subjects` repeats the first ones. Memory does not grow
    with `subjects`.

    Args:
        out: Folder to make; it appears whole or not at all.
        subjects: How many.
        seed: Of the sample.
        model_seed: Of the population's construction (`default_model`).
        progress: Called with the number of subjects done since the last call.

    Returns:
        Rows written, per file path relative to `out`.

    Raises:
        ConfigError: `subjects` is not positive or a seed is negative.
        OutputExistsError: `out` exists and is not an empty folder.
    """
    check_sample(subjects, seed)
    model, known = default_model(model_seed), catalogue()
    rows: Counter[str] = Counter()
    with whole_folder(out) as folder, contextlib.ExitStack() as stack:
        files: dict[str, _Csv | _Parquet] = {}
        for chunk in range(-(-subjects // CHUNK)):
            wanted = min(CHUNK, subjects - chunk * CHUNK)
            for name, table in chunk_tables(chunk, seed, wanted, model, known).items():
                if name not in files:
                    files[name] = _open(folder, name, stack)
                files[name].add(table)
                rows[name] += table.height
            if progress is not None:
                progress(wanted)
        titles = pl.DataFrame({"icd9_code": known.codes, "short_title": known.titles})
        titles.write_csv(folder / "D_ICD_DIAGNOSES.csv")
        rows["D_ICD_DIAGNOSES.csv"] = titles.height
        population = {
            "subjects": subjects,
            "seed": seed,
            "model_seed": model_seed,
            "fingerprint": model.fingerprint(),
            "phenotypes": list(model.phenotypes),
            "episodes": list(model.episodes),
        }
        write_json(folder / "truth" / "population.json", population)
        (folder / "README.md").write_text(README, encoding="utf-8")
    return dict(rows)


def chunk_tables(
    chunk: int, seed: int, wanted: int, model: HistoryModel, known: Catalogue
) -> dict[str, pl.DataFrame]:
    """Every table of the first `wanted` subjects of a chunk, by file path."""
    drawn = draw_chunk(chunk, seed, model)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(chunk, 1)))
    dates = draw_dates(drawn, model, rng)
    place = sequence(drawn, known, rng)
    last = FIRST_SUBJECT + chunk * CHUNK + wanted
    tables = _tables(drawn, dates, place, chunk, model)
    return {name: table.filter(pl.col("subject_id") < last) for name, table in tables.items()}


def _tables(
    drawn: Drawn, dates: Dates, place: np.typing.NDArray[np.int64], chunk: int, model: HistoryModel
) -> dict[str, pl.DataFrame]:
    h = drawn.histories
    subject_id = FIRST_SUBJECT + chunk * CHUNK + np.arange(len(h))
    visit_subject = subject_id[h.visit_subject]
    hadm_id = visit_subject * VISITS_OF_A_SUBJECT + h.visit_rank + 1
    born = (np.array(model.episodes)[drawn.episode] == "birth") & (h.visit_rank == 0)
    kind = np.where(born, "NEWBORN", "EMERGENCY")
    diagnoses = pl.DataFrame(
        {
            "subject_id": visit_subject[h.token_visit],
            "hadm_id": hadm_id[h.token_visit],
            "seq_num": place,
            "icd9_code": pl.Series(model.codes).gather(h.code),
        }
    )
    sex = pl.Series(SEXES).gather(h.sex)
    return {
        "PATIENTS.csv": pl.DataFrame(
            {"subject_id": subject_id, "gender": sex, "dob": dates.birth.astype("datetime64[ms]")}
        ),
        "ADMISSIONS.csv": pl.DataFrame(
            {
                "subject_id": visit_subject,
                "hadm_id": hadm_id,
                "admittime": dates.admit.astype("datetime64[ms]"),
                "dischtime": dates.discharge.astype("datetime64[ms]"),
                "admission_type": kind,
            }
        ),
        "DIAGNOSES_ICD.csv": diagnoses.sort("hadm_id", "seq_num"),
        **_truth(drawn, dates, subject_id, hadm_id, model),
    }


def _truth(
    drawn: Drawn,
    dates: Dates,
    subject_id: np.typing.NDArray[np.int64],
    hadm_id: np.typing.NDArray[np.int64],
    model: HistoryModel,
) -> dict[str, pl.DataFrame]:
    h = drawn.histories
    return {
        "truth/subjects.parquet": pl.DataFrame(
            {
                "subject_id": subject_id,
                "age": h.age,
                "sex": pl.Series(SEXES).gather(h.sex),
                "phenotype": pl.Series(model.phenotypes).gather(drawn.phenotype),
            }
        ),
        "truth/visits.parquet": pl.DataFrame(
            {
                "subject_id": subject_id[h.visit_subject],
                "hadm_id": hadm_id,
                "episode": pl.Series(model.episodes).gather(drawn.episode),
                "gap_days": dates.gap_days,
            }
        ),
    }


class _Csv:
    """A CSV file that grows chunk by chunk."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._empty = file, True

    def add(self, table: pl.DataFrame) -> None:
        table.write_csv(self._file, include_header=self._empty, datetime_format="%Y-%m-%d %H:%M:%S")
        self._empty = False


class _Parquet:
    """A Parquet file that grows chunk by chunk."""

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        self._path, self._stack = path, stack
        self._writer: pq.ParquetWriter | None = None

    def add(self, table: pl.DataFrame) -> None:
        rows = table.to_arrow()
        if self._writer is None:
            self._writer = self._stack.enter_context(pq.ParquetWriter(self._path, rows.schema))
        self._writer.write_table(rows)


def _open(folder: Path, name: str, stack: contextlib.ExitStack) -> _Csv | _Parquet:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    return _Parquet(path, stack) if path.suffix == ".parquet" else _Csv(stack.enter_context(path.open("wb")))
