"""The selective scan on this processor: ours beside a plain loop, mambapy and Hugging Face, and its memory.

    caretrace bench scan
    caretrace bench scan -- --sizes 8,256,512,16 16,128,256,16 --slow

Peers are used when they are installed beside caretrace: `pip install mambapy transformers numba`. Every tool
gets the same numbers in float32 and the same threads, and does the same work: softplus of delta, scan, skip
and gate. Hugging Face's slow path takes up to a quarter of an hour for one backward pass of the larger sizes:
there it runs forward alone, unless `--slow` is given.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from cases import Case, run, say
from timing import median_ms, peak_mib
from torch import Tensor

from caretrace.backbones.scan import ops, selective_scan
from caretrace.backbones.scan.chunked import chunked_scan
from caretrace.backbones.scan.contract import ScanInputs
from caretrace.backbones.scan.forms import choose, why_not
from caretrace.backbones.scan.literal import literal_scan

SIZES = ("8,256,512,16", "2,2048,512,16", "4,512,1024,64", "16,128,256,16")
# The most steps of which the slow path's backward pass is waited for: it grows with their square.
SLOW_STEPS = 256
AT_LEAST = {  # what we aim at: (size, pass, peer) → times faster
    ("8,256,512,16", "forward + backward", "mambapy"): 60,
    ("8,256,512,16", "forward + backward", "Hugging Face, slow path"): 2000,
    ("2,2048,512,16", "forward + backward", "mambapy"): 300,
    **{(size, "forward", peer): 60 for size in SIZES for peer in ("mambapy", "Hugging Face, slow path")},
}
Scan = Callable[..., Tensor]


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--sizes", nargs="*", default=SIZES, help="batch,time,d_inner,d_state")
    made.add_argument("--repeats", type=int, default=15, help="calls per figure, of which the median counts")
    made.add_argument("--seconds", type=float, default=6.0, help="time per figure, which may end it sooner")
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--slow", action="store_true", help="Hugging Face's backward pass at every size")
    made.add_argument("--only-ours", action="store_true", help="no peers")
    return made


def bench(options: argparse.Namespace) -> list[Case]:
    """Forward, forward + backward and memory of every size."""
    torch.set_num_threads(options.threads)
    say(f"our scan takes the form {choose('cpu', torch.float32)!r}")
    peers = {} if options.only_ours else found_peers()
    return [case for size in options.sizes for case in _cases(size, peers, options)]


def found_peers() -> dict[str, Scan]:
    """Other ways to the same numbers that can run here, by name."""
    peers: dict[str, Scan] = {"plain loop": literal_scan, "chunks in torch": chunked_scan}
    if choose("cpu", torch.float32) != "numba" and why_not("numba", "cpu", torch.float32) is None:
        peers["our Numba form"] = lambda *given: ops.scan(ScanInputs(*given), "numba")
    for name, make in (("mambapy", _mambapy), ("Hugging Face, slow path", _hugging_face)):
        try:
            peers[name] = make()
        except ImportError as error:
            say(f"{name} is left out: {error}")
    return peers


def _mambapy() -> Scan:
    from mambapy.mamba import MambaBlock

    def scan(*given: Tensor) -> Tensor:
        its = ScanInputs(*given)
        step = F.softplus(its.delta + its.bias)
        # A method that does not look at its object.
        read = MambaBlock.selective_scan(None, its.inputs, step, its.decay, its.writes, its.reads, its.skip)
        return read * F.silu(its.gate)

    return scan


def _hugging_face() -> Scan:
    from transformers.models.mamba.modeling_mamba import mamba_selective_scan

    def scan(*given: Tensor) -> Tensor:
        its = ScanInputs(*given)
        inputs, delta, writes, reads, gate = (
            each.transpose(1, 2) for each in (its.inputs, its.delta, its.writes, its.reads, its.gate)
        )
        found = mamba_selective_scan(
            inputs, delta, its.decay, writes, reads, D=its.skip, z=gate, delta_bias=its.bias, delta_softplus=True
        )  # fmt: skip
        return found.transpose(1, 2)

    return scan


def scan_inputs(size: str) -> list[Tensor]:
    """Numbers of the size that a layer has when training starts."""
    batch, steps, channels, states = map(int, size.split(","))
    torch.manual_seed(0)
    rates = torch.arange(1.0, states + 1).repeat(channels, 1)
    shapes = {"row": (batch, steps, channels), "state": (batch, steps, states)}
    given = ScanInputs(
        torch.randn(shapes["row"]), torch.randn(shapes["row"]) - 4, -rates, torch.randn(shapes["state"]),
        torch.randn(shapes["state"]), torch.ones(channels), torch.randn(shapes["row"]), torch.zeros(channels),
    )  # fmt: skip
    return [tensor.requires_grad_() for tensor in given]


def _cases(size: str, peers: dict[str, Scan], options: argparse.Namespace) -> list[Case]:
    given, steps = scan_inputs(size), int(size.split(",")[1])
    expected = selective_scan(*given)
    weight = torch.randn_like(expected)
    cases = []
    for name, work in (("forward", _forward), ("forward + backward", functools.partial(_both, weight))):
        timed = functools.partial(median_ms, repeats=options.repeats, budget_seconds=options.seconds)
        ours = timed(lambda work=work: work(selective_scan, given))
        theirs = {}
        for peer, scan in peers.items():
            if "Hugging" in peer and work is not _forward and steps > SLOW_STEPS and not options.slow:
                say(f"{size}: the backward pass of {peer} is left out; --slow waits for it")
                continue
            if work is _forward:
                torch.testing.assert_close(scan(*given), expected, rtol=1e-3, atol=1e-3)
            theirs[peer] = timed(lambda work=work, scan=scan: work(scan, given))
        ratios = {peer: value / ours for peer, value in theirs.items()}
        cases.append(Case(f"{size}: {name}", "ms", ours, theirs, ratios))
        _tell(size, name, ours, ratios)
    return [*cases, _memory(size)]


def _forward(scan: Scan, given: list[Tensor]) -> None:
    with torch.no_grad():
        scan(*given)


def _both(weight: Tensor, scan: Scan, given: list[Tensor]) -> None:
    torch.autograd.grad(scan(*given), given, weight)


def _tell(size: str, name: str, ours: float, ratios: dict[str, float]) -> None:
    said = []
    for peer, ratio in ratios.items():
        wanted = AT_LEAST.get((size, name, peer))
        verdict = "" if wanted is None else f" ({'as' if ratio >= wanted else 'NOT as'} aimed at: {wanted})"
        said.append(f"{peer} {ratio:,.1f}{verdict}")
    say(f"{size}, {name}: {ours:.2f} ms; times faster than {', '.join(said) or 'no one'}")


def _memory(size: str) -> Case:
    """Memory that forward + backward add, in a process of their own, beside one array of every state."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        added = pool.apply(_added_mib, (size,))
    batch, steps, channels, states = map(int, size.split(","))
    whole = batch * steps * channels * states * 4 / 2**20
    say(
        f"{size}: forward + backward add {added:.0f} MiB; one array of every state at every step has {whole:.0f}"
    )
    return Case(f"{size}: memory added", "MiB", added, {"one array of every state": whole}, peak_mib=added)


def _added_mib(size: str) -> float:
    selective_scan(*scan_inputs("1,8,16,16")).sum().backward()
    given = scan_inputs(size)
    before = peak_mib()
    selective_scan(*given).sum().backward()
    return peak_mib() - before


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda options: options.threads))
