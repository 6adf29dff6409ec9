"""Every example runs as its page says."""

import subprocess
import sys
from pathlib import Path

import pytest

# A comparator that each example prints.
BESIDE = {"mortality": "boosted_trees", "safety": "boosted_trees", "synth": "marginals", "vitals": "news2"}
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(script), str(tmp_path / "out"), "400"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert BESIDE[script.stem] in done.stdout
    assert (tmp_path / "out" / "run" / "report.html").is_file()


def test_there_is_an_example_per_application() -> None:
    from caretrace.apps import APPS

    assert {path.stem for path in EXAMPLES} == set(APPS)
