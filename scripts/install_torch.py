"""Install the torch of constraints.txt, without gigabytes of GPU packages where there is no GPU.

    python scripts/install_torch.py

On Linux, PyPI's torch brings CUDA, several GB. On a machine without an NVIDIA GPU this script looks for the
CPU build instead: first where pip looks anyway (a mirror or a folder of wheels you have configured), then in
PyTorch's public CPU index. If neither has it, the ordinary build is installed, with a word of warning.
macOS, Windows and machines with an NVIDIA GPU get the ordinary build at once. `CARETRACE_TORCH=cpu` or
`CARETRACE_TORCH=default` decides otherwise.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"

# Runs pip with these arguments and returns its exit status and, if asked to, what it printed.
Pip = Callable[..., tuple[int, str]]


def main(
    environment: Mapping[str, str] = os.environ,
    pip: Pip | None = None,
    system: str = platform.system(),
    installed: str | None = None,
    gpu: Callable[[], bool] | None = None,
) -> int:
    """Install torch; returns an exit status.

    Args:
        environment: Where `CARETRACE_TORCH` is looked up.
        pip: Runs pip.
        system: `platform.system()`.
        installed: Version of torch that is there already, if any.
        gpu: Says whether an NVIDIA GPU works here.
    """
    pip, gpu = pip or run_pip, gpu or has_nvidia_gpu
    pin = pinned_version(CONSTRAINTS.read_text(encoding="utf-8"))
    wish = environment.get("CARETRACE_TORCH", "")
    if wish not in ("", "cpu", "default"):
        say(f"CARETRACE_TORCH={wish!r}: say cpu or default, or leave it unset to let the machine decide")
        return 2
    if installed and installed.split("+")[0] == pin:
        return 0
    requirement = f"torch=={pin}"
    cpu = wish == "cpu" or (wish != "default" and system == "Linux" and not gpu())
    if not cpu:
        return install(pip, requirement, "from where pip looks by default")
    if pip_version(pip) < (23, 2):  # older ones download a whole wheel, up to 1 GB, to learn its version
        pip("install", "--quiet", "--upgrade", "pip")
    if (found := offered(pip, requirement)).endswith("+cpu"):
        return install(pip, f"torch=={found}", "from where pip looks by default")
    # The timeout is short because many networks swallow packets to hosts they do not allow.
    if offered(pip, requirement, "--index-url", CPU_INDEX, "--timeout", "5", "--retries", "1"):
        return install(pip, requirement, f"from {CPU_INDEX}", "--index-url", CPU_INDEX)
    missing = f"{CPU_INDEX} cannot be reached, or has no {requirement} for this Python"
    if wish == "cpu":
        say(f"no CPU build can be had: {missing}")
        return 1
    say(f"{missing}; the ordinary build follows, with several GB of GPU packages")
    say("to stop here: Ctrl-C; to insist on the CPU build: CARETRACE_TORCH=cpu")
    return install(pip, requirement, "from where pip looks by default")


def pinned_version(constraints: str) -> str:
    """The version of torch in the text of constraints.txt."""
    match = re.search(r"^torch==(\S+)$", constraints, re.MULTILINE)
    if match is None:
        raise SystemExit(f"{CONSTRAINTS} has no line `torch==VERSION`; restore it")
    return match[1]


def offered(pip: Pip, requirement: str, *where: str) -> str:
    """The version pip would install, for example `2.13.0+cpu`; empty if it finds none."""
    question = ["--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--report", "-"]
    status, answer = pip("install", *question, *where, requirement, capture=True)
    try:
        return str(json.loads(answer)["install"][0]["metadata"]["version"]) if status == 0 else ""
    except (ValueError, LookupError):
        return ""


def install(pip: Pip, requirement: str, where: str, *arguments: str) -> int:
    """Install torch alone; what it depends on follows with the package, pinned by constraints.txt."""
    say(f"installing {requirement} {where}")
    status, _ = pip("install", "--quiet", "--no-deps", *arguments, requirement)
    return status


def pip_version(pip: Pip) -> tuple[int, int]:
    """For example (23, 2)."""
    match = re.search(r"(\d+)\.(\d+)", pip("--version", capture=True)[1])
    return (int(match[1]), int(match[2])) if match else (0, 0)


def has_nvidia_gpu() -> bool:
    """Whether the driver's own tool lists a GPU."""
    if shutil.which("nvidia-smi") is None:
        return False
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout


def installed_version() -> str | None:
    """Version of torch in this environment."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def run_pip(*arguments: str, capture: bool = False) -> tuple[int, str]:
    """Run this Python's pip; a failed question stays quiet, a failed installation does not."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    if not capture:
        return subprocess.run(command, check=False).returncode, ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def say(message: str) -> None:
    """A line for the person at the terminal."""
    print(f"torch: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(installed=installed_version()))
