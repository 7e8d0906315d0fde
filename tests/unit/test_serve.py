"""Protects `streamproc serve`: both transports answer alike, and refuse what they should."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from streamproc.config import ApplicationTable, ServeTable, SiteConfig
from streamproc.errors import ConfigError
from streamproc.shell.forecast_model import OnnxForecaster
from streamproc.shell.serve.catalogue import Catalogue, Served, served
from streamproc.shell.serve.service import Service
from streamproc.shell.site_file import parse_site
from tools.inference_proto import PROTO, compiled

HISTORY = np.random.default_rng(1).normal(100.0, 3.0, (2, 60)).astype(np.float32)


def forecast_models() -> dict[str, Served]:
    forecaster = OnnxForecaster.load()
    made = [served(f"forecast-{m}min", "1", forecaster.digest, s) for m, s in forecaster.sessions.items()]
    return {model.name: model for model in made}


def slow(model: Served, seconds: float, calls: list[int]) -> Served:
    """Return the model with calls that take this long, on the thread."""

    def call(arrays: Any) -> Any:
        calls.append(next(iter(arrays.values())).shape[0])
        time.sleep(seconds)
        return model.call(arrays)

    return Served("slow", "1", "d", model.inputs, model.outputs, call, model.batched, False, 0.0)


class Running:
    """A service in a thread of its own."""

    def __init__(
        self, table: ServeTable, models: list[Served], known: tuple[ApplicationTable, ...] = ()
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.service = self.do(self._made(table, models, known))
        self.do(self.service.start())

    async def _made(
        self, table: ServeTable, models: list[Served], known: tuple[ApplicationTable, ...]
    ) -> Service:
        return Service(SiteConfig(serve=table, application=known), catalogue=Catalogue(models))

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def stop(self) -> None:
        self.do(self.service.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.service.http_port, timeout=20)
        connection.request(method, path, raw, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        told = answer.read()
        connection.close()
        is_json = answer.getheader("Content-Type", "").startswith("application/json")
        return answer.status, orjson.loads(told) if is_json else told


OPEN = ServeTable(http_port=0, grpc_port=0)
INFER = "/v2/models/forecast-1min/infer"


def asked(history: np.ndarray = HISTORY) -> dict[str, Any]:
    tensor = {"name": "history", "shape": list(history.shape), "datatype": "FP32", "data": history.tolist()}
    return {"inputs": [tensor]}


@pytest.fixture(scope="module")
def models() -> dict[str, Served]:
    return forecast_models()


@pytest.fixture(scope="module")
def server(models: dict[str, Served]) -> Iterator[Running]:
    running = Running(OPEN, list(models.values()))
    yield running
    running.stop()


@pytest.mark.parametrize("kind", ["http-json", "http-binary", "grpc"])
def test_a_foreign_client_gets_what_the_model_says(
    server: Running, models: dict[str, Served], kind: str
) -> None:
    foreign: Any = triton_grpc if kind == "grpc" else triton_http
    port = server.service.grpc_port if kind == "grpc" else server.service.http_port
    client = foreign.InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("forecast-1min")
    metadata = client.get_model_metadata("forecast-1min")
    inputs = metadata.inputs[0].shape if kind == "grpc" else metadata["inputs"][0]["shape"]
    assert list(inputs) == [-1, 60]
    tensor = foreign.InferInput("history", [2, 60], "FP32")
    outputs = None
    if kind == "http-json":
        tensor.set_data_from_numpy(HISTORY, binary_data=False)
        outputs = [foreign.InferRequestedOutput("quantiles", binary_data=False)]
    else:
        tensor.set_data_from_numpy(HISTORY)
    made = client.infer("forecast-1min", [tensor], outputs=outputs).as_numpy("quantiles")
    wanted = models["forecast-1min"].call({"history": HISTORY})[0]
    assert np.allclose(made, wanted, rtol=1e-6)
    with pytest.raises(InferenceServerException, match="no model 'other'"):
        client.infer("other", [tensor])
    short = foreign.InferInput("history", [2, 59], "FP32")
    short.set_data_from_numpy(np.ascontiguousarray(HISTORY[:, :59]))
    with pytest.raises(InferenceServerException, match=r"\[2, 59\], the model takes \[-1, 60\]"):
        client.infer("forecast-1min", [short])
    client.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/models/forecast-1min/versions/1", 200),
        ("GET", "/v2/models/forecast-1min/versions/1/ready", 200),
        ("GET", "/v2/models/forecast-1min/versions/7", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("GET", INFER, 405),
        ("GET", "/v3", 404),
        ("POST", INFER, 400),
        ("GET", "/metrics", 200),
        ("GET", "/livez", 200),
    ],
)
def test_each_path_has_its_status(server: Running, method: str, path: str, status: int) -> None:
    assert server.ask(method, path, b"" if method == "POST" else None)[0] == status


def test_a_version_in_the_path_is_the_same_model(server: Running) -> None:
    told = server.ask("POST", "/v2/models/forecast-1min/versions/1/infer", asked())
    assert told == server.ask("POST", INFER, asked())


def test_requests_that_wait_together_are_one_call(models: dict[str, Served]) -> None:
    calls: list[int] = []
    running = Running(OPEN, [slow(models["forecast-1min"], 0.3, calls)])
    answers: list[tuple[int, Any]] = [(0, None)] * 6

    def one(place: int) -> None:
        row = HISTORY[place % 2 : place % 2 + 1] + place
        answers[place] = running.ask("POST", "/v2/models/slow/infer", asked(row))

    threads = [threading.Thread(target=one, args=(place,)) for place in range(6)]
    threads[0].start()
    time.sleep(0.1)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    running.stop()
    assert calls == [1, 5]
    for place, (status, told) in enumerate(answers):
        assert status == 200
        alone = models["forecast-1min"].call({"history": HISTORY[place % 2 : place % 2 + 1] + place})[0]
        assert np.allclose(told["outputs"][0]["data"], alone.reshape(-1), rtol=1e-5)


def test_deadlines_limits_and_clients_that_hang_up(models: dict[str, Served]) -> None:
    calls: list[int] = []
    table = ServeTable(http_port=0, grpc_port=0, at_once=3, queue_rows_max=2, body_max_bytes=4000)
    running = Running(table, [slow(models["forecast-1min"], 0.5, calls)])
    path, one = "/v2/models/slow/infer", asked(HISTORY[:1])
    try:
        status, told = running.ask("POST", path, {**one, "parameters": {"timeout": 100_000}})
        assert (status, "no answer within 0.1 s" in told["error"]) == (504, True)
        status, told = running.ask("POST", path, asked(np.repeat(HISTORY, 4, 0)))
        assert (status, "at most 4000" in told["error"]) == (413, True)
        time.sleep(0.6)
        sockets = []
        raw = orjson.dumps(one)
        for _ in range(3):
            gone = socket.create_connection(("127.0.0.1", running.service.http_port))
            gone.sendall(
                b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(raw)) + raw
            )
            sockets.append(gone)
            time.sleep(0.05)
        status, told = running.ask("POST", path, one)
        assert (status, "3 requests at once" in told["error"]) == (429, True)
        for gone in sockets:
            gone.close()
        time.sleep(0.2)
        before = len(calls)
        assert running.ask("POST", path, one)[0] == 200
        assert sum(calls[before:]) == 1  # nothing was computed for those who have gone
        client = triton_grpc.InferenceServerClient(f"127.0.0.1:{running.service.grpc_port}")
        tensor = triton_grpc.InferInput("history", [1, 60], "FP32")
        tensor.set_data_from_numpy(HISTORY[:1])
        with pytest.raises(InferenceServerException, match=r"(?i)deadline"):
            client.infer("slow", [tensor], client_timeout=0.1)
        client.close()
    finally:
        running.stop()


def test_only_who_has_a_key_may_ask(
    models: dict[str, Served], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DISPATCH_KEY", "first")
    (tmp_path / "key").write_text("second\n")
    clients = (
        ApplicationTable(name="dispatch", key="env:DISPATCH_KEY"),
        ApplicationTable(name="market", key=f"file:{tmp_path}/key", rate_per_s=1.0),
    )
    running = Running(OPEN, [models["forecast-1min"]], clients)
    try:
        assert running.ask("GET", "/livez")[0] == 200
        assert running.ask("GET", "/v2")[0] == 401
        assert running.ask("GET", "/metrics")[0] == 401
        assert running.ask("GET", "/v2", Authorization="Bearer guess")[0] == 401
        assert running.ask("POST", INFER, asked(), Authorization="Bearer first")[0] == 200
        assert running.ask("POST", INFER, asked(), X_API_Key="second")[0] == 200
        assert running.ask("POST", INFER, asked(), X_API_Key="second")[0] == 429
        client = triton_grpc.InferenceServerClient(f"127.0.0.1:{running.service.grpc_port}")
        tensor = triton_grpc.InferInput("history", [2, 60], "FP32")
        tensor.set_data_from_numpy(HISTORY)
        with pytest.raises(InferenceServerException, match="no known API key"):
            client.infer("forecast-1min", [tensor])
        assert client.infer("forecast-1min", [tensor], headers={"authorization": "Bearer first"})
        client.close()
    finally:
        running.stop()


def test_people_ask_by_history(server: Running) -> None:
    body = {
        "interval_min": 15,
        "history": [10.0, 11, None, 12, 13, 14, 15, 16, 17, 18, 19],
        "until": "2026-01-31T12:00:00Z",
    }
    status, told = server.ask("POST", "/v1/forecast", body)
    assert status == 200
    assert told["valid_at"][0] == "2026-01-31T12:15:00.000Z"
    assert told["quantiles"]["P05"][0] < told["quantiles"]["P50"][0] < told["quantiles"]["P95"][0]
    assert told["method"] == "model"
    status, told = server.ask("POST", "/v1/forecast", {"interval_min": 15, "history": [10.0, 11.0]})
    assert (told["method"], told["reason"]) == ("persistence", "short_history")
    for wrong, says in (
        ({"interval_min": 15, "history": [1.0, None]}, "last value is null"),
        ({"history": [1.0]}, "interval_min"),
        ({"interval_min": 15, "history": ["1"]}, "Expected `float | null`"),
        ({"interval_min": 15, "history": [1.0], "until": "yesterday"}, "a time as in"),
        ({"interval_min": 15, "history": [1.0], "until": "2026-01-31T12:00:00"}, "offset from UTC"),
    ):
        status, told = server.ask("POST", "/v1/forecast", wrong)
        assert (status, says in told["error"]) == (400, True), told
    assert server.ask("POST", "/v1/forecast", {"series": "NORTH.LOAD"})[0] == 404  # no broker is read


def test_people_score_a_recording(server: Running) -> None:
    t_s = np.arange(0, 20, 1 / 30)
    freq = {f"S{n}_freq_hz": (50.0 - 0.3 * (t_s > 10) * (t_s - 10)).tolist() for n in range(3)}
    status, told = server.ask("POST", "/v1/score", {"rate_hz": 30, "columns": freq, "area": "north"})
    assert status == 200
    assert {alert["area"] for alert in told["alerts"]} == {"north"}
    assert any(alert["family"] == "grid" for alert in told["alerts"])
    quiet = {name: [50.0] * t_s.size for name in freq}
    assert server.ask("POST", "/v1/score", {"rate_hz": 30, "columns": {}})[0] == 400
    status, told = server.ask("POST", "/v1/score", {"rate_hz": 30, "columns": quiet})
    assert [alert for alert in told["alerts"] if alert["family"] == "grid"] == []


def test_no_request_that_fits_the_document_ends_in_an_error_of_ours(server: Running) -> None:
    tool = Path(sys.executable).with_name("schemathesis")
    url = f"http://127.0.0.1:{server.service.http_port}/openapi.json"
    # A schema cannot say what shape a model takes: that such a request is refused is right.
    words = [
        "run",
        url,
        "--max-examples",
        "8",
        "--seed",
        "1",
        "--no-color",
        "--exclude-checks",
        "positive_data_acceptance",
    ]
    done = subprocess.run(
        [str(tool) if tool.exists() else str(shutil.which("schemathesis")), *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[serve]\nhost = "0.0.0.0"', "only declared clients may ask"),
        ('[[application]]\nname = "a"', "is required without client_ca_file"),
        ('[[application]]\nname = "a"\nkey = "plain"', "never the key itself"),
        ('[serve]\ncert_file = "c.pem"', "needs key_file too"),
        ("[serve]\nhttp_port = 99999", "must be a TCP port"),
    ],
)
def test_a_wrong_site_file_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        parse_site(text)
    assert "plain" not in str(refused.value)


def test_the_description_of_the_protocol_is_that_of_its_file() -> None:
    assert PROTO.with_suffix(".binpb").read_bytes() == compiled()
