"""Which form of the scan runs where, and why another one does not."""

import functools
import logging
import os

import torch

from caretrace.backbones.scan.build import UnavailableError
from caretrace.backbones.scan.contract import ScanInputs
from caretrace.backbones.scan.literal import literal_scan
from caretrace.backbones.scan.ops import load_engine
from caretrace.errors import ConfigError, unknown_name

SETTING = "CARETRACE_SCAN"
# The fastest first; the last two are plain torch and run everywhere.
ORDER = {
    "cpu": ("cpu", "numba", "chunked", "literal"),
    "cuda": ("mamba_ssm", "triton", "chunked", "literal"),
}
_ANYWHERE = ("chunked", "literal")
_logger = logging.getLogger(__name__)


# torch.compile asks once, while it traces.
@torch.compiler.assume_constant_result
def choose(device: str, dtype: torch.dtype) -> str:
    """The form of the scan for tensors of this kind.

    Args:
        device: Type of the device, such as "cpu".
        dtype: float32 or float64.

    Raises:
        ConfigError: The environment variable CARETRACE_SCAN names a form that does not exist or cannot run.
    """
    return _choose(device, dtype, os.environ.get(SETTING, ""))


@functools.cache
def _choose(device: str, dtype: torch.dtype, forced: str) -> str:
    order = ORDER.get(device, _ANYWHERE)
    if forced:
        names = {name for each in ORDER.values() for name in each}
        if forced not in names:
            raise ConfigError(f"{SETTING}: {unknown_name('form of the scan', forced, names)}")
        reason = why_not(forced, device, dtype) if forced in order else f"it does not run on {device}"
        if reason:
            raise ConfigError(f"{SETTING}={forced} cannot be used: {reason}; unset it, or name another")
        return forced
    for name in order:
        reason = why_not(name, device, dtype)
        if reason is None:
            return name
        _logger.warning(
            "selective scan on %s: not taking %r, the next best is slower: %s", device, name, reason
        )
    return "literal"


def why_not(name: str, device: str, dtype: torch.dtype) -> str | None:
    """Why a form cannot be used here; None where it can. It is tried once on a few numbers."""
    if name in _ANYWHERE:
        return None
    if name == "mamba_ssm":
        return _why_not_mamba_ssm(dtype)
    if name in {"numba", "triton"} and dtype == torch.float64:
        return "it computes in float32"
    try:
        engine = load_engine(name)
        given = _sample(device, dtype)
        wrong = (engine.scan_forward(given, False)[0] - literal_scan(*given)).abs().max()
    except ImportError as error:
        return f"{error}; pip install 'caretrace[{name}]'" if name == "numba" else str(error)
    except UnavailableError as error:
        return str(error)
    return None if wrong < 1e-4 else f"it is off by {wrong:.1g} on this machine"


def _why_not_mamba_ssm(dtype: torch.dtype) -> str | None:
    if dtype == torch.float64:
        return "it computes in float32"
    try:
        from mamba_ssm.ops import selective_scan_interface  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


def _sample(device: str, dtype: torch.dtype) -> ScanInputs:
    """Invented inputs: 2 samples of 5 steps, 3 channels, 2 states."""

    def wave(*shape: int) -> torch.Tensor:
        count = torch.Size(shape).numel()
        return torch.arange(count, dtype=dtype, device=device).mul(1.7).sin().view(shape)

    states = wave(2, 5, 2)
    return ScanInputs(
        wave(2, 5, 3), wave(2, 5, 3), -wave(3, 2).exp(), states, states + 1, wave(3), wave(2, 5, 3), wave(3)
    )
