"""What every row of `backbones.BACKBONES` must do, and proof that a backbone that does not is caught."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from caretrace.backbones import BACKBONES, build_backbone
from caretrace.errors import ConfigError

from . import backbone_checks as checks
from .backbone_checks import CHECKS, D_MODEL, ragged


class AtOddTimes(nn.Module):
    """A transformer with positions in hours, whose steps come ever more slowly."""

    causal, d_model = True, D_MODEL

    def __init__(self, *, positions: str, **settings: Any) -> None:
        super().__init__()
        self.inner = build_backbone("transformer", positions=positions, **settings)

    def forward(self, hidden: Tensor, padding_mask: Tensor) -> Tensor:
        number = torch.arange(hidden.shape[1], device=hidden.device, dtype=hidden.dtype)
        return self.inner(hidden, padding_mask, (number**1.5).expand(len(hidden), -1))

    def step(self, hidden: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        number = 0 if state is None else state[0].keys.shape[2]
        return self.inner.step(hidden, state, hidden.new_full((len(hidden),), number**1.5))


# Settings of rows that make another machine of them, held to the same.
VARIANTS: dict[str, Callable[..., nn.Module]] = {
    "conv-lstm, looking ahead": functools.partial(build_backbone, "conv-lstm", causal=False),
    "conv-lstm, one wide convolution": functools.partial(
        build_backbone, "conv-lstm", channels=(8,), kernel_size=6
    ),
    "transformer, wide": functools.partial(build_backbone, "transformer", n_heads=8, d_feed_forward=48),
    "transformer, in hours": functools.partial(AtOddTimes, positions="hours"),
    "transformer, in hours learned": functools.partial(AtOddTimes, positions="learned"),
}
NAMES = [*sorted(BACKBONES), *VARIANTS]
ONLY_CAUSAL = {"the_future_cannot_change_the_past", "step_gives_what_forward_gives"}

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
every = pytest.mark.parametrize("name", NAMES)


def build(name: str, seed: int = 0, n_layers: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    make = VARIANTS.get(name, functools.partial(build_backbone, name))
    return make(d_model=D_MODEL, n_layers=n_layers, dropout=0.3).eval()


@every
@pytest.mark.parametrize("promise", CHECKS)
def test_it_keeps_its_promises(name, promise):
    make = functools.partial(build, name)
    if promise in ONLY_CAUSAL and not make().causal:
        with pytest.raises(AssertionError):  # it declares that it looks ahead, and that is so
            CHECKS["the_future_cannot_change_the_past"](make)
        with pytest.raises(ConfigError, match="cannot go step by step"):
            make().step(ragged()[0][:, 0])
    else:
        CHECKS[promise](make)


@every
def test_saved_and_loaded_it_is_the_same(name, tmp_path: Path):
    checks.saved_and_loaded_it_is_the_same(functools.partial(build, name), tmp_path)


@every
def test_axes_are_checked_in_tests(name):
    backbone, (hidden, padding_mask) = build(name), ragged()
    with pytest.raises(TypeCheckError):
        backbone(hidden, padding_mask[:, 1:])
    with pytest.raises(TypeCheckError):
        backbone(hidden.double().long(), padding_mask)
    with pytest.raises(TypeCheckError):
        backbone.step(hidden)


# In a process of its own: the compiler cannot trace the checks of axes that the tests switch on.
COMPILE = """
import functools, sys
from tests.contracts.backbone_checks import compiled_it_is_the_same
from tests.contracts.test_backbones import build

for name in sys.argv[3:]:
    print(name)
    compiled_it_is_the_same(functools.partial(build, name), *sys.argv[1:3])
