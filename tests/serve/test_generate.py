"""Synthetic subjects on request: a job with progress, and a file."""

import io
import threading
import time
import zipfile

import polars as pl
import pytest

from caretrace.application.verbs import train
from caretrace.apps import load_application
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.serve.jobs import MOST_KEPT, MOST_WAITING, FullError, Jobs
from caretrace.serve.settings import Limits

from ..contracts.own import write_histories


@pytest.fixture(scope="module")
def synth_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synth")
    application = load_application("synth")
    dataset = Dataset(write_histories(folder / "dataset"))
    train(application, dataset, load(application.config_class, None, ("model=n-gram",)), folder / "synth")
    return folder / "synth"


def ended(client, number):
    for _ in range(600):
        found = client.get(f"/jobs/{number}").json()
        if found["state"] in ("done", "failed"):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def test_subjects_are_drawn_in_the_background(serving, synth_run):
    service = serving((synth_run,))
    client = service.client
    asked = client.post("/generate", json={"n": 50, "sex": "F", "format": "meds", "seed": 3})
    assert asked.status_code == 202
    found = ended(client, asked.json()["job"])
    assert (found["state"], found["progress"]) == ("done", 1.0)
    assert str(service.state) not in str(found)
    answer = client.get("/" + found["url"])
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
        names = file.namelist()
        (data,) = [name for name in names if name.startswith("data/") and name.endswith(".parquet")][:1]
        rows = pl.read_parquet(io.BytesIO(file.read(data)))
    assert "request.json" in names
    assert "GENDER//F" in rows["code"].to_list()
    assert "GENDER//M" not in rows["code"].to_list()
    assert not [path for path in (service.state / "jobs").iterdir() if path.is_dir()]
    assert service.audit()[-1]["what"] == "generate 50 synthetic subjects"
    cohort = client.get("/cohort").json()
    assert cohort["jobs"][0]["id"] == found["id"]
    summary = cohort["summary"]
    assert sum(each["F"] + each["M"] for each in summary["ages"]) == summary["subjects"]
    assert summary["codes"][0]["share"] >= summary["codes"][-1]["share"] > 0
    assert summary["trajectories"][0].startswith("A ")


@pytest.mark.parametrize(
    ("wish", "where"),
    [({"n": 0}, "n"), ({"n": 5, "sex": "X"}, "sex"), ({"n": 5, "age": 200}, "age"),
     ({"n": 5, "format": "exe"}, "format"), ({"n": 5, "out": "/etc"}, "out"), ({"n": 5, "seed": -1}, "seed"),
     ({"n": 10**9}, "n")],
)  # fmt: skip
def test_an_odd_wish_is_422(serving, synth_run, wish, where):
    answer = serving((synth_run,)).client.post("/generate", json=wish)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][-1] == where


def test_too_many_subjects_are_refused(serving, synth_run):
    answer = serving((synth_run,), limits=Limits(generated=10)).client.post("/generate", json={"n": 11})
    assert answer.status_code == 422
    assert "at most 10" in answer.json()["detail"]


def test_without_a_generator_it_is_said(serving):
    client = serving().client
    assert client.post("/generate", json={"n": 5}).status_code == 404
    assert client.get("/cohort").json() == {"jobs": [], "summary": None}
    assert client.get("/jobs/0123456789abcdef").status_code == 404
    assert client.get("/board").status_code == 404


def test_jobs_end_one_after_the_other_fail_alone_and_are_forgotten(tmp_path):
    jobs, began = Jobs(tmp_path), []

    def work(folder, progress):
        began.append(folder)
        folder.mkdir()
        (folder / "x").write_text("x")
        progress("x", 1, 2)
        return {"ok": True}

    def broken(_folder, _progress):
        raise RuntimeError("subject 4711")

    def wait(job):
        while job.state in ("waiting", "running"):
            time.sleep(0.01)
        return job

    failed = wait(jobs.begin("broken", "a", {}, broken))
    assert failed.state == "failed"
    assert "4711" not in str(failed.describe())
    done = [wait(jobs.begin(f"job {n}", "a", {"n": n}, work)) for n in range(MOST_KEPT + 2)]
    assert {job.state for job in done} == {"done"}
    assert len(jobs.all()) <= MOST_KEPT + 1
    assert jobs.find(done[0].id) is None
    assert not jobs.file(done[0]).exists()
    assert jobs.file(done[-1]).exists()
    jobs.close()


def test_only_so_many_jobs_may_wait(tmp_path):

    jobs, leave = Jobs(tmp_path), threading.Event()

    def slow(folder, _progress):
        leave.wait(20)
        folder.mkdir()
        return {}

    try:
        first = jobs.begin("slow", "a", {}, slow)
        while first.state == "waiting":
            time.sleep(0.01)
        for _ in range(MOST_WAITING):
            jobs.begin("slow", "a", {}, slow)
        with pytest.raises(FullError):
            jobs.begin("slow", "a", {}, slow)
    finally:
        leave.set()
        jobs.close()
