"""What `streamproc check` looks at on this machine: models, disk, memory, open files, clock, the HTTP port.

Nothing is written: free space is asked of the file system, the port is bound for an instant and given back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import orjson

from streamproc.config import SiteConfig, WorkerTable
from streamproc.errors import ConfigError, ModelError
from streamproc.shell.checks.line import Line, fail, look_up, ok, one_line, warn
from streamproc.shell.forecast_model import OnnxForecaster
from streamproc.shell.models import Bundle, ModelSet

MB = 1024 * 1024
DISK_WARN_MB = 1024
MEMORY_WARN_MB, MEMORY_FAIL_MB = 768, 256  # a worker with its models takes 200 to 400
FILES_WARN, FILES_FAIL = 1024, 128  # sockets to every broker, several clients, the HTTP side
CLOCK_ERROR_MAX_MS = 100.0  # a latency of some milliseconds cannot be told beyond this
HTTP_TIMEOUT_S = 2.0
LOOK_UP_TIMEOUT_S = 3.0
MODELS_SHOWN = 4  # one by one; more are counted

_STA_UNSYNC, _TIME_ERROR = 0x0040, 5  # linux/timex.h


def check_models(config: SiteConfig) -> tuple[list[Line], Bundle | None]:
    """Load every model as a worker does (digest, operators, golden vectors); also return the site bundle."""
    name = config.worker.bundle
    try:
        site = Bundle.load(Path(name)) if name is not None else None
        generic = Bundle.load(None)
        ModelSet(site, generic, config.detector)
        forecaster = OnnxForecaster.load()
    except (ModelError, ConfigError) as error:
        todo = "make the bundle again with `streamproc train`, or leave worker.bundle away: the generic one serves"
        return [fail("models", one_line(error), todo)], None
    lines = [
        ok("models", f"{_told(bundle)}: digests and golden vectors are right")
        for bundle in (site, generic)
        if bundle is not None
    ]
    lines.append(
        ok("models", f"forecast bundle {forecaster.digest[:12]}: digests and golden vectors are right")
    )
    if site is not None:
        lines += _fit(config, site)
    return lines, site


def _told(bundle: Bundle) -> str:
    tables = [model.table for model in bundle.models]
    if len(tables) > MODELS_SHOWN:
        rates = ", ".join(f"{table.rate_hz:g}" for table in tables)
        return f"bundle {bundle.name} ({len(tables)} models, for {rates} frames/s)"
    parts = [f"area {t.area} {t.rate_hz:g} frames/s {t.digest[:12]}" for t in tables]
    return f"bundle {bundle.name} ({', '.join(parts)})"


def _fit(config: SiteConfig, site: Bundle) -> list[Line]:
    """Say where the bundle of a site and its file speak of different things."""
    lines = []
    areas = {area.name for area in config.area}
    for table in (model.table for model in site.models):
        nominal_hz = config.site.nominal_hz
        if nominal_hz is not None and table.nominal_hz not in (0.0, nominal_hz):
            told = f"{table.name} was fitted at {table.nominal_hz:g} Hz, site.nominal_hz is {nominal_hz:g}"
            lines.append(fail("models", told, "use the bundle of this site: the model would never be chosen"))
        if areas and table.area not in areas:
            told = f"{table.name} is for area {table.area}, which is no [[area]] of the site file"
            lines.append(
                warn("models", told, "correct the name, or train with this one: the generic model serves")
            )
    return lines


def check_rates(rates_hz: Mapping[str, set[float]], site: Bundle | None) -> list[Line]:
    """Hold the reporting rates of the configuration frames (by IDCODE) against those of the models."""
    if not rates_hz:
        told = "no configuration frame is in the config topic: whether the models fit its rates shows later"
        return [ok("rate", told)]
    streams: dict[float, list[str]] = {}
    for stream, rates in sorted(rates_hz.items()):
        for rate in rates:
            streams.setdefault(rate, []).append(stream)
    generic = {model.table.rate_hz for model in Bundle.load(None).models}
    own = {model.table.rate_hz for model in site.models} if site is not None else generic
    lines = []
    for rate, names in sorted(streams.items()):
        told = f"{rate:g} frames/s ({len(names)} streams: {', '.join(names[:5])})"
        if rate in own:
            lines.append(ok("rate", f"{told}: there are models for it"))
        elif rate in generic:
            todo = "train for this rate; until then the generic model serves"
            lines.append(warn("rate", f"{told}: no model of the bundle is for it", todo))
        else:
            todo = "the one of the nearest rate is used: train a model for this one"
            lines.append(warn("rate", f"{told}: no model is for it", todo))
    return lines


def check_disk(places: dict[str, Path]) -> list[Line]:
    """Look at the free space where something may be written; `places`: what for -> directory.

    Never a failure: a worker keeps nothing in files.
    """
    lines = []
    for what, place in places.items():
        there = next(p for p in (place, *place.parents) if p.exists())
        space = os.statvfs(there)
        free_mb, nodes = space.f_bavail * space.f_frsize / MB, space.f_favail
        told = f"{free_mb:,.0f} MB free in {place} ({what})"
        todo = f"make room on the file system of {there}"
        if free_mb < DISK_WARN_MB:
            lines.append(warn("disk", told, todo))
        elif space.f_files and nodes < 100:
            lines.append(warn("disk", f"{told}, but only {nodes} files can be made", todo))
        else:
            lines.append(ok("disk", told))
    return lines


def written_places() -> dict[str, Path]:
    """Return where streamproc may write. The worker itself keeps nothing in files, and logs to stderr."""
    return {
        "the log, if stderr goes to a file here; .cache of demo and bench": Path.cwd(),
        "temporary files": Path(tempfile.gettempdir()),
    }


def check_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> Line:
    """Look at the memory that is left: of the machine, or of our cgroup if that is less."""
    try:
        rows = dict(row.split(":", 1) for row in (proc / "meminfo").read_text().splitlines() if ":" in row)
        free_mb, where = int(rows["MemAvailable"].split()[0]) / 1024, "of the machine (MemAvailable)"
    except (OSError, KeyError, ValueError):
        return warn("memory", "this system does not say how much is free (/proc/meminfo)")
    try:
        left = int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text())
        if left / MB < free_mb:
            free_mb, where = left / MB, "of the container (memory.max)"
    except (OSError, ValueError):
        pass  # no limit ("max"), or no cgroup of the second kind
    told = f"{free_mb:,.0f} MB left {where}"
    if free_mb < MEMORY_FAIL_MB:
        return fail("memory", told, f"a worker needs {MEMORY_FAIL_MB} MB at least: raise the limit")
    if free_mb < MEMORY_WARN_MB:
        return warn("memory", told, f"below {MEMORY_WARN_MB} MB a busy worker may be ended by the kernel")
    return ok("memory", told)


def check_files() -> Line:
    """Look at the limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = f"at most {'unlimited' if soft == resource.RLIM_INFINITY else soft} open files"
    if soft != resource.RLIM_INFINITY and soft < FILES_WARN:
        todo = f"`ulimit -n {FILES_WARN}` or LimitNOFILE= of the unit (the hard limit is {hard})"
        return fail("files", told, todo) if soft < FILES_FAIL else warn("files", told, todo)
    return ok("files", told)


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2), as far as it is read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def read_kernel_clock() -> tuple[bool, float] | None:
    """Return (is disciplined, largest possible error in ms) as the kernel has it; None where it says nothing."""
    if sys.platform != "linux":
        return None
    timex = _Timex()  # modes 0: read only
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        return None
    return state != _TIME_ERROR and not timex.status & _STA_UNSYNC, timex.maxerror / 1000


