"""Ingest MIMIC-IV-shaped tables of up to 100 million rows: speed, memory and disk, beside other tools.

    caretrace bench ingest
    caretrace bench ingest --peers build/peers -- --rows 10e6 100e6 --peer-rows 2e6 10e6

The tables are invented on the spot (see `mimic_tables.py`; 100 million rows take some five minutes and, with
the dataset and what the engine spills, some 12 GB of disk). Every tool runs as its own process, interpreter
start and imports included, on the same two cores, over the same .csv.gz files, one after the other, and must
end with at least one row per row of `chartevents`. Peers get their fastest documented setting.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from cases import Case, run, say
from measure import Measured, measured
from mimic_tables import write_tables

MAKE_PEERS = "python benchmarks/peers/make_peers.py build/peers"
# The spread that still counts as linear in size.
LINEAR = 0.15


@dataclasses.dataclass(frozen=True)
class Peer:
    """Another way from MIMIC-IV to MEDS.

    Args:
        name: What we call it.
        environment: Folder below `--peers`, see `peers/make_peers.py`; empty where ours will do.
        command: Arguments; filled in are `{python}` (ours), `{peers}` (the scripts beside this one), `{bin}`,
            `{tables}`, `{release}` (the tables in a folder called 2.2) and `{out}`.
    """

    name: str
    environment: str
    command: str


# meds_etl: "use as few shards as possible" (polars), "as many shards as you have CPUs" (cpp), says its page.
# MEDS-extract: with a worker per core it took longer here (5 M rows 35 s instead of 25): polars is threaded.
PEERS = (
    Peer(
        "meds_etl (cpp)",
        "meds_etl",
        "{bin}/meds_etl_mimic {release} {out} --num_shards {cores} --num_proc {cores} --backend cpp",
    ),
    Peer(
        "meds_etl (polars)",
        "meds_etl",
        "{bin}/meds_etl_mimic {release} {out} --num_shards {cores} --num_proc {cores} --backend polars",
    ),
    Peer(
        "MEDS-extract",
        "meds_extract",
        "{bin}/meds-extract-run spec=MIMIC-IV do_download=false input_dir={tables} output_dir={out}",
    ),
    # No peer but a ceiling: what is left when nothing is checked, mapped or joined.
    Peer("DuckDB alone", "", "{python} {peers}/duckdb_alone.py {tables} {out} {cores}"),
)


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rows", type=float, nargs="*", default=[10e6, 100e6], help="sizes of chartevents")
    made.add_argument(
        "--peer-rows", type=float, nargs="*", default=[2e6, 5e6, 10e6], help="sizes that peers do too"
    )
    made.add_argument("--peers", type=Path, help=f"environments of the peers: {MAKE_PEERS}")
    made.add_argument("--memory-limit", default="2500MB", help="of our engine; Python comes on top")
    made.add_argument("--within-mib", type=float, default=4096, help="what all our processes may hold")
    made.add_argument("--cores", type=int, default=2)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--work", type=Path, help="folder with space; a temporary one by default")
    return made


def bench(options: argparse.Namespace) -> list[Case]:
    """Every size, ours and theirs; then how ours grows, and against the best of each peer."""
    peers = _peers(options)
    ours: dict[int, Measured] = {}
    theirs: dict[str, dict[int, Measured]] = {peer.name: {} for peer in peers}
    sizes = sorted({*map(int, options.rows), *(map(int, options.peer_rows) if peers else ())})
    with tempfile.TemporaryDirectory(dir=options.work, prefix="bench-ingest-") as made:
        for size in sizes:
            tables = Path(made) / "tables"
            say(f"inventing {size:,} rows of chartevents ...")
            rows = write_tables(tables, size, options.seed, threads=options.cores)
            ours[rows] = _ours(tables, rows, Path(made), options)
            for peer in peers if size in map(int, options.peer_rows) else ():
                found = _theirs(peer, tables, rows, Path(made), options)
                if found is not None:
                    theirs[peer.name][rows] = found
            shutil.rmtree(tables)
    return [*_by_size(ours, theirs), *_growth(ours, options), *_against_the_best(ours, theirs)]


def _peers(options: argparse.Namespace) -> list[Peer]:
    if options.peers is None:
        say(f"No peers: make them once with `{MAKE_PEERS}`, then add `--peers build/peers`.")
        return []
    found = [peer for peer in PEERS if _programs(peer, options).is_dir()]
    for peer in PEERS:
        if peer not in found:
            say(f"{peer.name} is not in {options.peers}: make it with `{MAKE_PEERS}`")
    return found


def _programs(peer: Peer, options: argparse.Namespace) -> Path:
    return (
        Path(options.peers).resolve() / peer.environment / "bin"
        if peer.environment
        else Path(__file__).parent
    )


def _ours(tables: Path, rows: int, work: Path, options: argparse.Namespace) -> Measured:
    out = work / "caretrace"
    command = [sys.executable, "-c", "from caretrace.cli import main; main()"]
    command += ["ingest", "mimic-iv", str(tables), str(out), "--quiet", "--json"]
    command += ["--memory-limit", options.memory_limit]
    found = measured(command, log=work / "log", cores=options.cores, watch=work)
    return _checked("caretrace", found, out, rows, tables)


def _theirs(peer: Peer, tables: Path, rows: int, work: Path, options: argparse.Namespace) -> Measured | None:
    out, release = work / (peer.environment or "alone"), work / "release"
    release.mkdir(exist_ok=True)
    (release / "2.2").symlink_to(tables)
    programs = _programs(peer, options)
    places = {"bin": programs, "tables": tables, "release": release, "out": out, "cores": options.cores}
    places |= {"python": sys.executable, "peers": Path(__file__).parent / "peers"}
    path = {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin"}  # they call their own programs by name
    command = [part.format(**places) for part in peer.command.split()]
    try:
        found = measured(command, log=work / "log", cores=options.cores, watch=work, environment=path)
        return _checked(peer.name, found, out, rows, tables)
    except RuntimeError as error:
        say(f"left out: {error}")
        return None
    finally:
        shutil.rmtree(release)


def _checked(name: str, found: Measured, out: Path, rows: int, tables: Path) -> Measured:
    """The dataset is there and complete; then it goes."""
    if found.code:
        raise RuntimeError(f"{name} ended with {found.code} on {rows:,} rows: {found.output[-1500:]}")
    written = sum(pq.read_metadata(path).num_rows for path in (out / "data").rglob("*.parquet"))
    shutil.rmtree(out)
    if written < rows:
        raise RuntimeError(f"{name} wrote {written:,} rows where chartevents alone has {rows:,}")
    disk = found.disk_mib - sum(path.stat().st_size for path in tables.rglob("*.gz")) / 2**20
    say(
        f"{name}: {rows:,} rows in {found.seconds:.1f} s ({found.cpu_seconds:.1f} s of processor time), "
        f"{rows / found.seconds:,.0f} rows/s, "
        f"{found.peak_mib:,.0f} MiB of memory, {disk:,.0f} MiB of disk"
    )
    return dataclasses.replace(found, disk_mib=disk)


def _by_size(ours: dict[int, Measured], theirs: dict[str, dict[int, Measured]]) -> list[Case]:
    cases = []
    for rows, own in ours.items():
        found = {name: by_size[rows] for name, by_size in theirs.items() if rows in by_size}
        cases += [
            Case(
                f"{rows:,} rows",
                "rows/s",
                rows / own.seconds,
                {name: rows / other.seconds for name, other in found.items()},
                {name: other.seconds / own.seconds for name, other in found.items()},
                own.peak_mib,
            ),
            Case(
                f"{rows:,} rows: peak memory",
                "MiB",
                own.peak_mib,
                {name: other.peak_mib for name, other in found.items()},
                peak_mib=own.peak_mib,
            ),
            Case(
                f"{rows:,} rows: disk used on the way",
                "MiB",
                own.disk_mib,
                {name: other.disk_mib for name, other in found.items()},
                peak_mib=own.peak_mib,
            ),
        ]
    return cases


def _growth(ours: dict[int, Measured], options: argparse.Namespace) -> list[Case]:
    """Rows/s at the largest size over rows/s at the first of `--rows`, and whether memory stayed inside."""
    asked = [rows for rows in ours if any(0.99 * size <= rows <= size for size in options.rows)]
    worst = max(found.peak_mib for found in ours.values())
    say(f"memory: at most {worst:,.0f} of {options.within_mib:,.0f} MiB, {_yes(worst <= options.within_mib)}")
    if len(asked) < 2:
        return []
    small, large = min(asked), max(asked)
    ratio = (large / ours[large].seconds) / (small / ours[small].seconds)
    say(f"linear in size: {ratio:.2f} of the speed, {_yes(abs(1 - ratio) <= LINEAR)} within {LINEAR:.0%}")
    return [Case(f"rows/s at {large:,} over rows/s at {small:,} rows", "ratio", ratio)]


def _against_the_best(ours: dict[int, Measured], theirs: dict[str, dict[int, Measured]]) -> list[Case]:
    """Our largest size against each peer at the size where it was fastest."""
    large = max(ours)
    own = large / ours[large].seconds
    best = {
        name: max(rows / found.seconds for rows, found in by_size.items())
        for name, by_size in theirs.items()
        if by_size
    }
    if not best:
        return []
    faster = {name: own / value for name, value in best.items()}
    return [
        Case(f"{large:,} rows, each peer at its best size", "rows/s", own, best, faster, ours[large].peak_mib)
    ]


def _yes(fulfilled: bool) -> str:
    return "as it should be" if fulfilled else "MISSED"


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda options: options.cores))
