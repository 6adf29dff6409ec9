"""Compile `kernels.cpp` once per machine and load it: plain C functions, no headers of torch, two seconds.

The library goes to `$CARETRACE_CACHE`, else `$XDG_CACHE_HOME/caretrace`, else `~/.cache/caretrace`, under a
name made of everything it depends on: source, compiler, flags, instructions of the processor. It is
written beside its place and renamed into it, so that any number of processes may do this at once.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch  # its OpenMP runtime must be loaded before ours asks for one, so that there is only one

SOURCES = ("kernels.cpp", "vectors.h")
_FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fPIC", "-shared")
# The best first; a compiler without OpenMP or -march=native still gives vectors.
_VARIANTS = (("-march=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())
_TIMEOUT_SECONDS = 300

try:
    import fcntl
except ImportError:  # not on Windows; the renaming alone is safe there
    fcntl = None  # type: ignore[assignment]


class UnavailableError(Exception):
    """Why a way of computing the scan cannot be taken on this machine."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels; compiled first where they are not cached yet.

    Raises:
        UnavailableError: There is no compiler, it fails, or what it made cannot be loaded.
    """
    torch.get_num_threads()
    compiler = _compiler()
    version = _said([compiler, "--version"])
    reason = ""
    for flags in _VARIANTS:
        try:
            return _loaded(compiler, version, flags)
        except (UnavailableError, OSError) as error:
            reason = reason or str(error)
    raise UnavailableError(f"{compiler} could not compile the kernels: {reason}")


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(os.environ.get("CARETRACE_CACHE") or Path(base) / "caretrace") / "scan"


def _compiler() -> str:
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise UnavailableError("no C++ compiler (c++, g++, clang++ or $CXX) on this machine")


def _loaded(compiler: str, version: str, flags: Sequence[str]) -> ctypes.CDLL:
    """The library made with these flags: the one in the cache, or else a new one."""
    folder = Path(__file__).parent
    said = [compiler, version, _instructions(), *_FLAGS, *flags, *((folder / s).read_text() for s in SOURCES)]
    name = f"{hashlib.sha256(chr(0).join(said).encode()).hexdigest()[:24]}.so"
    target = cache_folder() / name
    with contextlib.suppress(OSError):  # not there yet, or damaged
        return ctypes.CDLL(str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _turn(target.parent):
            with contextlib.suppress(OSError):  # another process was faster
                return ctypes.CDLL(str(target))
            _compile(compiler, flags, target)
    except OSError:  # a folder that cannot be written: one for this process alone
        target = _folder_of_this_process() / name
        _compile(compiler, flags, target)
    return ctypes.CDLL(str(target))


@functools.cache
def _folder_of_this_process() -> Path:
    return Path(tempfile.mkdtemp(prefix="caretrace-scan-"))


def _compile(compiler: str, flags: Sequence[str], target: Path) -> None:
    handle, made = tempfile.mkstemp(dir=target.parent, suffix=".so.part")
    os.close(handle)
    try:
        source = Path(__file__).parent / SOURCES[0]
        _said([compiler, *_FLAGS, *flags, str(source), "-o", made])
        Path(made).replace(target)
    finally:
        Path(made).unlink(missing_ok=True)


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One process at a time, so that the many of a node do not all compile; safe without it, only slower."""
    with (folder / "lock").open("w") as lock:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # file systems without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _said(command: Sequence[str]) -> str:
    """What a program prints.

    Raises:
        UnavailableError: It fails or does not end.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(str(error)) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UnavailableError(next((line for line in lines if "error" in line), lines[0]))
    return done.stdout


def _instructions() -> str:
    """What the processor can do: a library made with -march=native must not meet another one."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"
