"""A whole training step of each backbone, and what a token costs at every length.

    caretrace bench train
    caretrace bench train -- --only-ours --lengths 128 512 2048 --figure docs/figures/cost-against-length.svg

A step is forward, backward and AdamW, in float32, of four layers of width 128 (d_state 16, expand 2) on 16
sequences of 256 steps. Peers are torch's own GRU, LSTM and causal Transformer (scaled dot-product attention),
and, when they are installed beside caretrace (`pip install mambapy transformers`), mambapy's Mamba and
Hugging Face's MambaModel on its slow path, which is run once: it takes a minute.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from cases import Case, run, say
from timing import median_ms
from torch import Tensor, nn

from caretrace.backbones import build_backbone
from caretrace.report.svg import Axis, Entry, Plot

LAYERS, WIDTH, STATES, EXPAND, BATCH, STEPS = 4, 128, 16, 2, 16, 256
OURS = ("mamba", "mamba2", "gru", "lstm", "transformer")
AT_LEAST = {"torch GRU": 1, "torch Transformer": 1, "mambapy": 30, "Hugging Face, slow path": 300}
TOKENS = 4096  # of a batch, whatever its length; longer sequences come alone


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--repeats", type=int, default=15, help="steps per figure, of which the median counts")
    made.add_argument("--seconds", type=float, default=8.0, help="time per figure, which may end it sooner")
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--only-ours", action="store_true", help="no peers")
    made.add_argument("--lengths", type=int, nargs="*", default=[128, 512, 2048, 8192, 16384])
    made.add_argument("--figure", type=Path, help="write the cost against length there, as SVG")
    return made


def bench(options: argparse.Namespace) -> list[Case]:
    """A step of every model, then microseconds per token at every length."""
    torch.set_num_threads(options.threads)
    ours = {name: _step_ms(backbone(name), options) for name in OURS}
    theirs = {} if options.only_ours else {name: _step_ms(make(), options) for name, make in peers().items()}
    everyone = {**theirs, **{f"our {name}": value for name, value in ours.items()}}
    cases = []
    for name in ("mamba", "mamba2"):
        others = {other: value for other, value in everyone.items() if other != f"our {name}"}
        ratios = {other: value / ours[name] for other, value in others.items()}
        cases.append(Case(f"training step, {name}", "ms", ours[name], others, ratios))
    for name, ratio in cases[0].speedup.items():
        wanted = AT_LEAST.get(name)
        verdict = "" if wanted is None else f", {'as' if ratio >= wanted else 'NOT as'} aimed at: {wanted}"
        say(f"mamba {ours['mamba']:.0f} ms, {name} {everyone[name]:,.0f} ms: {ratio:.2f} times{verdict}")
    return [*cases, *_lengths(options)]


def backbone(name: str, layers: int = LAYERS) -> Callable[[Tensor], Tensor]:
    """Ours, without padding."""
    settings = {"d_state": STATES, "expand": EXPAND} if name.startswith("mamba") else {}
    model = build_backbone(name, d_model=WIDTH, n_layers=layers, dropout=0.0, **settings)
    return _Unpadded(model)


class _Unpadded(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, hidden: Tensor) -> Tensor:
        return self.model(hidden, torch.zeros(hidden.shape[:2], dtype=torch.bool))


def peers() -> dict[str, Callable[[], nn.Module]]:
    """Models of the same width and depth, by name."""
    found: dict[str, Callable[[], nn.Module]] = {
        "torch GRU": lambda: _First(nn.GRU(WIDTH, WIDTH, LAYERS, batch_first=True)),
        "torch LSTM": lambda: _First(nn.LSTM(WIDTH, WIDTH, LAYERS, batch_first=True)),
        "torch Transformer": lambda: nn.Sequential(*(_CausalLayer(4) for _ in range(LAYERS))),
        "torch Transformer, narrow": lambda: nn.Sequential(*(_CausalLayer(2) for _ in range(LAYERS))),
    }
    for name, make in (("mambapy", _mambapy), ("Hugging Face, slow path", _hugging_face)):
        try:
            make()
            found[name] = make
        except ImportError as error:
            say(f"{name} is left out: {error}")
    return found


class _First(nn.Module):
    """The first of what a model returns."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, hidden: Tensor) -> Tensor:
        return self.model(hidden)[0]


