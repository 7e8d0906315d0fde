"""`streamproc bench peers`: one job, the same stored records, ours and the field's stream processors.

The job (`peer/job.py`): 72-byte records of 1,000 devices, per device and channel an exponential mean and
variance, an alert at 8 standard deviations. Over arrays where a framework hands over batches, per record where
it does not. Each peer runs with its own defaults in an environment of its own, which the command makes once
(`.cache/peers/NAME`, versions pinned below). A peer that cannot be installed or run is a row that says why.

In turns, several rounds, the median counts. A way reads until it has all records or its time is up, so a slow
one reads the first of them only; alerts are compared where all were read.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop
from aiokafka import AIOKafkaProducer

from streamproc.config import BrokerTable
from streamproc.errors import ShellError
from streamproc.shell.bench.peer.job import DEVICES, ROW, key_of
from streamproc.shell.bench.rig import (
    CACHE,
    Bar,
    bench_site,
    kafka,
    last_line,
    next_group,
    per_s,
    run_child,
    topics,
    us_per_record,
)
from streamproc.shell.bench.table import Cell, Result, Table, Target, middle, ratio, result_of
from streamproc.shell.site_file import client_settings
from streamproc.values import TOPIC_FRAMES

PARTITIONS = 4
ROUNDS = 3
SPARE_S = 90.0  # for start, join and last words of a child, beyond the time that it measures
INSTALL_S = 600.0
ROW_FRAMES = 4  # rows of each device in one batch


@dataclass(frozen=True, slots=True)
class Peer:
    """A stream processor: how it is installed, what runs in it."""

    name: str
    module: str
    style: str
    requirements: tuple[str, ...]


NUMPY = "numpy==2.4.6"
PEERS = (
    Peer(
        "FastStream batch",
        "faststream_way",
        "arrays",
        ("faststream[kafka]==0.7.8", "aiokafka==0.14.0", NUMPY),
    ),
    Peer("Bytewax batch", "bytewax_way", "arrays", ("bytewax==0.21.1", "confluent-kafka==2.16.1", NUMPY)),
    Peer("csp burst", "csp_way", "per record, C++ engine", ("csp==0.19.1", NUMPY)),
    Peer(
        "Quix Streams",
        "quix_way",
        "per record",
        ("quixstreams==3.28.1", "msgspec>=0.19", "orjson>=3.11.6", NUMPY),
    ),
    Peer("stock Faust", "faust_way", "per record", ("faust-streaming==0.15.3", "aiokafka==0.14.0", NUMPY)),
)
OURS = "ours (worker, batch seam)"


def peer(module: str) -> Peer:
    """Return the peer that runs a module."""
    return next(known for known in PEERS if known.module == module)


async def environment(wanted: Peer) -> str:
    """Return the Python of a peer's own environment, made if need be; raise ShellError if it cannot be."""
    home = (CACHE / "peers" / wanted.module.removesuffix("_way")).absolute()
    python, marker = home / "bin" / "python", home / "requirements.txt"
    told = "\n".join(wanted.requirements) + "\n"
    if python.exists() and marker.exists() and marker.read_text(encoding="utf-8") == told:
        return str(python)
    home.mkdir(parents=True, exist_ok=True)
    await _call([sys.executable, "-m", "venv", "--clear", str(home)])
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    cache = str((CACHE / "pip").absolute())
    await _call([*pip, "--cache-dir", cache, "install", *wanted.requirements])
    marker.write_text(told, encoding="utf-8")
    return str(python)


async def _call(argv: Sequence[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), INSTALL_S)
    except TimeoutError:
        raise ShellError(f"not installed within {INSTALL_S:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if process.returncode:
        raise ShellError(f"not installed: {last_line(said)}")


def measure(
    *,
    bootstrap: str | None = None,
    records: int = 400_000,
    seconds: float = 6.0,
    rounds: int = ROUNDS,
    only: Sequence[str] = (),
) -> Result:
    """Return what every way did; `only`: these peers alone, by the beginning of their module's name."""
    chosen = [known for known in PEERS if not only or known.module.removesuffix("_way") in only]
    if unknown := set(only) - {known.module.removesuffix("_way") for known in chosen}:
        raise ShellError(f"bench peers: no such peer: {', '.join(sorted(unknown))}")
    with (
        kafka(bootstrap) as address,
        Bar("bench peers", 1 + len(chosen) + rounds * (1 + len(chosen))) as bar,
        tempfile.TemporaryDirectory(prefix="peers-", dir=CACHE) as scratch,
    ):
        return uvloop.run(_measure(address, chosen, records, seconds, rounds, bar, Path(scratch).absolute()))


async def _measure(
    address: str, chosen: Sequence[Peer], records: int, seconds: float, rounds: int, bar: Bar, scratch: Path
) -> Result:
    pythons: dict[str, str] = {}
    failures = {known.name: "not asked for" for known in PEERS if known not in chosen}
    for known in chosen:
        bar.doing(f"installing {known.name}")
        try:
            pythons[known.name] = await environment(known)
        except (ShellError, OSError) as error:
            failures[known.name] = str(error)
        bar.step()
    config = bench_site(address, PARTITIONS)
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in (OURS, *pythons)}
    async with topics(config):
        bar.doing("storing records")
        stored = await _fill(config.broker, records)
        bar.step()
        asked: dict[str, Any] = {"way": "ewma", "records": stored, "seconds": seconds}
        asked |= {"bootstrap": address, "partitions": PARTITIONS, "scratch": str(scratch)}
        for _ in range(rounds):
            for name in (OURS, *pythons):
                bar.doing(name)
                if name not in failures:
                    await _run(name, asked, config, pythons.get(name), seen[name], failures, scratch)
                bar.step()
    settings: dict[str, Cell] = {"records": stored, "record_bytes": ROW.itemsize, "partitions": PARTITIONS}
    settings |= {"rounds": rounds, "seconds_per_run": seconds}
    versions = {k: v for runs in seen.values() for run in runs for k, v in run.get("versions", {}).items()}
    return result_of("peers", settings, [table(seen, failures)], targets(seen), versions=versions)


