"""The HTTP side: the Open Inference Protocol v2, the higher door, probes, metrics.

    GET  /v2  /v2/health/live  /v2/health/ready  /v2/models/M[/versions/V][/ready]
    POST /v2/models/M[/versions/V]/infer          JSON, or JSON and bytes (Inference-Header-Content-Length)
    POST /v1/forecast  /v1/score                  for people: names, times and units
    GET  /openapi.json  /metrics  /livez  /readyz

Routes are looked up in a table made once, not matched: a request costs a tenth of a millisecond in all. A client that
hangs up frees its place (its handler is cancelled).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import unquote

import orjson
from aiohttp import web

from streamproc import __version__
from streamproc.core.oip import answer, parse
from streamproc.errors import RequestError
from streamproc.shell.serve.catalogue import Served
from streamproc.shell.serve.clients import Clients
from streamproc.shell.serve.door import Door
from streamproc.shell.serve.openapi import document
from streamproc.shell.serve.people import People

log = logging.getLogger(__name__)

HEADER_LENGTH = "Inference-Header-Content-Length"
EXTENSIONS = ["binary_tensor_data"]
JSON = "application/json"
OPEN_PATHS = {"/v2/health/live", "/v2/health/ready", "/livez", "/readyz"}  # a probe has no key

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.Response]]


class HttpDoor:
    """Requests of HTTP into the door."""

    def __init__(
        self,
        door: Door,
        clients: Clients,
        people: People,
        *,
        ready: Callable[[], bool],
        body_max: int,
    ) -> None:
        self._door, self._clients, self._people = door, clients, people
        self._ready = ready
        self._body_max = body_max
        self._routes: dict[tuple[str, str], tuple[str, Handler]] = {}
        self._add_routes()

    def _add_routes(self) -> None:
        catalogue = self._door.catalogue
        for path, tree in (
            ("/v2", {"name": "streamproc", "version": __version__, "extensions": EXTENSIONS}),
            ("/v2/health/live", {"live": True}),
            ("/livez", {"ok": True}),
            ("/openapi.json", document(catalogue)),
            ("/v2/models", {"models": sorted(catalogue.models)}),
        ):
            self._add("GET", path, _fixed(tree))
        self._add("GET", "/v2/health/ready", self._get_ready)
        self._add("GET", "/readyz", self._get_ready)
        self._add("GET", "/metrics", self._get_metrics)
        self._add("POST", "/v1/forecast", self._post_forecast)
        self._add("POST", "/v1/score", self._post_score)
        for model in catalogue.models.values():
            for path in (f"/v2/models/{model.name}", f"/v2/models/{model.name}/versions/{model.version}"):
                self._add("GET", path, _fixed(model.as_json()), model.name)
                self._add("GET", f"{path}/ready", self._get_ready, model.name)
                self._add("POST", f"{path}/infer", self._infer(model), model.name)

    def _add(self, method: str, path: str, handler: Handler, model: str = "") -> None:
        self._routes[method, path] = (model, handler)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; never raises but for a client that has gone."""
        begun_s = time.perf_counter()
        path = request.raw_path.partition("?")[0]
        model, handler = self._routes.get((request.method, path), ("", self._nowhere))
        meter = self._door.meter
        meter.open.inc()
        status = 499  # the client hung up
        try:
            response = await self._asked(request, path, handler)
            status = response.status
        except RequestError as error:
            status = error.status
            response = _refused(error)
        except asyncio.CancelledError:
            raise
        except Exception:
            status = 500
            log.exception("%s %s", request.method, path)
            response = _refused(RequestError(500, "an error of the server; its log says more"))
        finally:
            meter.open.dec()
            meter.answered("http", model, status, time.perf_counter() - begun_s)
        return response

    async def _asked(self, request: web.BaseRequest, path: str, handler: Handler) -> web.Response:
        if path in OPEN_PATHS:
            return await handler(request)
        client = self._clients.of(_Lowered(request), request.remote or "", _certificate_name(request))
        client.enter()
        try:
            return await handler(request)
        finally:
            client.leave()

    def _infer(self, model: Served) -> Handler:
        async def infer(request: web.BaseRequest) -> web.Response:
            body = await self._body(request)
            told = request.headers.get(HEADER_LENGTH)
            if told is not None and not (told.isascii() and told.isdigit()):
                raise RequestError(400, f"{HEADER_LENGTH}: {told!r:.40} is no number of bytes")
            asked = parse(body, model.inputs, None if told is None else int(told))
            specs, arrays = await self._door.infer(model, asked)
            made, head_bytes = answer(model.name, model.version, asked, specs, arrays)
            if head_bytes is None:
                return web.Response(body=made, content_type=JSON)
            return web.Response(
                body=made,
                content_type="application/octet-stream",
                headers={HEADER_LENGTH: str(head_bytes)},
            )

        return infer

    async def _body(self, request: web.BaseRequest) -> bytes:
        if request.content_length is not None and request.content_length > self._body_max:
            raise RequestError(413, f"the body has {request.content_length} bytes, at most {self._body_max}")
        if request.headers.get("Content-Encoding", "identity").lower() not in ("identity", "gzip", "deflate"):
            raise RequestError(415, "Content-Encoding: only gzip and deflate are read")
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise RequestError(413, f"the body has more than {self._body_max} bytes") from error
        except web.HTTPException as error:
            raise RequestError(error.status, error.reason) from error

    async def _tree(self, request: web.BaseRequest) -> Any:  # noqa: ANN401 - it is JSON
        try:
            return orjson.loads(await self._body(request))
        except orjson.JSONDecodeError as error:
            raise RequestError(400, f"the body is not JSON: {error.msg} at line {error.lineno}") from error

    async def _post_forecast(self, request: web.BaseRequest) -> web.Response:
        return await _told(await self._people.forecast(await self._tree(request)))

    async def _post_score(self, request: web.BaseRequest) -> web.Response:
        return await _told(await self._people.score(await self._tree(request)))

    async def _get_ready(self, _request: web.BaseRequest) -> web.Response:
        ready = self._ready()
        return await _told({"ready": ready}, 200 if ready else 503)

    async def _get_metrics(self, _request: web.BaseRequest) -> web.Response:
        return web.Response(body=self._door.meter.expose(), content_type="text/plain", charset="utf-8")

    async def _nowhere(self, request: web.BaseRequest) -> web.Response:
        path = unquote(request.raw_path.partition("?")[0])
        allowed = sorted(method for method, known in self._routes if known == path)
        if allowed:
            response = _refused(RequestError(405, f"{request.method} {path}: only {', '.join(allowed)}"))
            response.headers["Allow"] = ", ".join(allowed)
            return response
        if path.startswith("/v2/models/"):
            parts = path.split("/")
            self._door.model(parts[3], parts[5] if len(parts) > 5 and parts[4] == "versions" else "")
        raise RequestError(404, f"{path[:120]}: no such path; /openapi.json lists them")


class _Lowered(dict[str, str]):
    """The headers of a request by lower-case name, read when asked."""

    def __init__(self, request: web.BaseRequest) -> None:
        super().__init__()
        self._request = request

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        return self._request.headers.get(name, default)


def _certificate_name(request: web.BaseRequest) -> str:
    """Return the common name of the client's certificate, "" without one."""
    transport = request.transport
    certificate = None if transport is None else transport.get_extra_info("peercert")
    if not certificate:
        return ""
    return next(
        (value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"), ""
    )


def _fixed(tree: object) -> Handler:
    """Return what always gives this answer."""
    return lambda _request: _told(tree)


async def _told(tree: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(tree), status=status, content_type=JSON)


def _refused(error: RequestError) -> web.Response:
    headers = {"Retry-After": "1"} if error.status in (429, 503) else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(
        body=orjson.dumps({"error": str(error)}), status=error.status, content_type=JSON, headers=headers
    )
