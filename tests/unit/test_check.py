"""Protects `streamproc check`: every way in which a site can fail has a line of its own that says what to do."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamproc.cli.root import app
from streamproc.config import AreaTable, BrokerTable, SiteConfig, SiteTable, WorkerTable
from streamproc.core.messages import Health, encode
from streamproc.shell.checks import host as check_host
from streamproc.shell.checks import reach as check_reach
from streamproc.shell.checks.host import (
    check_clock,
    check_disk,
    check_files,
    check_memory,
    check_models,
    check_port,
    check_rates,
    read_kernel_clock,
)
from streamproc.shell.checks.kafka_ask import DESCRIBE, NOT_TOLD, READ, WRITE, TopicFound, may
from streamproc.shell.checks.line import Line
from streamproc.shell.checks.reach import check_reach as reach
from streamproc.shell.checks.topics import access_lines, policy_lines, stamp_line, topic_lines, worker_line
from streamproc.shell.health import HealthServer
from streamproc.shell.kafka_broker import free_port
from streamproc.shell.memory_broker import MemoryBroker
from streamproc.shell.metrics import Metrics
from streamproc.shell.models import Bundle
from streamproc.shell.topics import wanted_topics

NOW_US = 1_700_000_000_000_000
ALL = (1 << READ) | (1 << WRITE) | (1 << DESCRIBE)


def levels(lines: list[Line]) -> list[tuple[str, str]]:
    return [(line.check, line.level) for line in lines]


def looked(**broker: Any) -> list[Line]:
    return asyncio.run(reach(BrokerTable(**broker)))


@contextmanager
def listening(
    answer: Callable[[socket.socket], None], context: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Give the port of a server that treats each connection so."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                link, _ = server.accept()
                if context is not None:
                    link = context.wrap_socket(link, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            threading.Thread(target=answer, args=(link,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def hang_up(link: socket.socket) -> None:
    link.recv(100)
    link.close()


def say_nothing(link: socket.socket) -> None:
    while link.recv(100):
        continue


def speak_http(link: socket.socket) -> None:
    link.recv(100)
    link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def alert_tls(link: socket.socket) -> None:
    link.recv(100)
    link.sendall(b"\x15\x03\x03\x00\x02\x02\x46")
    link.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a self-signed certificate for localhost with its key, in one PEM file."""
    home = tmp_path_factory.mktemp("tls")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=home, check=True, capture_output=True)
    both = home / "both.pem"
    both.write_text((home / "key.pem").read_text() + (home / "cert.pem").read_text())
    return both


def test_a_name_that_does_not_resolve() -> None:
    (line,) = looked(bootstrap="no-such-broker.invalid:9092")
    assert (line.check, line.level) == ("address", "FAIL")
    assert "no-such-broker.invalid: the name cannot be resolved" in line.detail
    assert "DNS" in line.todo


def test_a_name_service_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_reach, "DNS_TIMEOUT_S", 0.2)

    def hang(*_: object, **__: object) -> None:
        time.sleep(1.5)
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    begin_s = time.monotonic()
    (line,) = looked(bootstrap="slow.example:9092")
    assert time.monotonic() - begin_s < 1
    assert (line.check, line.level) == ("address", "FAIL")
    assert "the name service has not answered within 0.2 s" in line.detail


def test_a_port_that_nobody_listens_on() -> None:
    lines = looked(bootstrap=f"127.0.0.1:{free_port()}")
    assert levels(lines) == [("address", "OK"), ("tcp", "FAIL")]
    assert "refused, nobody listens there" in lines[-1].detail


def test_a_port_behind_a_wall_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_reach, "TCP_TIMEOUT_S", 0.2)

    async def never(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio, "open_connection", never)
    begin_s = time.monotonic()
    lines = looked(bootstrap="127.0.0.1:9")
    assert time.monotonic() - begin_s < 2
    assert levels(lines) == [("address", "OK"), ("tcp", "FAIL")]
    assert "no answer within 0.2 s" in lines[-1].detail


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (hang_up, "closed the connection"),
        (speak_http, "something answers, but not Kafka"),
        (alert_tls, "this listener wants TLS"),
        (say_nothing, "accepts, but has not answered within 0.3 s"),
    ],
)
def test_what_is_not_kafka(
    answer: Callable[[socket.socket], None], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_reach, "KAFKA_TIMEOUT_S", 0.3)
    with listening(answer) as port:
        lines = looked(bootstrap=f"127.0.0.1:{port}")
    assert levels(lines) == [("address", "OK"), ("tcp", "OK"), ("kafka", "FAIL")]
    assert told in lines[-1].detail


