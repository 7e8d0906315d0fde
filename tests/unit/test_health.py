"""Protects the probes: they say why not, they follow the worker, and the server gives its port back."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from streamproc import __version__
from streamproc.errors import ShellError
from streamproc.shell.health import HealthServer
from streamproc.shell.metrics import Metrics


def run(server: HealthServer, *paths: str) -> list[tuple[int, str, str]]:
    async def ask() -> list[tuple[int, str, str]]:
        await server.start()
        try:
            async with aiohttp.ClientSession(server.url) as session:
                found = []
                for path in paths:
                    async with session.get(path) as reply:
                        found.append((reply.status, reply.headers["Content-Type"], await reply.text()))
                return found
        finally:
            await server.stop()

    return asyncio.run(ask())


def test_metrics_and_version_are_served() -> None:
    (metrics, version) = run(HealthServer(Metrics()), "/metrics", "/version")
    assert metrics[0] == 200
    assert metrics[1].startswith("text/plain; version=0.0.4")
    assert "streamproc_build_info{" in metrics[2]
    assert version[2] == f'{{"name": "streamproc", "version": "{__version__}"}}'


def test_the_probes_give_their_reasons() -> None:
    server = HealthServer(Metrics(), not_ready=lambda: ["no partitions yet"])
    (live, ready) = run(server, "/livez", "/readyz")
    assert live == (200, "application/json", '{"ok":true,"reasons":[]}')
    assert ready == (503, "application/json", '{"ok":false,"reasons":["no partitions yet"]}')


def test_a_stalled_worker_is_not_live() -> None:
    server = HealthServer(Metrics(), not_live=lambda: ["grid.pmu.frames.v1/0 stands still for 31 s"])
    assert run(server, "/livez")[0][0] == 503


def test_nothing_else_is_served() -> None:
    assert (
        run(HealthServer(Metrics()), "/", "/metrics/../etc/passwd")
        == [(404, "text/plain; charset=utf-8", "404: Not Found")] * 2
    )


def test_a_port_that_is_taken_is_one_clear_sentence() -> None:
    async def both() -> None:
        first = HealthServer(Metrics())
        await first.start()
        port = int(first.url.rpartition(":")[2])
        second = HealthServer(Metrics(), port=port)
        try:
            with pytest.raises(ShellError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: "):
                await second.start()
        finally:
            await first.stop()
        await second.start()
        await second.stop()

    asyncio.run(both())
