"""Are our labels those of ACES, row for row?

    python benchmarks/aces_parity.py DATASET                 # the mortality tasks that fit the dataset
    python benchmarks/aces_parity.py DATASET TASK.yaml ...   # tasks of your own
    python benchmarks/aces_parity.py --random 200            # random datasets and random window trees

ACES (es-aces 0.7.3) needs older libraries than we do, so it runs in an environment of its own, which this
script makes once (`--venv`, default `build/aces`), or in one you have (`--python PATH`). It prints a table
and leaves with 1 if any (subject_id, prediction_time, boolean_value) differs.

ACES reads one file at a time and knows neither `???` nor landmarks: it is handed each task with its
predicates resolved, one per landmark. Rows it returns without a label (it does so when a window that never
ends is the only branch of the tree) are not labels and are left out, but counted. Random tasks that give two
opposite labels at one prediction time, which we refuse, are passed over.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from caretrace import schema
from caretrace.cohort import build_labels, read_task
from caretrace.cohort.landmarks import split_by_landmark
from caretrace.cohort.task import Task, parse_task
from caretrace.dataset import Dataset
from caretrace.errors import CohortError

ACES = ["es-aces==0.7.3", "polars<2"]
COLUMNS = list(schema.LABEL_COLUMNS)
WORKER = """
import json, logging, sys, time
import polars as pl
from aces import config, predicates, query
from omegaconf import DictConfig
logging.disable(logging.CRITICAL)
answers = []
for job in json.load(open(sys.argv[1])):
    began = time.perf_counter()
    parts, error = [], None
    try:
        for file in job["data"]:
            task = config.TaskExtractorConfig.load(job["task"])
            events = predicates.get_predicates_df(task, DictConfig({"path": file, "standard": "meds"}))
            found = query.query(task, events)
            if not found.is_empty():
                parts.append(found.select("subject_id", pl.col("index_timestamp").alias("prediction_time"),
                                          (pl.col("label") > 0).alias("boolean_value")))
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    if parts:
        pl.concat(parts).write_parquet(job["out"])
    answers.append({"error": error, "rows": sum(map(len, parts)), "seconds": time.perf_counter() - began})
json.dump(answers, open(sys.argv[2], "w"))
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", nargs="?", type=Path, help="MEDS dataset folder")
    parser.add_argument(
        "tasks", nargs="*", type=Path, help="task files; default: the mortality tasks that fit"
    )
    parser.add_argument("--random", type=int, default=0, metavar="N", help="N random datasets and tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--venv", type=Path, default=Path("build/aces"), help="where to make ACES's environment"
    )
    parser.add_argument("--python", type=Path, help="an interpreter that already has es-aces")
    options = parser.parse_args()
    if options.dataset is None and not options.random:
        parser.error("name a dataset, or give --random N")
    python = options.python or aces_python(options.venv)
    with tempfile.TemporaryDirectory() as scratch:
        cases: list[tuple[str, Dataset, Task]] = []
        if options.dataset is not None:
            cases += dataset_cases(Dataset(options.dataset), options.tasks)
        cases += random_cases(options.random, options.seed, Path(scratch))
        rows = compare(cases, python, Path(scratch))
    return report(rows, brief=bool(options.random))