def check_clock(found: tuple[bool, float] | None) -> Line:
    """Say whether this clock is kept right by NTP or PTP, as the kernel knows it (adjtimex)."""
    if found is None:
        return warn("clock", "the kernel does not say whether the clock is synchronised (no adjtimex)")
    disciplined, error_ms = found
    todo = (
        "run chronyd, ntpd, systemd-timesyncd or ptp4l; latencies and silences are measured with this clock"
    )
    if not disciplined:
        return warn("clock", "nothing keeps this clock right (adjtimex: not synchronised)", todo)
    told = f"synchronised, off by {error_ms:,.1f} ms at most (adjtimex)"
    return warn("clock", told, todo) if error_ms > CLOCK_ERROR_MAX_MS else ok("clock", told)


async def check_port(worker: WorkerTable) -> Line:
    """Say whether the HTTP port is free, or served by a worker of ours already."""
    host, port = worker.http_host, worker.http_port
    if port == 0:
        return ok("port", f"any free port of {host}")
    where = f"{host} port {port}"
    try:
        family, kind, proto, _, address = (await look_up(host, LOOK_UP_TIMEOUT_S))[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address[0], port, *address[2:]))
            probe.listen(1)
    except (socket.gaierror, TimeoutError) as error:
        why = one_line(error) or "the name service does not answer"
        return fail("port", f"{host}: {why}", "set worker.http_host to an address of this machine")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return await _served(worker, where)
        todo = (
            "a port below 1024 needs a right: take one above"
            if error.errno == errno.EACCES
            else ("set worker.http_host to an address of this machine, 0.0.0.0 for all")
        )
        return fail("port", f"{where}: {error.strerror}", todo)
    return ok("port", f"{where} is free")


async def _served(worker: WorkerTable, where: str) -> Line:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(worker.http_host, worker.http_host)  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{worker.http_port}"
    taken = fail("port", f"{where} is taken by another program", "set worker.http_port to a free one, or 0")
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HTTP_TIMEOUT_S)) as session:
            async with session.get(f"{url}/version") as reply:
                version = orjson.loads(await reply.content.read(1000))
            if version["name"] != "streamproc":
                return taken
            async with session.get(f"{url}/readyz") as reply:
                ready = orjson.loads(await reply.content.read(10_000))
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
        return taken
    told = f"{where}: streamproc {version['version']} answers there"
    if ready.get("ok"):
        return ok("port", f"{told} and is ready")
    todo = "a second worker on this machine needs another port"
    return warn("port", f"{told}, not ready: {one_line('; '.join(ready.get('reasons', ())))}", todo)
