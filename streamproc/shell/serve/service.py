"""The server as a process: start, ready, drain.

On SIGTERM /readyz says no, no new connection is taken, and what is being answered is answered (at most DRAIN_S).
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web

from streamproc.config import ServeTable, SiteConfig
from streamproc.errors import ConfigError, ShellError
from streamproc.shell.forecast_model import OnnxForecaster
from streamproc.shell.serve.batcher import BatchLimits
from streamproc.shell.serve.catalogue import Catalogue, offered
from streamproc.shell.serve.clients import Allowance, Clients
from streamproc.shell.serve.door import Door
from streamproc.shell.serve.http import HttpDoor
from streamproc.shell.serve.live import LiveForecasts
from streamproc.shell.serve.meter import Meter
from streamproc.shell.serve.people import People
from streamproc.shell.serve.rpc import RpcDoor
from streamproc.shell.site_file import secret

DRAIN_S = 10.0


class Service:
    """Both transports over one door."""

    def __init__(self, config: SiteConfig, *, live: bool = False, catalogue: Catalogue | None = None) -> None:
        table = self._table = config.serve
        self._ready = False
        self._live = LiveForecasts(config.broker) if live else None
        limits = BatchLimits(table.batch_rows_max, table.queue_rows_max, table.batch_wait_us)
        self._door = Door(catalogue or offered(config), limits, Meter(), table.timeout_ms / 1000)
        self._clients = Clients(
            [
                (
                    Allowance(c.name, c.rate_per_s, c.at_once),
                    "" if c.key is None else secret(c.key, "application.key"),
                )
                for c in config.application
            ],
            Allowance("", table.rate_per_s, table.at_once),
        )
        self._people = People(
            config,
            OnnxForecaster.load(),
            None if self._live is None else self._live.newest,
            lambda: time.time_ns() // 1000,
        )
        self._runner: web.ServerRunner | None = None
        self._rpc: Any = None
        self.http_port = self.grpc_port = 0

    @property
    def ready(self) -> bool:
        """Return whether requests are answered."""
        return self._ready and (self._live is None or self._live.connected)

    async def start(self) -> None:
        """Listen; raises ShellError if an address is taken, ConfigError if a file of TLS cannot be used."""
        table = self._table
        if self._live is not None:
            self._live.start(time.time_ns() // 1_000_000)
        door = HttpDoor(
            self._door, self._clients, self._people, ready=lambda: self.ready, body_max=table.body_max_bytes
        )
        loop = asyncio.get_running_loop()
        server = web.Server(
            door.handle,
            request_factory=partial(_request, loop, table.body_max_bytes),
            handler_cancellation=True,
            access_log=None,
        )
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=DRAIN_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, table.host, table.http_port, ssl_context=_tls(table)).start()
        except OSError as error:
            raise ShellError(
                f"cannot listen on {table.host} port {table.http_port}: {error.strerror}"
            ) from error
        self.http_port = self._runner.addresses[0][1]
        if table.grpc_port >= 0:
            await self._start_grpc(table)
        self._ready = True

    async def _start_grpc(self, table: ServeTable) -> None:
        most = [
            ("grpc.max_receive_message_length", table.body_max_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self._rpc = grpc.aio.server(options=most)
        self._rpc.add_generic_rpc_handlers((RpcDoor(self._door, self._clients, ready=lambda: self.ready),))
        address = f"{table.host}:{table.grpc_port}"
        credentials = _rpc_tls(table)
        try:
            self.grpc_port = (
                self._rpc.add_insecure_port(address)
                if credentials is None
                else self._rpc.add_secure_port(address, credentials)
            )
        except RuntimeError as error:
            raise ShellError(f"cannot listen on {address}: {error}") from error
        await self._rpc.start()

    async def stop(self) -> None:
        """Drain and end."""
        self._ready = False
        if self._rpc is not None:
            await self._rpc.stop(DRAIN_S)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._live is not None:
            await self._live.stop()
        self._door.close()
        self._people.close()


async def serve(config: SiteConfig, say: Callable[[str], None], *, live: bool) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    service = Service(config, live=live)
    try:
        await service.start()
        scheme = "https" if config.serve.cert_file else "http"
        say(
            f"HTTP {scheme}://{config.serve.host}:{service.http_port}  (/openapi.json lists what may be asked)"
        )
        if service.grpc_port:
            say(f"gRPC {config.serve.host}:{service.grpc_port}")
        await over.wait()
        say("draining")
    finally:
        await service.stop()


def _request(
    loop: asyncio.AbstractEventLoop,
    body_max_bytes: int,
    message: Any,  # noqa: ANN401
    payload: Any,  # noqa: ANN401
    protocol: Any,  # noqa: ANN401
    writer: Any,  # noqa: ANN401
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """Return a request whose body may be this long, as aiohttp's own application makes it."""
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=body_max_bytes)


def _tls(table: ServeTable) -> ssl.SSLContext | None:
    if table.cert_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(table.cert_file, table.key_file)
        if table.client_ca_file is not None:
            context.load_verify_locations(table.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"serve.cert_file, key_file, client_ca_file: cannot be used: {error}") from error
    return context


def _rpc_tls(table: ServeTable) -> Any:  # noqa: ANN401 - grpc has no types
    if table.cert_file is None or table.key_file is None:
        return None
    roots = None if table.client_ca_file is None else Path(table.client_ca_file).read_bytes()
    pair = (Path(table.key_file).read_bytes(), Path(table.cert_file).read_bytes())
    return grpc.ssl_server_credentials([pair], roots, require_client_auth=roots is not None)
