"""`caretrace bench`: run a benchmark of the checkout and report it in one shape."""

from __future__ import annotations

import ast
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from caretrace.cli.console import AsJson, Console, Quiet
from caretrace.errors import ConfigError, unknown_name

# A benchmark is a script with a function of this name; it takes `--result FILE` and says what it does in
# the first line of its docstring.
_FUNCTION = "bench"


def command(
    name: Annotated[
        str | None, typer.Argument(help="Which benchmark; without a name they are listed.")
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="Options of the benchmark itself, after `--`; `-- --help` lists them."),
    ] = None,
    peers: Annotated[
        Path | None,
        typer.Option(help="Folder with the environments of other tools, for benchmarks that compare."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="The folder `benchmarks` of a checkout; found by itself when you are in one."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure speed and memory, beside other tools where there are any.

    Benchmarks belong to a checkout of caretrace, not to the installed package. They print what they do on
    standard error; figures are rows of a table, or one JSON object with `--json`.

    Example: `caretrace bench ingest --peers build/peers -- --rows 1e6 10e6`
    """
    console = Console(as_json, quiet)
    scripts = benchmarks(folder or _find())
    if name is None:
        listed = [{"name": each, "summary": summary} for each, (_, summary) in scripts.items()]
        console.table("Benchmarks", ("name", "what it measures"), [tuple(row.values()) for row in listed])
        console.result({"benchmarks": listed})
        return
    if name not in scripts:
        raise ConfigError(unknown_name("benchmark", name, scripts))
    given = [*(arguments or []), *(["--peers", str(peers)] if peers else [])]
    found = {"bench": name, "machine": machine(), **_run(scripts[name][0], given, console)}
    console.table(
        f"{name} on {found['machine']}, {found['threads']} threads",
        ("case", "unit", "ours", "peers", "speed-up", "peak MiB"),
        [_row(case) for case in found["cases"]],
    )
    console.result(found)


def benchmarks(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name → script and first line of its docstring, for every benchmark in a folder.

    Raises:
        ConfigError: There is none.
    """
    found = {}
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        if any(isinstance(node, ast.FunctionDef) and node.name == _FUNCTION for node in tree.body):
            found[path.stem] = path, (ast.get_docstring(tree) or "").split("\n", 1)[0]
    if not found:
        raise ConfigError(f"{folder} holds no benchmark; name the folder `benchmarks` of a checkout")
    return found


def machine() -> str:
    """The machine in words: processor, cores this process may use, memory, system."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), processor)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}, {cores} cores, {memory:.0f} GiB, {platform.system()}"


def _find() -> Path:
    """The benchmarks beside an editable install, else of the checkout we stand in."""
    here = Path.cwd()
    checkouts = [Path(__file__).parents[3], here, *here.parents]
    for checkout in checkouts:
        if (checkout / "benchmarks" / "cases.py").is_file():
            return checkout / "benchmarks"
    raise ConfigError(
        "no folder `benchmarks` here: benchmarks are not part of the installed package; go to a checkout of "
        "caretrace, or name its folder with --folder"
    )


def _run(script: Path, arguments: list[str], console: Console) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "result.json"
        process = subprocess.run(  # noqa: S603 - our own script, run by our own interpreter
            [sys.executable, str(script), *arguments, "--result", str(result)],
            check=False,
            # Standard output is for figures alone, so what the script prints goes beside it.
            stdout=subprocess.DEVNULL if console.quiet else sys.stderr.fileno(),
            stderr=subprocess.PIPE if console.quiet else sys.stderr.fileno(),
        )
        if process.returncode and process.stderr:
            console.error(process.stderr.decode(errors="replace").strip())
        if process.returncode or not result.is_file():
            raise typer.Exit(process.returncode)
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found


def _row(case: dict[str, Any]) -> tuple[Any, ...]:
    peers = "\n".join(f"{name} {_figure(value)}" for name, value in case["peers"].items())
    faster = "\n".join(f"{value:.1f}x" for value in case["speedup"].values())
    peak = None if case["peak_mib"] is None else round(case["peak_mib"])
    return case["case"], case["unit"], _figure(case["ours"]), peers, faster, peak


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
