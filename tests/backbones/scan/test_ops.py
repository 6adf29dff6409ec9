"""The kernels in company: autocast, torch.compile, worker processes, threads, and little memory."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from caretrace.backbones.mamba import Mamba
from caretrace.backbones.scan import selective_scan
from caretrace.backbones.scan.forms import why_not

from .invented import assert_same, literal, results, scan_inputs

pytestmark = pytest.mark.skipif(
    why_not("cpu", "cpu", torch.float32) is not None, reason="the kernels cannot be compiled here"
)


def unpadded(hidden):
    return torch.zeros(hidden.shape[:2], dtype=torch.bool)


def test_autocast_computes_the_scan_in_float32():
    given = scan_inputs(2, 40, 20, 4)
    expected = literal(given)
    with torch.autocast("cpu", torch.bfloat16):
        found = results(selective_scan, given)
    assert_same(found, expected)


def test_a_model_trains_under_autocast():
    torch.manual_seed(0)
    model, hidden = Mamba(d_model=16, n_layers=2, dropout=0.0), torch.randn(2, 30, 16)
    exact = model(hidden, unpadded(hidden))
    with torch.autocast("cpu", torch.bfloat16):
        near = model(hidden, unpadded(hidden))
    near.float().square().sum().backward()
    torch.testing.assert_close(near.float(), exact, rtol=0.05, atol=0.05)
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_back_as_such(dtype):
    given = scan_inputs(2, 20, 20, 4)
    found = selective_scan(*(tensor.to(dtype) for tensor in given))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), selective_scan(*given), rtol=0.05, atol=0.3)


COMPILE = """
import torch
from caretrace.backbones.mamba import Mamba
torch.manual_seed(0)
model = Mamba(d_model=16, n_layers=2, dropout=0.0)
compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
for steps in (20, 33):
    hidden = torch.randn(2, steps, 16)
    mask = torch.zeros(2, steps, dtype=torch.bool)
    expected, found = model(hidden, mask), compiled(hidden, mask)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(out.square().sum(), [*model.parameters()]) for out in (found, expected)]
    torch.testing.assert_close(*gradients)
"""


def run_alone(program: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch_compile_sees_one_graph_and_the_same_numbers():
    run_alone(COMPILE)  # alone, because torch.compile cannot trace the checks of shapes that tests switch on


def test_the_operators_keep_the_rules_of_torch():
    given = [tensor.requires_grad_() for tensor in scan_inputs(2, 20, 5, 3)]
    torch.library.opcheck(torch.ops.caretrace.scan.default, (*given, True, "cpu"), test_utils=OPCHECKS)


# All but the test that derives gradients on tensors without data: there the shape of `kept` is not the issue.
OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")


def test_the_result_does_not_depend_on_the_number_of_threads():
    given = scan_inputs(3, 70, 300, 16)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(selective_scan, given))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(other, found[0], strict=True))


class Scanned(Dataset):
    """Scans where the data are loaded, gradients included."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.cat(
            [each.flatten() for each in results(selective_scan, scan_inputs(1, 40, 40, 8, seed=index))]
        )


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_data_loader(context, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[3])  # a spawned worker imports this file
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # leaves threads behind that a forked child does not have
    try:
        expected = torch.stack([Scanned()[index] for index in range(4)])
        loader = DataLoader(
            Scanned(), batch_size=2, num_workers=2, multiprocessing_context=context, timeout=60
        )
        assert torch.equal(torch.cat(list(loader)), expected)
    finally:
        torch.set_num_threads(before)


def scan_in_child(queue, given):
    queue.put(selective_scan(*given)[0, 0].tolist())


def test_a_plain_fork_does_not_wait_for_threads_it_does_not_have():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        given = scan_inputs(8, 40, 300, 8)
        expected = selective_scan(*given)[0, 0].tolist()
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=scan_in_child, args=(queue, given))
        child.start()
        try:
            assert queue.get(timeout=60) == expected
        finally:
            child.kill()
            child.join()
    finally:
        torch.set_num_threads(before)


MEMORY = """
import torch
from pathlib import Path
from caretrace.backbones.scan import selective_scan
batch, steps, channels, states = 1, 4096, 512, 64
def mib(): return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
def given(steps):
    shapes = [(batch, steps, channels)] * 2 + [(channels, states)] + [(batch, steps, states)] * 2
    shapes += [(channels,), (batch, steps, channels), (channels,)]
    return [(-torch.rand(shape)).requires_grad_() for shape in shapes]
selective_scan(*given(8)).sum().backward()
leaves, start = given(steps), mib()
selective_scan(*leaves).sum().backward()
print(mib() - start, batch * steps * channels * states * 4 / 2**20)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_no_array_of_every_state_at_every_step_exists():
    """That array has 512 MiB here; everything that forward and backward need together has less than 150."""
    used, whole = map(float, run_alone(MEMORY).split())
    assert whole == 512
    assert used < 150