def test_tls_to_a_listener_that_has_none() -> None:
    with listening(speak_http) as port:
        lines = looked(bootstrap=f"127.0.0.1:{port}", security_protocol="SSL")
    assert levels(lines)[-1] == ("tls", "FAIL")
    assert "the TLS handshake failed" in lines[-1].detail


def test_a_certificate_of_an_unknown_authority_and_one_for_another_name(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with listening(hang_up, context) as port:
        unknown = looked(bootstrap=f"localhost:{port}", security_protocol="SSL")[-1]
        ours: dict[str, Any] = {"security_protocol": "SSL", "ca_file": str(certificate.parent / "cert.pem")}
        other_name = looked(bootstrap=f"127.0.0.1:{port}", **ours)[-1]
        trusted = looked(bootstrap=f"localhost:{port}", **ours)
    assert (unknown.check, unknown.level) == (other_name.check, other_name.level) == ("tls", "FAIL")
    assert "its certificate is refused: self" in unknown.detail
    assert "IP address mismatch" in other_name.detail
    assert "ca_file" in unknown.todo
    assert levels(trusted)[2:] == [("tls", "OK"), ("kafka", "FAIL")]


def test_of_several_addresses_one_that_works_is_enough() -> None:
    with MemoryBroker() as broker:
        lines = looked(bootstrap=f"127.0.0.1:{free_port()},{broker.bootstrap}")
    assert ("tcp", "WARN") in levels(lines)
    assert levels(lines)[-1] == ("nodes", "OK")
    assert "FAIL" not in {line.level for line in lines}


def test_topics_that_are_missing_parted_or_headless() -> None:
    config = SiteConfig()
    wanted = {topic.name: topic for topic in wanted_topics(config)}
    whole = {
        "leader": 1,
        "replicas": [1],
        "isr": [1],
    }
    found = {
        name: TopicFound(0, ({**whole, "partition": 0},) * t.partition_count) for name, t in wanted.items()
    }
    assert levels(topic_lines(wanted, found)) == [("topics", "OK")]
    found["grid.alerts.v1"] = TopicFound(3)
    found["grid.pmu.frames.v1"] = TopicFound(0, ({**whole, "partition": 0},))
    found["grid.state.v1"] = TopicFound(0, ({**whole, "partition": 0, "leader": -1},))
    found["grid.health.v1"] = TopicFound(0, ({**whole, "partition": 0, "isr": []},))
    lines = {line.detail: line.level for line in topic_lines(wanted, found)}
    assert lines == {
        "1 of 22 do not exist: grid.alerts.v1": "FAIL",
        "grid.pmu.frames.v1 has 1 partitions, wanted 4": "FAIL",
        "grid.state.v1 has no leader for [0]: nothing can be read or written there": "FAIL",
        "grid.health.v1 has replicas that are not in sync": "WARN",
    }


def test_policies_that_lose_records_fail_and_others_warn() -> None:
    state = next(t for t in wanted_topics(SiteConfig()) if t.name == "grid.state.v1")
    assert policy_lines(state, {**state.settings, "max.message.bytes": "99999999"}) == []

    def level(key: str, value: str) -> tuple[str, str]:
        (line,) = policy_lines(state, {**state.settings, key: value})
        assert f"{key} is {value}, wanted" in line.detail
        assert "topics apply" in line.todo
        return line.check, line.level

    assert level("cleanup.policy", "delete") == ("policy", "FAIL")
    assert level("max.message.bytes", "1048588") == ("policy", "FAIL")
    assert level("min.insync.replicas", "0") == ("policy", "FAIL")
    assert level("retention.ms", "1000") == ("policy", "WARN")
    assert level("unclean.leader.election.enable", "true") == ("policy", "WARN")
    alerts = next(t for t in wanted_topics(SiteConfig()) if t.name == "grid.alerts.v1")
    (small,) = policy_lines(alerts, {**alerts.settings, "max.message.bytes": "5000"})
    assert (small.level, small.detail) == (
        "WARN",
        "grid.alerts.v1: max.message.bytes is 5000, records of up to 1000000 bytes can come",
    )


def test_permissions_are_named_one_by_one() -> None:
    config = SiteConfig()
    found = {topic.name: TopicFound(0, (), ALL) for topic in wanted_topics(config)}
    assert levels(access_lines(config, found)) == [("access", "OK")]
    found["grid.alerts.v1"] = TopicFound(0, (), 1 << READ)
    found["grid.state.v1"] = TopicFound(29)
    alerts, state = access_lines(config, found)
    assert alerts.detail == "this client has no WRITE on grid.alerts.v1"
    assert alerts.todo.endswith("--topic grid.alerts.v1 --operation WRITE")
    assert state.detail == "this client has no DESCRIBE, READ, WRITE on grid.state.v1"
    silent = {name: TopicFound(0, (), NOT_TOLD) for name in found}
    assert levels(access_lines(config, silent)) == [("access", "WARN")]
    assert may(NOT_TOLD, WRITE)


def beat(ts_us: int) -> Any:
    return SimpleNamespace(value=encode(Health(worker="a:1", stage="score", partition=0, seq=1, ts_us=ts_us)))


def test_the_newest_heartbeat_shows_workers_and_clocks() -> None:
    assert worker_line([], NOW_US).level == "OK"
    fresh = worker_line([beat(NOW_US - 700_000)], NOW_US)
    assert (fresh.level, fresh.detail[:47]) == ("OK", "1 at work, newest heartbeat 0.7 s old by this c")
    old = worker_line([beat(NOW_US - 60_000_000)], NOW_US)
    assert (old.level, "(a:1) is 60 s old" in old.detail) == ("WARN", True)
    ahead = worker_line([beat(NOW_US + 2_000_000)], NOW_US)
    assert (ahead.level, "2.0 s ahead of this clock" in ahead.detail) == ("WARN", True)


def test_a_stamp_of_the_broker_from_the_future_is_a_wrong_clock() -> None:
    def stamp(ms: int) -> Any:
        return SimpleNamespace(timestamp=ms)

    assert stamp_line([], NOW_US).level == "OK"
    assert stamp_line([stamp(NOW_US // 1000 - 900)], NOW_US).level == "OK"
    late = stamp_line([stamp(NOW_US // 1000 + 3000)], NOW_US)
    assert (late.level, "3.0 s in the future of this clock" in late.detail) == ("WARN", True)


def test_the_clock_of_the_kernel() -> None:
    assert check_clock(None).level == "WARN"
    assert "adjtimex: not synchronised" in check_clock((False, 0.0)).detail
    assert check_clock((True, 500.0)).level == "WARN"
    assert check_clock((True, 3.0)).detail == "synchronised, off by 3.0 ms at most (adjtimex)"
    assert read_kernel_clock() is not None


def test_disk_memory_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(mb: int, nodes: int = 10_000) -> Line:
        space = SimpleNamespace(f_bavail=mb, f_frsize=1 << 20, f_favail=nodes, f_files=10_000)
        monkeypatch.setattr(check_host.os, "statvfs", lambda _: space)
        (line,) = check_disk({"logs": tmp_path / "not" / "there"})
        return line

    assert [free(mb).level for mb in (50, 500, 5000)] == ["WARN", "WARN", "OK"]
    assert str(tmp_path) in free(50).detail
    assert "only 3 files can be made" in free(5000, 3).detail

    def left(of_machine_mb: int, limit: str = "max") -> Line:
        (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {of_machine_mb * 1024} kB\n")
        (tmp_path / "memory.max").write_text(limit)
        (tmp_path / "memory.current").write_text("0")
        return check_memory(tmp_path, tmp_path)

    assert [left(mb).level for mb in (100, 500, 5000)] == ["FAIL", "WARN", "OK"]
    assert left(5000, str(300 << 20)).detail == "300 MB left of the container (memory.max)"
    for soft, level in ((64, "FAIL"), (512, "WARN"), (4096, "OK")):
        monkeypatch.setattr(check_host.resource, "getrlimit", lambda _, soft=soft: (soft, 4096))
        assert check_files().level == level


def test_the_port_free_ours_or_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ours(ready: bool) -> Line:
        server = HealthServer(Metrics(), not_ready=lambda: () if ready else ("waiting for partitions",))
        await server.start()
        try:
            return await check_port(WorkerTable(http_port=int(server.url.rpartition(":")[2])))
        finally:
            await server.stop()

    assert asyncio.run(check_port(WorkerTable(http_port=0))).level == "OK"
    assert asyncio.run(check_port(WorkerTable(http_port=free_port()))).detail.endswith("is free")
    assert "answers there and is ready" in asyncio.run(ours(ready=True)).detail
    waiting = asyncio.run(ours(ready=False))
    assert (waiting.level, "not ready: waiting for partitions" in waiting.detail) == ("WARN", True)
    monkeypatch.setattr(check_host, "HTTP_TIMEOUT_S", 0.3)
    for answer in (say_nothing, speak_http, hang_up):
        with listening(answer) as port:
            line = asyncio.run(check_port(WorkerTable(http_port=port)))
        assert (line.level, "taken by another program" in line.detail) == ("FAIL", True)
    elsewhere = asyncio.run(check_port(WorkerTable(http_host="192.0.2.1", http_port=9108)))
    assert (elsewhere.level, elsewhere.check) == ("FAIL", "port")
    unknown = asyncio.run(check_port(WorkerTable(http_host="no-such-host.invalid")))
    assert unknown.level == "FAIL"


class Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"name": "grafana", "version": "1"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_another_service_on_our_port_is_not_taken_for_ours() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert asyncio.run(check_port(WorkerTable(http_port=server.server_port))).level == "FAIL"
    finally:
        server.shutdown()
        server.server_close()


def test_a_bundle_that_was_changed_is_refused_and_one_that_does_not_fit_is_told(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(str(resources.files("streamproc") / "bundles" / "generic"), bundle)
    config = SiteConfig(
        site=SiteTable(nominal_hz=50.0),
        worker=WorkerTable(bundle=str(bundle)),
        area=(AreaTable(name="north"),),
    )
    lines, site = check_models(config)
    assert {line.level for line in lines if "digests" in line.detail} == {"OK"}
    assert site is not None
    assert any("is for area *, which is no [[area]]" in line.detail for line in lines)
    (odd,) = check_rates({"7": {37.0}}, None)
    assert (odd.level, odd.detail) == ("WARN", "37 frames/s (1 streams: 7): no model is for it")
    assert levels(check_rates({"7": {30.0}, "8": {30.0}}, site)) == [("rate", "OK")]
    fifty = Bundle("fifty", tuple(model for model in site.models if model.table.rate_hz == 50.0))
    (other,) = check_rates({"7": {30.0}}, fifty)
    assert (other.level, "no model of the bundle is for it" in other.detail) == ("WARN", True)
    assert check_rates({}, None)[0].level == "OK"
    graph = next(bundle.glob("*.onnx"))
    graph.write_bytes(graph.read_bytes() + b"\0")
    (refused,), _ = check_models(config)
    assert (refused.check, refused.level) == ("models", "FAIL")
    assert f"{graph.name}: digest" in refused.detail
    (absent,), _ = check_models(SiteConfig(worker=WorkerTable(bundle=str(tmp_path / "absent"))))
    assert "cannot read manifest.toml" in absent.detail


def test_the_command_tells_lines_json_and_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "site.toml"
    file.write_text(f'[broker]\nbootstrap = "127.0.0.1:{free_port()}"\n[worker]\nhttp_port = 0\n')

    def run(*words: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as end:
            app(["check", "-c", str(file), *words])
        return end.value.code, capsys.readouterr().out

    code, told = run()
    assert code == 1
    assert "FAIL  tcp     127.0.0.1:" in told
    assert "\n              -> start the broker, or correct the port in broker.bootstrap\n" in told
    assert "WARN  topics  topics, policies, permissions, group, workers: not looked at" in told
    code, told = run("--json")
    found = json.loads(told)
    assert (code, found["ok"]) == (1, False)
    assert {"check", "level", "ok", "detail", "todo"} == set(found["checks"][0])
    file.write_text(
        '[broker]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"\n'
        'sasl_password = "env:NO_SUCH_VARIABLE"\n'
    )
    code, told = run()
    assert (code, "FAIL  config  the environment variable NO_SUCH_VARIABLE" in told) == (1, True)
