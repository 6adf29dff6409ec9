"""The forms of the scan for GPUs: on one where there is one, and Triton's kernels in its interpreter anywhere."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from caretrace.backbones.scan import selective_scan

from .invented import EXTREMES, assert_same, extreme, literal, results, scan_inputs

INTERPRET = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
from tests.backbones.scan.invented import EXTREMES, assert_same, extreme, literal, results, scan_inputs
from caretrace.backbones.scan import ops
from caretrace.backbones.scan.contract import ScanInputs
form = lambda *given: ops.scan(ScanInputs(*given), "triton")
for shape in ((1, 1, 1, 1), (2, 35, 19, 5), (1, 16, 16, 16), (0, 5, 4, 3), (2, 0, 4, 3)):
    given = scan_inputs(*shape)
    assert_same(results(form, given), literal(given))
for name in EXTREMES:
    given = extreme(name)
    along = ("inputs", "delta", "writes", "reads", "gate")
    given = given._replace(**{key: getattr(given, key)[:, :20] for key in along})
    assert_same(results(form, given), literal(given))
print("same")
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_triton_kernels_in_its_interpreter():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", INTERPRET, str(Path(__file__).parents[3])]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert done.stdout == "same\n", done.stderr


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("form", ["mamba_ssm", "triton", "chunked"])
@pytest.mark.parametrize("case", ["random", *EXTREMES])
def test_on_a_gpu(form, case, monkeypatch):
    if form != "chunked" and importlib.util.find_spec(form) is None:
        pytest.skip(f"{form} is not installed")
    given = scan_inputs(3, 100, 70, 16) if case == "random" else extreme(case)
    monkeypatch.setenv("CARETRACE_SCAN", form)
    found = results(lambda *its: selective_scan(*(each.cuda() for each in its)).cpu(), given)
    assert_same(found, literal(given), 1e-4 if form == "mamba_ssm" else 1e-5)