print("all")
"""
# Inductor on a CPU compiles C++ for minutes; tracing is where a backbone goes wrong, and needs seconds.
COMPILERS = [
    pytest.param("aot_eager", "cpu", marks=pytest.mark.slow),
    pytest.param("inductor", "cuda", marks=[pytest.mark.gpu, needs_gpu]),
]


@pytest.mark.parametrize(("backend", "device"), COMPILERS)
def test_it_can_be_compiled(backend, device):
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, backend, device, *NAMES],
        check=False, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]}: {done.stderr[-3000:]}"
    assert done.stdout.splitlines() == [*NAMES, "all"]


@pytest.mark.gpu
@needs_gpu
@every
def test_a_gpu_gives_the_same(name):
    checks.a_gpu_gives_the_same(functools.partial(build, name), "cuda")


class Outputs(Dataset[Tensor]):
    """What each backbone gives, forward and backward, computed where it is asked for."""

    def __len__(self) -> int:
        return len(NAMES)

    def __getitem__(self, index: int) -> Tensor:
        backbone, (hidden, padding_mask) = build(NAMES[index]), ragged()
        grads = checks.gradients(backbone, hidden, padding_mask)
        return torch.stack([backbone(hidden, padding_mask).detach(), grads["hidden"]])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_it_runs_in_the_worker_of_a_loader(start, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))  # where a spawned worker finds this file
    here = Outputs()
    loader = DataLoader(here, batch_size=None, num_workers=1, multiprocessing_context=start, timeout=100)
    for name, found, number in zip(NAMES, loader, range(len(NAMES)), strict=True):
        torch.testing.assert_close(found, here[number], rtol=1e-5, atol=1e-6, msg=name)


class Faulty(nn.Module):
    """An honest backbone, a running mean and a linear layer, with room for one fault."""

    causal = True
    d_model = D_MODEL

    def __init__(self, n_layers: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(D_MODEL, D_MODEL) for _ in range(n_layers))
        self.dropout = nn.Dropout(0.3)

    def forward(self, hidden: Tensor, padding_mask: Tensor) -> Tensor:
        return self.read(self.mean(hidden, padding_mask)).masked_fill(padding_mask[..., None], 0.0)

    def mean(self, hidden: Tensor, padding_mask: Tensor) -> Tensor:
        return hidden.cumsum(1) / torch.arange(1, hidden.shape[1] + 1)[:, None]

    def read(self, mean: Tensor) -> Tensor:
        for layer in self.layers:
            mean = self.dropout(torch.tanh(layer(mean)))
        return mean

    def step(self, hidden: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        total, count = (hidden, 1) if state is None else (state[0] + hidden, state[1] + 1)
        return self.read(total / count), (total, count)


class LeaksTheFuture(Faulty):
    def mean(self, hidden, padding_mask):
        ahead = torch.cat([hidden[:, 1:], hidden[:, -1:]], 1)  # an off-by-one
        return super().mean(hidden, padding_mask) + 1e-4 * ahead.masked_fill(padding_mask[..., None], 0.0)


class LeaksThroughTheMean(Faulty):
    def mean(self, hidden, padding_mask):
        real = hidden.masked_fill(padding_mask[..., None], 0.0)
        return super().mean(hidden, padding_mask) - 1e-3 * real.mean(1, keepdim=True)


class LetsPaddingIn(Faulty):
    def mean(self, hidden, padding_mask):
        return super().mean(hidden, padding_mask) + 1e-3 * hidden.std(1, keepdim=True)


class CountsPadding(Faulty):
    """What stands in the padding does not matter, but how much of it there is."""

    def mean(self, hidden, padding_mask):
        return super().mean(hidden, padding_mask) / (1 + 1e-3 * hidden.shape[1])


class LeavesPaddingFull(Faulty):
    def forward(self, hidden, padding_mask):
        return self.read(self.mean(hidden, padding_mask))


class SeesItsNeighbours(Faulty):
    """Statistics over the batch, as batch normalisation takes them."""

    def mean(self, hidden, padding_mask):
        real = hidden.masked_fill(padding_mask[..., None], 0.0)
        return super().mean(hidden, padding_mask) - 1e-3 * real.cumsum(1).mean(0)


class StepDisagrees(Faulty):
    def step(self, hidden, state=None):
        out, (total, count) = super().step(hidden, state)
        return out, (total, count + (count == 4))  # forgets to count right in the fifth step


class StepForgets(Faulty):
    def step(self, hidden, state=None):
        return super().step(hidden)


class LivesInTheMoment(Faulty):
    def mean(self, hidden, padding_mask):
        return hidden

    def step(self, hidden, state=None):
        return self.read(hidden), None


class IdleParameter(Faulty):
    def __init__(self, n_layers=2):
        super().__init__(n_layers)
        self.idle = nn.Parameter(torch.zeros(3))


class StuckParameter(Faulty):
    def __init__(self, n_layers=2):
        super().__init__(n_layers)
        self.stuck = nn.Parameter(torch.zeros(3))

    def read(self, mean):
        return super().read(mean) + 0.0 * self.stuck.sum()


class WrongGradient(Faulty):
    def mean(self, hidden, padding_mask):
        mean = super().mean(hidden, padding_mask)
        return mean + 0.01 * (mean.detach() - mean)  # scales the gradient, not the value


class HiddenState(Faulty):
    """A tensor that decides, and is not saved."""

    def __init__(self, n_layers=2):
        super().__init__(n_layers)
        self.secret = torch.randn(D_MODEL)

    def read(self, mean):
        return super().read(mean) + self.secret


class RestlessInEvaluation(Faulty):
    def read(self, mean):
        return nn.functional.dropout(super().read(mean), 0.3, training=True)


class NoDropout(Faulty):
    def __init__(self, n_layers=2):
        super().__init__(n_layers)
        self.dropout = nn.Dropout(0.0)


class OneLayerWhateverIsAsked(Faulty):
    def __init__(self, n_layers=2):
        super().__init__(1)


class NeedsAStep(Faulty):
    def mean(self, hidden, padding_mask):
        return super().mean(hidden, padding_mask) + 0 * hidden[:, :1].amax(1, keepdim=True)


class NotANumberWithoutSteps(Faulty):
    def mean(self, hidden, padding_mask):
        length = (~padding_mask).sum(1)[:, None, None].double()
        return super().mean(hidden, padding_mask) * (length / length).to(hidden.dtype)


class PositionsInHalfPrecision(Faulty):
    """What autocast does to a table of angles that follows its input."""

    def read(self, mean):
        for layer in self.layers:
            mean = self.dropout(torch.tanh(layer(mean)))
            far = torch.full((), 2048.0, dtype=mean.dtype)
            mean = mean + 0.5 * torch.sin(far + 7) - 0.5 * torch.sin(far)
        return mean


class WrongWidth(Faulty):
    def read(self, mean):
        return super().read(mean)[..., :-1]


FAULTS = [
    (LeaksTheFuture, "the_future_cannot_change_the_past"),
    (LeaksThroughTheMean, "the_future_cannot_change_the_past"),
    (LetsPaddingIn, "what_stands_in_padding_changes_nothing"),
    (CountsPadding, "how_much_is_padded_changes_nothing"),
    (LeavesPaddingFull, "padding_comes_out_as_zero"),
    (SeesItsNeighbours, "company_changes_nothing"),
    (StepDisagrees, "step_gives_what_forward_gives"),
    (StepForgets, "step_gives_what_forward_gives"),
    (LivesInTheMoment, "the_past_reaches_the_future"),
    (IdleParameter, "every_parameter_learns"),
    (StuckParameter, "every_parameter_learns"),
    (WrongGradient, "gradients_are_those_of_the_function"),
    (RestlessInEvaluation, "evaluation_is_deterministic"),
    (NoDropout, "evaluation_is_deterministic"),
    (OneLayerWhateverIsAsked, "more_layers_are_more_parameters"),
    (NeedsAStep, "the_shortest_sequences_are_survived"),
    (NotANumberWithoutSteps, "the_shortest_sequences_are_survived"),
    (PositionsInHalfPrecision, "autocast_is_survived"),
    (WrongWidth, "it_keeps_its_shape"),
]


def make_faulty(kind: type[Faulty], seed: int = 0, n_layers: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    return kind(n_layers).eval()


def test_the_faulty_ones_are_otherwise_sound(tmp_path: Path):
    """Without a fault every check passes: what is caught below is the fault."""
    make = functools.partial(make_faulty, Faulty)
    for promise in CHECKS.values():
        promise(make)
    checks.saved_and_loaded_it_is_the_same(make, tmp_path)


@pytest.mark.parametrize(("kind", "promise"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_faulty_backbone_is_caught(kind, promise):
    with pytest.raises((AssertionError, IndexError, RuntimeError)):
        CHECKS[promise](functools.partial(make_faulty, kind))


def test_weights_that_are_not_saved_are_caught(tmp_path: Path):
    with pytest.raises(AssertionError):
        checks.saved_and_loaded_it_is_the_same(functools.partial(make_faulty, HiddenState), tmp_path)


def test_every_check_has_caught_something():
    assert {promise for _, promise in FAULTS} == set(CHECKS)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"'grru': did you mean 'gru'\?.*conv-lstm, gru, lstm, .*transformer"
    ):
        build_backbone("grru", d_model=8, n_layers=1, dropout=0.0)


def test_an_unknown_setting_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown setting of transformer 'n_head': did you mean 'n_heads'"):
        build_backbone("transformer", d_model=8, n_layers=1, dropout=0.0, n_head=2)