def aces_python(folder: Path) -> Path:
    """The interpreter of ACES's own environment, made on first use."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making {folder} with {' '.join(ACES)} ...", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *ACES], check=True)
    return python


def dataset_cases(dataset: Dataset, paths: list[Path]) -> list[tuple[str, Dataset, Task]]:
    chosen = paths
    if not paths:
        folder = Path(str(files("caretrace.apps").joinpath("mortality", "tasks")))
        chosen = [path for path in sorted(folder.glob("*.yaml")) if not read_task(path).missing(dataset)]
    return [
        (single.name, dataset, single)
        for path in chosen
        for single in split_by_landmark(read_task(path).resolve(dataset)).values()
    ]


def compare(cases: list[tuple[str, Dataset, Task]], python: Path, scratch: Path) -> list[dict[str, Any]]:
    jobs, ours = [], []
    for number, (_, dataset, task) in enumerate(cases):
        file = scratch / f"{number}.yaml"
        file.write_text(task.to_yaml(), encoding="utf-8")
        data = [str(path) for path in dataset.files()]
        jobs.append({"task": str(file), "data": data, "out": str(scratch / f"{number}.parquet")})
        began = time.perf_counter()
        try:
            frame = build_labels(dataset, task).frame
        except CohortError as error:
            if "no subject is left" not in str(error) and "nothing to label" not in str(error):
                raise
            frame = pl.DataFrame(schema=dict.fromkeys(COLUMNS))
        ours.append((frame, time.perf_counter() - began))
    (scratch / "jobs.json").write_text(json.dumps(jobs))
    subprocess.run(
        [str(python), "-c", WORKER, str(scratch / "jobs.json"), str(scratch / "answers.json")], check=True
    )
    answers = json.loads((scratch / "answers.json").read_text())
    return [
        row(name, job, answer, *own)
        for (name, _, _), job, answer, own in zip(cases, jobs, answers, ours, strict=True)
    ]


def row(
    name: str, job: dict[str, Any], answer: dict[str, Any], frame: pl.DataFrame, seconds: float
) -> dict[str, Any]:
    theirs: set[Any] = set()
    if answer["rows"]:
        # Two triggers can give ACES the same pair twice; MEDS labels have it once.
        theirs = set(pl.read_parquet(job["out"]).drop_nulls().unique().rows())
    own = set(frame.rows())
    return {
        "task": name,
        "ours": len(own),
        "ACES": len(theirs),
        "positive": sum(value for *_, value in own),
        "unlabelled by ACES": answer["rows"] - len(theirs),
        "only ours": len(own - theirs),
        "only ACES": len(theirs - own),
        "seconds": seconds,
        "ACES seconds": answer["seconds"],
        "error": answer["error"],
        "yaml": Path(job["task"]).read_text(),
    }


def report(rows: list[dict[str, Any]], brief: bool) -> int:
    wrong = [r for r in rows if r["only ours"] or r["only ACES"] or r["error"]]
    shown = wrong if brief else rows
    names = [name for name in rows[0] if name not in ("error", "yaml")] if rows else []
    for values in [names, *([r[name] for name in names] for r in shown)]:
        print("  ".join(f"{v:.2f}".rjust(9) if isinstance(v, float) else str(v).rjust(9) for v in values))
    for r in wrong[:3]:
        print(f"\n{r['task']} differs: {r['error'] or 'see above'}\n{r['yaml']}")
    labels = sum(r["ours"] for r in rows)
    print(f"{len(rows)} tasks, {labels} labels of ours, {len(wrong)} tasks differ from ACES")
    return 1 if wrong else 0


def random_cases(number: int, seed: int, scratch: Path) -> list[tuple[str, Dataset, Task]]:
    """Small datasets on a six-hour grid, so that events often fall exactly on a bound, and random trees."""
    rng = random.Random(seed)
    cases: list[tuple[str, Dataset, Task]] = []
    while len(cases) < number:
        name = f"random {len(cases)}"
        try:
            task = parse_task(yaml.safe_load(yaml.safe_dump(random_task(rng))), name, name)
        except CohortError:
            continue  # not a window tree; ACES would refuse it too
        folder = scratch / f"dataset_{len(cases)}"
        write_dataset(folder, random_rows(rng))
        dataset = Dataset(folder)
        try:
            build_labels(dataset, task)
        except CohortError as error:
            if "opposite labels" in str(error):
                shutil.rmtree(folder)
                continue
        cases.append((name, dataset, task.resolve(dataset)))
    return cases


def random_rows(rng: random.Random) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    start = datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times carry no zone
    for subject in range(1, 31):
        rows.append((subject, None, "SEX//F", None))
        for _ in range(rng.randint(1, 14)):
            when = start + timedelta(hours=6 * rng.randint(0, 24))
            rows.append((subject, when, rng.choice("ABCD"), rng.choice([None, 1.0, 2.0, 3.0])))
    return rows


def write_dataset(folder: Path, rows: list[tuple[Any, ...]]) -> None:
    """A MEDS dataset with one shard."""
    frame = pl.DataFrame(
        rows,
        schema={
            "subject_id": pl.Int64,
            "time": pl.Datetime("us"),
            "code": pl.String,
            "numeric_value": pl.Float32,
        },
        orient="row",
    ).with_columns(pl.lit(None, pl.String).alias(schema.TEXT_VALUE))
    (folder / "data" / "train").mkdir(parents=True)
    (folder / "metadata").mkdir()
    frame.sort("subject_id", "time", nulls_last=False).write_parquet(folder / "data" / "train" / "0.parquet")
    (folder / schema.DATASET_FILE).write_text("{}")
    frame.select("code").unique().write_parquet(folder / schema.CODES_FILE)
    splits = frame.select("subject_id").unique().with_columns(pl.lit(schema.TRAIN).alias(schema.SPLIT))
    splits.write_parquet(folder / schema.SPLITS_FILE)


def random_task(rng: random.Random) -> dict[str, Any]:
    names = ["a", "b", "c", "d_low", "either", "both"]
    marks = ["_ANY_EVENT", "_RECORD_START", "_RECORD_END"]

    def event(arrow: str) -> str:
        own = [n for n in marks if n != ("_RECORD_END" if arrow == "<-" else "_RECORD_START")]
        return f"{arrow} {rng.choice([*names, *names, *own])}"

    def duration(sign: str) -> str:
        return f"{sign} {rng.choice(['6h', '12 hours', '1 day', '36h', '2d', '1 day 6 hours'])}"

    windows: dict[str, Any] = {}
    bounds = ["trigger"]
    for name in rng.sample(["one", "two", "three", "four"], rng.randint(2, 4)):
        base = rng.choice(bounds)
        root = rng.choice([base, base, base + " " + duration("+"), base + " " + duration("-")])
        root = base + " " + event(rng.choice(["->", "<-"])) if rng.random() < 0.15 else root
        if rng.random() < 0.6:
            start, end = root, rng.choice(["start " + duration("+"), "start " + event("->"), None])
        else:
            start, end = rng.choice(["end " + duration("-"), "end " + event("<-"), None]), root
        has = {
            n: rng.choice(["(None, 0)", "(1, None)", "(None, 2)", "(1, 3)"])
            for n in rng.sample([*names, *marks], rng.choice([0, 0, 1, 2]))
        }
        windows[name] = {
            "start": start,
            "end": end,
            "start_inclusive": rng.random() < 0.5,
            "end_inclusive": rng.random() < 0.5,
            "has": has,
        }
        bounds += [f"{name}.start", f"{name}.end"]
    windows[rng.choice(list(windows))]["label"] = rng.choice(names)
    windows[rng.choice(list(windows))]["index_timestamp"] = rng.choice(["start", "end"])
    return {
        "predicates": {
            "a": {"code": "A"},
            "b": {"code": {"any": ["B", "C"]}},
            "c": {"code": {"regex": "^C$"}},
            "d_low": {"code": "D", "value_max": 2, "value_max_inclusive": rng.random() < 0.5},
            "either": {"expr": "or(a, d_low)"},
            "both": {"expr": "and(b, either)"},
        },
        "trigger": rng.choice([*names, "_ANY_EVENT", "_RECORD_START"]),
        "windows": windows,
    }


if __name__ == "__main__":
    sys.exit(main())
