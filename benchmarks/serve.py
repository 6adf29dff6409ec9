"""Take a ward's vital signs durably, score them, raise alarms: throughput, latency, overload, kills.

    caretrace bench serve
    caretrace bench serve -- --seconds 600
    caretrace bench serve -- --kills 100 --store postgresql://user@host/empty
    caretrace bench serve -- --workers 3 --store postgresql://user@host/empty

The service is `caretrace serve` in a process of its own with everything on: tokens, audit, validation, a commit with
full sync before each answer, scoring and alarms; the weights of its model are random. Client and service share the
machine. Three floors are measured in the same run: a Starlette endpoint that only reads the same body and answers, one
that parses its JSON instead, and one that commits it to SQLite (WAL, full sync) as it is. Batches have 100 samples (14
patients, seven channels), as rows. `sample to alarm` is the time from the end of the step that raised an alarm until a
reader of the event stream has it. Ten times overload is a flood from another process, of ten times what was taken
before or as much as that process can send; what is admitted is timed by senders that go on at the steady rate.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from cases import Case, run, say
from sqlalchemy import create_engine, func, select
from ward_client import (
    Answer,
    Bodies,
    Service,
    closed_loop,
    listen,
    open_loop,
    running,
    start_bare,
    start_service,
)
from ward_kills import survive
from ward_run import make_run

from caretrace.serve.security.tokens import Tokens
from caretrace.serve.store.tables import BATCHES

SIZE = 100
FLOORS = {
    "/vitals": "Starlette, body read",
    "/parsed": "Starlette, JSON parsed",
    "/kept": "Starlette, body committed to SQLite",
}


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--seconds", type=float, default=60, help="length of the throughput run (600 for the claim)"
    )
    made.add_argument("--latency-seconds", type=float, default=40, help="length of the open-loop run")
    made.add_argument("--overload-seconds", type=float, default=15)
    made.add_argument("--rate", type=float, default=4000, help="samples per second of the open-loop run")
    made.add_argument("--beds", type=int, default=500, help="patients of the open-loop run")
    made.add_argument("--connections", type=int, default=8)
    made.add_argument("--kills", type=int, default=0, help="kill -9 under load, so many times")
    made.add_argument("--store", help="address of an empty store; SQLite in a temporary folder without")
    made.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes of the service; more than one need --store postgresql://…",
    )
    return made


def bench(options: argparse.Namespace) -> list[Case]:
    """Everything, one after the other."""
    with TemporaryDirectory() as folder:
        path = Path(folder)
        if options.kills:
            return kills(make_run(path / "ward", step_seconds=1.0, d_model=16), path, options)
        return asyncio.run(measured(make_run(path / "ward"), path, options))


async def measured(made: Path, path: Path, options: argparse.Namespace) -> list[Case]:
    """Throughput, latency and overload."""
    with running(start_bare(path / "bare.db")) as bare:
        floors, calm = await bounds(bare.port, options)
    cases: list[Case] = []
    for part in (throughput, steady):  # each with a ward of its own: beds of one would be silent in the other
        state = path / part.__name__
        state.mkdir()
        token = Tokens(state / "tokens.json").add("gateway", "clinician")
        url = _store(options, part.__name__, f"sqlite:///{state / 'ward.db'}")
        with running(start_service(made, state, url, ("--workers", str(options.workers)))) as service:
            say(f"service ready after {service.seconds:.1f} s")
            if part is throughput:
                cases += await throughput(service, token, url, options, floors)
            else:
                cases += await steady(service, token, options, calm, cases[0].ours)
    return cases


def _store(options: argparse.Namespace, part: str, sqlite: str) -> str:
    """Address of an empty store for a part; of several workers each part has a schema of its own."""
    if options.store and options.workers > 1:
        engine = create_engine(options.store.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {part}")
        engine.dispose()
        return f"{options.store}?options=-csearch_path%3D{part}"
    return options.store if options.store and part == throughput.__name__ else sqlite


async def steady(
    service: Service, token: str, options: argparse.Namespace, floors: dict[str, float], capacity: float
) -> list[Case]:
    """Latency, and then overload."""
    cases = await latency(service, token, options, floors)
    return cases + await overload(service, token, options, capacity)


async def bounds(port: int, options: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """Samples per second, and p99 in milliseconds at the steady rate, of endpoints that do next to nothing."""
    rates, calm, seconds = {}, {}, min(8, options.seconds)
    for path, name in FLOORS.items():
        answers = await closed_loop(port, Bodies(2100), None, options.connections, seconds, path)
        rates[name] = _rate(answers, seconds)
        answers, _ = await open_loop(port, Bodies(options.beds), None, options.rate / SIZE, seconds, path)
        calm[name] = _p99(answers)
        say(f"{name}: {rates[name]:,.0f} samples/s, p99 {calm[name]:.1f} ms at {options.rate:,.0f}/s")
    return rates, calm


async def throughput(
    service: Service, token: str, url: str, options: argparse.Namespace, floors: dict[str, float]
) -> list[Case]:
    """Samples acknowledged per second, all of them in the store afterwards, and how memory grows."""
    process = psutil.Process(service.process.pid)
    sizes: list[tuple[float, int]] = []

    async def watch() -> None:
        while True:
            all_of_it = [process, *process.children(recursive=True)]
            sizes.append((time.monotonic(), sum(each.memory_info().rss for each in all_of_it)))
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    make = Bodies(2100, name="throughput")
    answers = await closed_loop(service.port, make, token, options.connections, options.seconds)
    watching.cancel()
    rate = _rate(answers, options.seconds)
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        stored = connection.scalar(
            select(func.sum(BATCHES.c.samples)).where(BATCHES.c.batch_id.like("throughput%"))
        )
    engine.dispose()
    taken = SIZE * sum(answer.status == 200 for answer in answers)
    if stored != taken:
        raise SystemExit(f"{taken} samples were acknowledged, {stored} are in the store")
    used = np.array([size for _, size in sizes])
    quarter = max(1, len(used) // 4)
    grown = float(np.median(used[-quarter:]) / np.median(used[quarter : 2 * quarter])) - 1
    what = f"durable samples per second, {options.seconds:g} s, tokens, validation, alarms on"
    shares = {name: rate / floor for name, floor in floors.items()}
    told = ", ".join(f"{share:.2f} of {name}" for name, share in shares.items())
    say(f"{what}: {rate:,.0f} ({told}), p99 {_p99(answers):.1f} ms, memory {grown:+.1%}")
    return [
        Case(what, "1/s", rate, floors, shares, used.max() / 2**20),
        Case("growth of memory, second to last quarter", "%", 100 * grown),
    ]


async def latency(
    service: Service, token: str, options: argparse.Namespace, floors: dict[str, float]
) -> list[Case]:
    """Acknowledgement and alarm at a steady rate."""
    late: list[float] = []
    began = time.time()

    def heard(_: str, alarm: dict[str, object]) -> None:
        raised = dt.datetime.fromisoformat(str(alarm["raised"])).timestamp()
        if alarm["kind"] == "physiological" and alarm["state"] == "active" and raised > began + 5:
            late.append(time.time() - raised)

    listening = asyncio.create_task(listen(service.port, token, heard))
    answers, unsent = await open_loop(
        service.port,
        Bodies(options.beds, name="latency"),
        token,
        options.rate / SIZE,
        options.latency_seconds,
    )
    await asyncio.sleep(2)
    listening.cancel()
    refused = unsent + sum(answer.status != 200 for answer in answers)
    if not late:
        raise SystemExit(f"no alarm in {options.latency_seconds:g} s; give --latency-seconds more")
    p99, alarm = _p99(answers), float(np.percentile(late, 99))
    told = ", ".join(f"{p99 / floor:.1f} × {name}" for name, floor in floors.items())
    say(
        f"{options.rate:,.0f} samples/s: p50 {_p50(answers):.1f} ms, p99 {p99:.1f} ms ({told}), "
        f"{refused} refused; sample to alarm p99 {alarm:.2f} s of {len(late)} alarms"
    )
    at = f"at {options.rate:,.0f} samples/s, open loop"
    return [
        Case(f"acknowledgement p99 {at}", "ms", p99, floors, {name: f / p99 for name, f in floors.items()}),
        Case(f"sample to alarm p99 {at}, {len(late)} alarms", "s", alarm),
    ]


async def overload(service: Service, token: str, options: argparse.Namespace, capacity: float) -> list[Case]:
    """What is admitted at ten times of what was taken, and how what is not admitted is told."""
    calm, _ = await open_loop(
        service.port, Bodies(options.beds, name="calm"), token, options.rate / SIZE, options.overload_seconds
    )
    loop, seconds = asyncio.get_running_loop(), options.overload_seconds
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        flood = loop.run_in_executor(
            pool, _flood, service.port, options.beds, token, 10 * capacity / SIZE, seconds + 3
        )
        await asyncio.sleep(2)
        answers, _ = await open_loop(
            service.port, Bodies(options.beds, name="admitted"), token, options.rate / SIZE, seconds
        )
        flooded, taken = await flood
    say(
        f"flood: {flooded:,.0f} requests a second were answered, {10 * capacity / SIZE:,.0f} were meant; "
        f"{SIZE * taken:,.0f} samples a second were taken all the same"
    )
    by_status = {status: [a for a in answers if a.status == status] for status in {a.status for a in answers}}
    admitted = by_status.get(200, [])
    refused = [a for status, each in by_status.items() if status in (429, 503) for a in each]
    told = sum(b"retry-after" in a.headers.lower() for a in refused)
    counts = ", ".join(f"{status}: {len(each)}" for status, each in sorted(by_status.items()))
    say(
        f"ten times overload: {counts}; "
        f"admitted p99 {_p99(admitted):.1f} ms, unloaded {_p99(calm):.1f} ms; Retry-After in {told} of {len(refused)}"
    )
    if told < len(refused) or set(by_status) - {200, 429, 503}:
        raise SystemExit("an answer was neither 200, nor 429 or 503 with Retry-After")
    return [
        Case(
            "admitted p99 at ten times overload",
            "ms",
            _p99(admitted),
            {"unloaded": _p99(calm)},
            {"unloaded": _p99(calm) / _p99(admitted)},
        ),
        Case("share refused at ten times overload", "%", 100 * len(refused) / max(1, len(answers))),
        Case("samples taken a second at ten times overload", "1/s", SIZE * taken),
    ]


def _flood(port: int, beds: int, token: str, per_second: float, seconds: float) -> tuple[float, float]:
    """In another process; how many were answered a second, and how many of them taken."""
    answers, _ = asyncio.run(open_loop(port, Bodies(beds, name="flood"), token, per_second, seconds))
    return len(answers) / seconds, sum(answer.status == 200 for answer in answers) / seconds


def kills(made: Path, path: Path, options: argparse.Namespace) -> list[Case]:
    """Kill -9 under load."""
    found = survive(made, path, options.kills, seed=0, store=options.store)
    say(
        f"{found.kills} kills: {found.acknowledged:,} samples acknowledged, {found.lost} lost, "
        f"{found.doubled} doubled; "
        f"{found.alarms} alarms, {found.answers} answers; ready again after {found.slowest:.1f} s at most"
    )
    return [
        Case(f"lost or doubled after {found.kills} kill -9", "1", found.lost + found.doubled),
        Case("slowest restart until ready", "s", found.slowest),
    ]


def _rate(answers: list[Answer], seconds: float) -> float:
    return SIZE * sum(answer.status == 200 for answer in answers) / seconds


def _p50(answers: list[Answer]) -> float:
    return _percentile(answers, 50)


def _p99(answers: list[Answer]) -> float:
    return _percentile(answers, 99)


def _percentile(answers: list[Answer], share: float) -> float:
    good = [answer.seconds * 1e3 for answer in answers if answer.status == 200]
    return float(np.percentile(good, share)) if good else float("nan")


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda _: 1))
