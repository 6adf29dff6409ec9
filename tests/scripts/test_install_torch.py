"""Which torch is installed where, with a pip that only pretends."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install_torch = load("install_torch")
PIN = install_torch.pinned_version((ROOT / "constraints.txt").read_text())
CPU = install_torch.CPU_INDEX


class FakePip:
    """Answers as pip would, and remembers what it was asked to install."""

    def __init__(
        self, default: str | None, cpu_index: str | None, version: str = "25.0", fails: bool = False
    ) -> None:
        self.default, self.cpu_index, self.version, self.fails = default, cpu_index, version, fails
        self.asked: list[tuple[str, ...]] = []
        self.installed: list[tuple[str, ...]] = []

    def __call__(self, *arguments: str, capture: bool = False) -> tuple[int, str]:
        if arguments == ("--version",):
            return 0, f"pip {self.version} from somewhere (python 3.11)"
        if "--dry-run" not in arguments:
            assert not capture, "an installation shows what it does"
            self.installed.append(arguments)
            return (1 if self.fails else 0), ""
        assert capture
        self.asked.append(arguments)
        found = self.cpu_index if CPU in arguments else self.default
        if found is None:
            return 1, "ERROR: No matching distribution found"
        return 0, json.dumps({"install": [{"metadata": {"name": "torch", "version": found}}]})


def run(
    pip: FakePip, *, system: str = "Linux", gpu: bool = False, wish: str = "", installed: str | None = None
) -> int:
    environment = {"CARETRACE_TORCH": wish} if wish else {}
    status: int = install_torch.main(environment, pip, system, installed, lambda: gpu)
    return status


def test_a_configured_cpu_build_is_taken_first() -> None:
    pip = FakePip(default=f"{PIN}+cpu", cpu_index=f"{PIN}+cpu")
    assert run(pip) == 0
    assert pip.installed == [("install", "--quiet", "--no-deps", f"torch=={PIN}+cpu")]
    assert len(pip.asked) == 1, "no other index is asked"


def test_else_the_cpu_index() -> None:
    pip = FakePip(default=PIN, cpu_index=f"{PIN}+cpu")
    assert run(pip) == 0
    assert pip.installed == [("install", "--quiet", "--no-deps", "--index-url", CPU, f"torch=={PIN}")]
    asked = pip.asked[1]
    assert asked[asked.index("--timeout") + 1] == "5"
    assert asked[asked.index("--retries") + 1] == "1"


@pytest.mark.parametrize("default", [PIN, None])
def test_else_the_ordinary_build_with_a_warning(
    default: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    pip = FakePip(default=default, cpu_index=None)
    assert run(pip) == 0
    assert pip.installed == [("install", "--quiet", "--no-deps", f"torch=={PIN}")]
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize(("system", "gpu"), [("Darwin", False), ("Windows", False), ("Linux", True)])
def test_a_gpu_or_another_system_gets_the_ordinary_build_at_once(system: str, gpu: bool) -> None:
    pip = FakePip(default=PIN, cpu_index=f"{PIN}+cpu")
    assert run(pip, system=system, gpu=gpu) == 0
    assert pip.installed == [("install", "--quiet", "--no-deps", f"torch=={PIN}")]
    assert pip.asked == []


def test_the_wish_for_the_ordinary_build_is_heard() -> None:
    pip = FakePip(default=f"{PIN}+cpu", cpu_index=f"{PIN}+cpu")
    assert run(pip, wish="default") == 0
    assert pip.installed == [("install", "--quiet", "--no-deps", f"torch=={PIN}")]
    assert pip.asked == []


def test_the_wish_for_the_cpu_build_is_heard_where_there_is_a_gpu() -> None:
    pip = FakePip(default=PIN, cpu_index=f"{PIN}+cpu")
    assert run(pip, gpu=True, wish="cpu") == 0
    assert CPU in pip.installed[0]


def test_the_wish_for_the_cpu_build_is_never_answered_with_gigabytes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pip = FakePip(default=PIN, cpu_index=None)
    assert run(pip, wish="cpu") == 1
    assert pip.installed == []
    assert "no CPU build" in capsys.readouterr().err


def test_another_wish_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    pip = FakePip(default=PIN, cpu_index=PIN)
    assert run(pip, wish="gpu") == 2
    assert pip.installed == []
    assert "say cpu or default" in capsys.readouterr().err


@pytest.mark.parametrize("version", [PIN, f"{PIN}+cpu", f"{PIN}+cu130"])
def test_what_is_there_is_kept(version: str) -> None:
    pip = FakePip(default=PIN, cpu_index=PIN)
    assert run(pip, installed=version) == 0
    assert pip.installed == []


def test_another_version_is_replaced() -> None:
    pip = FakePip(default=f"{PIN}+cpu", cpu_index=None)
    assert run(pip, installed="1.0.0") == 0
    assert pip.installed == [("install", "--quiet", "--no-deps", f"torch=={PIN}+cpu")]


def test_an_old_pip_is_renewed_before_it_is_asked() -> None:
    pip = FakePip(default=f"{PIN}+cpu", cpu_index=None, version="23.0.1")
    assert run(pip) == 0
    assert pip.installed[0] == ("install", "--quiet", "--upgrade", "pip")


def test_a_failed_installation_fails() -> None:
    assert run(FakePip(default=f"{PIN}+cpu", cpu_index=None, fails=True)) == 1


def test_nonsense_from_pip_counts_as_nothing_offered() -> None:
    assert install_torch.offered(lambda *_, **__: (0, "not json"), "torch") == ""
    assert install_torch.offered(lambda *_, **__: (0, '{"install": []}'), "torch") == ""


def test_constraints_without_torch_are_refused() -> None:
    with pytest.raises(SystemExit, match="has no line"):
        install_torch.pinned_version("numpy==2.0\n")


@pytest.mark.parametrize(
    ("status", "out", "expected"),
    [(0, "GPU 0: NVIDIA H200", True), (0, "No devices found", False), (9, "GPU 0: lost", False)],
)
def test_a_gpu_is_one_the_driver_lists(
    monkeypatch: pytest.MonkeyPatch, status: int, out: str, expected: bool
) -> None:
    monkeypatch.setattr(install_torch.shutil, "which", lambda name: f"/usr/bin/{name}")
    done = subprocess.CompletedProcess([], status, out, "")
    monkeypatch.setattr(install_torch.subprocess, "run", lambda *_, **__: done)
    assert install_torch.has_nvidia_gpu() is expected


def test_no_driver_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install_torch.shutil, "which", lambda name: None)
    assert install_torch.has_nvidia_gpu() is False


def test_a_python_that_cannot_make_an_environment_says_why() -> None:
    make_venv = load("make_venv")
    assert make_venv.problem((3, 11), True) is None
    assert make_venv.problem((3, 14), True) is None
    assert "needs Python 3.11 or later, this is 3.9" in make_venv.problem((3, 9), True)
    assert "python3.11-venv" in make_venv.problem((3, 11), False)
