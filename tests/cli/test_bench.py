"""`caretrace bench`: finds the benchmarks of a checkout, runs one, reports in the agreed shape."""

import subprocess
import sys
from pathlib import Path

import pytest

from caretrace.cli import bench

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

SCRIPT = '''"""Count to a number.

    caretrace bench count
"""
import argparse, sys
from cases import Case, run, say

def bench(options):
    say("counting")
    print("printed by the way")
    return [Case(f"to {options.to}", "numbers/s", 2.5e6, {"abacus": 5.0}, {"abacus": 5e5}, 12.25)]

parser = argparse.ArgumentParser()
parser.add_argument("--to", type=int, default=10)
parser.add_argument("--peers")
sys.exit(run(bench, parser, lambda options: 2))
'''


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "benchmarks"
    found.mkdir()
    (found / "cases.py").write_text((BENCHMARKS / "cases.py").read_text())
    (found / "count.py").write_text(SCRIPT)
    (found / "tool.py").write_text('"""No benchmark."""\n')
    return found


def run(folder, *arguments):
    code = "from caretrace.cli import main; main()"
    command = [sys.executable, "-c", code, "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent)


def test_without_a_name_the_benchmarks_are_listed(caretrace, folder):
    assert caretrace("bench", "--folder", folder, "--json").json == {
        "benchmarks": [{"name": "count", "summary": "Count to a number."}]
    }
    assert "Count to a number." in caretrace("bench", "--folder", folder).out


def test_the_benchmarks_of_this_checkout_are_found(caretrace):
    assert "ingest" in [each["name"] for each in caretrace("bench", "--json").json["benchmarks"]]


def test_the_json_has_the_shape_others_read(folder):
    import json

    done = run(folder, "count", "--folder", folder, "--peers", "p", "--json", "--", "--to", "3")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("machine").endswith("Linux") or sys.platform != "linux"
    assert found == {
        "bench": "count",
        "threads": 2,
        "cases": [
            {
                "case": "to 3",
                "unit": "numbers/s",
                "ours": 2.5e6,
                "peers": {"abacus": 5.0},
                "speedup": {"abacus": 5e5},
                "peak_mib": 12.25,
            }
        ],
    }
    assert "counting" in done.stderr
    assert "printed by the way" in done.stderr  # standard output is for the result alone


def test_a_person_sees_a_table(folder):
    done = run(folder, "count", "--folder", folder, "--quiet")
    assert "2,500,000" in done.stdout
    assert "abacus 5" in done.stdout
    assert done.stderr == ""


def test_a_benchmark_that_fails_fails_the_verb(folder):
    (folder / "count.py").write_text(SCRIPT.replace('say("counting")', 'sys.exit("no abacus")'))
    for quiet in ([], ["--quiet"]):
        done = run(folder, "count", "--folder", folder, *quiet, "--json")
        assert (done.returncode, done.stdout) == (1, "")
        assert "no abacus" in done.stderr


def test_an_unknown_name_and_a_folder_without_benchmarks(caretrace, folder, tmp_path):
    answer = caretrace("bench", "cuont", "--folder", folder)
    assert answer.code == 1
    assert "unknown benchmark 'cuont': did you mean 'count'" in answer.err
    answer = caretrace("bench", "--folder", tmp_path)
    assert answer.code == 1
    assert "holds no benchmark; name the folder `benchmarks` of a checkout" in answer.err


def test_an_installed_package_says_where_benchmarks_are(caretrace, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "lib" / "a" / "b" / "bench.py"))
    monkeypatch.chdir(tmp_path)
    answer = caretrace("bench", "ingest")
    assert answer.code == 1
    assert "not part of the installed package; go to a checkout" in answer.err