async def _run(
    name: str,
    asked: Mapping[str, Any],
    config: Any,  # noqa: ANN401
    python: str | None,
    runs: list[dict[str, Any]],
    failures: dict[str, str],
    scratch: Path,
) -> None:
    timeout_s = asked["seconds"] + SPARE_S
    wire = config.broker.topic_prefix + TOPIC_FRAMES
    try:
        if python is None:
            spec = {**asked, "site": msgspec.to_builtins(next_group(config)), "topic": TOPIC_FRAMES}
            runs.append(await run_child("own", spec, timeout_s=timeout_s))
        else:
            module = next(known.module for known in PEERS if known.name == name)
            spec = {**asked, "topic": wire}
            runs.append(await run_child(module, spec, timeout_s=timeout_s, python=python, cwd=scratch))
    except ShellError as error:
        failures[name] = str(error)


async def _fill(broker: BrokerTable, records: int) -> int:
    """Store at least so many records, all devices of a partition in turns."""
    rng, producer = (
        np.random.default_rng(1),
        AIOKafkaProducer(max_batch_size=4 << 20, **client_settings(broker)),
    )
    await producer.start()
    each = DEVICES // PARTITIONS
    pending, stored, number = [], 0, 0
    while stored < records:
        for partition in range(PARTITIONS):
            batch = producer.create_batch()
            for frame in range(number, number + ROW_FRAMES):
                rows = np.zeros(each, ROW)
                rows["t_s"] = partition * each + np.arange(each)  # csp sees no key: it stands here as well
                rows["x"] = rng.standard_normal((each, rows["x"].shape[1]))
                rows["x"][:, 0] += 60.0
                if frame % 50 == 7:
                    rows["x"][3] += 50.0
                for device in range(each):
                    key = key_of(partition * each + device)
                    batch.append(key=key, value=rows[device].tobytes(), timestamp=1_700_000_000_000 + frame)
            batch.close()
            topic = broker.topic_prefix + TOPIC_FRAMES
            pending.append(await producer.send_batch(batch, topic, partition=partition))
        stored += PARTITIONS * each * ROW_FRAMES
        number += ROW_FRAMES
    await asyncio.gather(*pending)
    await producer.stop()
    return stored


def table(seen: Mapping[str, Sequence[Mapping[str, Any]]], failures: Mapping[str, str]) -> Table:
    """Return a row for every way; what could not be measured says why."""
    ours_us = middle(us_per_record(run) for run in seen.get(OURS, ()))
    rows: list[tuple[Cell, ...]] = []
    for name, style in [(OURS, "arrays"), *((known.name, known.style) for known in PEERS)]:
        runs = seen.get(name, ())
        if not runs:
            rows.append((name, style, None, None, None, None, None, failures.get(name, "no run")))
            continue
        cpu_us = middle(us_per_record(run) for run in runs)
        fastest, slowest = max(map(us_per_record, runs)), min(map(us_per_record, runs))
        version = next(iter(runs[0].get("versions", {}).items()), None)
        told = " ".join(version) if version else "this package"
        if name in failures:
            told += f"; then: {failures[name]}"
        rows.append(
            (
                name,
                style,
                middle(map(per_s, runs)),
                cpu_us,
                f"{slowest:.1f} to {fastest:.1f}",
                ratio(cpu_us, ours_us),
                runs[0].get("alerts"),
                told,
            )
        )
    head = ("way", "style", "records/s", "us CPU/record", "from, to", "x ours", "alerts", "version")
    note = "Alerts agree where all records were read within the time of a run."
    return Table(title="The same job on the same records", head=head, rows=tuple(rows), note=note)


def targets(seen: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Target]:
    """Return one target: no peer needs less CPU per record than ours."""
    ours = middle(us_per_record(run) for run in seen.get(OURS, ()))
    theirs = [middle(us_per_record(run) for run in runs) for name, runs in seen.items() if name != OURS]
    best = min((value for value in theirs if value is not None), default=None)
    name = "CPU per record of the best peer, over ours"
    return [Target(name=name, sign=">=", goal=1.0, measured=ratio(best, ours), unit="x")]
