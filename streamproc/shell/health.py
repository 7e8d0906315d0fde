"""The HTTP side of a worker, on loopback by default: metrics, probes, version. Read only.

    /metrics   Prometheus text
    /livez     200 while the worker makes progress (its positions move or are proven idle), else 503
    /readyz    200 when it is connected, warmed up and has its partitions
    /version   version of the package

Liveness is progress, not mere life: a worker that hangs is worth more dead. The two probes ask callables of
the worker that return their reasons against; no reason means yes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson
from aiohttp import web

from streamproc import __version__
from streamproc.errors import ShellError
from streamproc.shell.metrics import CONTENT_TYPE, Metrics

Reasons = Callable[[], Sequence[str]]


def no_reason() -> Sequence[str]:
    """Say yes."""
    return ()


class HealthServer:
    """One small HTTP server inside the worker's event loop."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        not_live: Reasons = no_reason,
        not_ready: Reasons = no_reason,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._metrics = metrics
        self._not_live, self._not_ready = not_live, not_ready
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Return "http://HOST:PORT" with the port that was really taken."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def start(self) -> None:
        """Listen; raise ShellError if the address is taken."""
        app = web.Application()
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/livez", self._get_livez)
        app.router.add_get("/readyz", self._get_readyz)
        app.router.add_get("/version", self._get_version)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise ShellError(f"cannot listen on {self._host} port {self._port}: {error.strerror}") from error
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the server; open requests get a second."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _get_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.expose(), headers={"Content-Type": CONTENT_TYPE})

    async def _get_livez(self, _request: web.Request) -> web.Response:
        return _probe(self._not_live())

    async def _get_readyz(self, _request: web.Request) -> web.Response:
        return _probe(self._not_ready())

    async def _get_version(self, _request: web.Request) -> web.Response:
        return web.json_response({"name": "streamproc", "version": __version__})


def _probe(reasons: Sequence[str]) -> web.Response:
    body = orjson.dumps({"ok": not reasons, "reasons": list(reasons)})
    return web.Response(body=body, status=503 if reasons else 200, content_type="application/json")