class _CausalLayer(nn.Module):
    """A causal layer with torch's fused attention and 4 heads.

    Args:
        wider: Of the feed-forward part: 4 as Vaswani et al. 2017 have it; 2 has about as many weights as Mamba.
    """

    def __init__(self, wider: int) -> None:
        super().__init__()
        self.norm, self.norm_forward = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.inside, self.outside = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        inside, outside = nn.Linear(WIDTH, wider * WIDTH), nn.Linear(wider * WIDTH, WIDTH)
        self.forwards = nn.Sequential(inside, nn.GELU(), outside)

    def forward(self, hidden: Tensor) -> Tensor:
        query, key, value = self.inside(self.norm(hidden)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.outside(mixed.transpose(1, 2).flatten(2))
        return hidden + self.forwards(self.norm_forward(hidden))


def _mambapy() -> nn.Module:
    from mambapy.mamba import Mamba, MambaConfig

    return Mamba(MambaConfig(d_model=WIDTH, n_layers=LAYERS, d_state=STATES, expand_factor=EXPAND))


def _hugging_face() -> nn.Module:
    from transformers import MambaConfig, MambaModel

    config = MambaConfig(
        vocab_size=8,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        state_size=STATES,
        expand=EXPAND,
        use_cache=False,
    )

    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = MambaModel(config)

        def forward(self, hidden: Tensor) -> Tensor:
            return self.model(inputs_embeds=hidden).last_hidden_state

    return Embedded()


def _step_ms(model: nn.Module, options: argparse.Namespace, batch: int = BATCH, steps: int = STEPS) -> float:
    """Milliseconds of forward, backward and AdamW."""
    torch.manual_seed(0)
    hidden = torch.randn(batch, steps, WIDTH)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        model(hidden).square().mean().backward()
        optimizer.step()

    return median_ms(step, repeats=options.repeats, budget_seconds=options.seconds)


def _lengths(options: argparse.Namespace) -> list[Case]:
    """Microseconds per token and layer stack of two, for each of our backbones and each length."""
    cost: dict[str, dict[int, float]] = {name: {} for name in OURS}
    for steps in options.lengths:
        batch = max(1, TOKENS // steps)
        for name in OURS:
            found = _step_ms(backbone(name, layers=2), options, batch, steps)
            cost[name][steps] = 1e3 * found / (batch * steps)
        say(
            f"{steps} steps: "
            + ", ".join(f"{name} {cost[name][steps]:.1f}" for name in OURS)
            + " µs per token"
        )
    if options.figure is not None and options.lengths:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        options.figure.write_text(figure(cost), encoding="utf-8")
    return [
        Case(
            f"{steps} steps, 2 layers of mamba", "µs/token", cost["mamba"][steps],
            {f"our {name}": cost[name][steps] for name in OURS[1:]},
            {f"our {name}": cost[name][steps] / cost["mamba"][steps] for name in OURS[1:]},
        )
        for steps in options.lengths
    ]  # fmt: skip


COLOURS = ("#0b6e99", "#8a5a00", "#5a3e85", "#2d7d46", "#b3261e")


def figure(cost: dict[str, dict[int, float]]) -> str:
    """Microseconds per token against length, both on logarithmic axes; flat lines are linear in length."""
    lengths = sorted(next(iter(cost.values())))
    values = [value for by_length in cost.values() for value in by_length.values()]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    x = Axis("steps in a sequence", math.log2(lengths[0]), math.log2(lengths[-1]),
             ticks=tuple(math.log2(n) for n in lengths), names=tuple(f"{n:,}" for n in lengths))  # fmt: skip
    y = Axis("µs per token, forward + backward + AdamW", low, high,
             ticks=tuple(range(low, high + 1)), names=tuple(f"{10.0**p:g}" for p in range(low, high + 1)))  # fmt: skip
    ends = ", ".join(f"{name} {its[lengths[0]]:.0f} to {its[lengths[-1]]:.0f}" for name, its in cost.items())
    plot = Plot(
        "Cost of a token against length",
        f"From {lengths[0]} to {lengths[-1]} steps: {ends}.",
        x,
        y,
        width=640,
    )
    for number, by_length in enumerate(cost.values()):
        xs, ys = [math.log2(n) for n in lengths], [math.log10(by_length[n]) for n in lengths]
        plot.line(xs, ys, f"s{number}")
    plot.key([Entry(name, number) for number, name in enumerate(cost)])
    # Alone in a file the drawing has no page whose style it could take.
    rules = "".join(f".s{number}{{stroke:{colour}}}" for number, colour in enumerate(COLOURS))
    style = (
        "<style>svg{background:#fff}text{font:12px sans-serif;fill:#222}.grid{stroke:#ddd}"
        f".line{{fill:none;stroke-width:2}}{rules}</style>"
    )
    drawn = str(plot.svg())
    start = drawn.index("<title")
    return (
        drawn[:start].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
        + style
        + drawn[start:]
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda options: options.threads))
