"""Compiling: once, anywhere, by many at once; and what happens where it does not work."""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from caretrace.backbones.scan import build, forms, selective_scan
from caretrace.errors import ConfigError

from .invented import scan_inputs

PROGRAM = """
import logging, sys, torch
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from caretrace.backbones.scan import build, forms
print("takes", forms.choose("cpu", torch.float32))
"""


@pytest.fixture(autouse=True)
def fresh():
    """Nothing is remembered from other tests, nor for them."""
    build.library.cache_clear()
    forms._choose.cache_clear()
    yield
    build.library.cache_clear()
    forms._choose.cache_clear()


def run(cache: Path, **environment: str) -> str:
    """What a new process says."""
    variables = {**os.environ, "CARETRACE_CACHE": str(cache), "OMP_NUM_THREADS": "1", **environment}
    variables.pop("CARETRACE_SCAN", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True, check=True
    )
    return done.stdout


def compiler_here() -> None:
    try:
        build._compiler()
    except build.UnavailableError as error:
        pytest.skip(str(error))


def test_compiled_once_and_then_loaded(tmp_path, monkeypatch):
    compiler_here()
    monkeypatch.setenv("CARETRACE_CACHE", str(tmp_path))
    build.library()
    (made,) = (tmp_path / "scan").glob("*.so")
    before = made.stat().st_mtime_ns
    build.library.cache_clear()
    monkeypatch.setattr(build, "_compile", None)  # would fail if it were called
    build.library()
    assert made.stat().st_mtime_ns == before


@pytest.mark.slow
def test_many_processes_at_once_leave_one_library_and_nothing_else(tmp_path):
    compiler_here()
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: run(tmp_path), range(4)))
    assert said == ["takes cpu\n"] * 4
    assert sorted(path.suffix for path in (tmp_path / "scan").iterdir()) == [
        "",
        ".so",
    ]  # the lock, the library


def test_a_damaged_library_is_made_again(tmp_path, monkeypatch):
    compiler_here()
    monkeypatch.setenv("CARETRACE_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "_said", lambda command: "a compiler")
    monkeypatch.setattr(build, "_compile", lambda compiler, flags, target: target.write_bytes(b"damaged"))
    with pytest.raises(build.UnavailableError):
        build.library()
    monkeypatch.undo()
    monkeypatch.setenv("CARETRACE_CACHE", str(tmp_path))
    for library in (tmp_path / "scan").glob("*.so"):
        library.write_bytes(b"damaged")
    assert build.library().tasks_of_a_sample(16, 4) == 1


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    compiler_here()
    (tmp_path / "file").write_text("not a folder")
    assert run(tmp_path / "file") == "takes cpu\n"


@pytest.mark.slow
def test_without_a_compiler_the_next_form_is_taken_and_the_log_says_why(tmp_path):
    said = run(tmp_path, PATH="/nowhere", CXX="")
    assert "not taking 'cpu', the next best is slower: no C++ compiler" in said
    assert said.splitlines()[-1] in {"takes numba", "takes chunked"}


@pytest.mark.slow
def test_a_compiler_that_fails_is_quoted(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "x.cpp:1: error: no such luck" >&2\nexit 1\n'
    )
    broken.chmod(0o755)
    assert "x.cpp:1: error: no such luck" in run(tmp_path, CXX=str(broken))


@pytest.mark.slow
def test_a_compiler_without_openmp_still_makes_vectors(tmp_path):
    compiler_here()
    picky = tmp_path / "picky"
    real = build._compiler()
    picky.write_text(
        f'#!/bin/sh\ncase "$*" in *-fopenmp*) echo "error: no OpenMP" >&2; exit 1;; esac\nexec {real} "$@"\n'
    )
    picky.chmod(0o755)
    assert run(tmp_path, CXX=str(picky)) == "takes cpu\n"


def test_one_form_can_be_asked_for(monkeypatch):
    for name in ("literal", "chunked"):
        monkeypatch.setenv("CARETRACE_SCAN", name)
        assert forms.choose("cpu", torch.float32) == name


def test_a_form_that_does_not_exist_is_answered_with_the_nearest(monkeypatch):
    monkeypatch.setenv("CARETRACE_SCAN", "nunba")
    with pytest.raises(
        ConfigError, match="CARETRACE_SCAN: unknown form of the scan 'nunba': did you mean 'numba'"
    ):
        selective_scan(*scan_inputs(1, 2, 3, 4))


def test_a_form_that_cannot_run_here_says_why(monkeypatch):
    monkeypatch.setenv("CARETRACE_SCAN", "triton")
    with pytest.raises(ConfigError, match="CARETRACE_SCAN=triton cannot be used: it does not run on cpu"):
        forms.choose("cpu", torch.float32)
    monkeypatch.setattr(
        build, "_compiler", lambda: (_ for _ in ()).throw(build.UnavailableError("none here"))
    )
    monkeypatch.setenv("CARETRACE_SCAN", "cpu")
    with pytest.raises(ConfigError, match="CARETRACE_SCAN=cpu cannot be used: none here"):
        forms.choose("cpu", torch.float32)


def test_kernels_that_compute_wrongly_are_not_taken(monkeypatch, caplog):
    compiler_here()
    from caretrace.backbones.scan import compiled

    right = compiled.scan_forward
    monkeypatch.setattr(compiled, "scan_forward", lambda *given: (right(*given)[0] + 1, right(*given)[1]))
    with caplog.at_level(logging.WARNING):
        assert forms.choose("cpu", torch.float32) != "cpu"
    assert "it is off by 1 on this machine" in caplog.text
