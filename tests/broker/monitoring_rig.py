"""A real Prometheus and a real Alertmanager beside the demo, on free ports of loopback, for test_monitoring.py.

Everything started here is ended by its own process id. The rules are those that are committed; only in their
`for` minutes become seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
_ADDRESS = re.compile(r"metrics: http://(\S+)/metrics")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, found: Callable[[], Any], timeout_s: float) -> Any:
    """Return the first true answer."""
    end_s = time.monotonic() + timeout_s
    while not (answer := found()):
        assert time.monotonic() < end_s, f"no {what} within {timeout_s:g} s"
        time.sleep(0.2)
    return answer


def get(url: str) -> Any:
    """Return the JSON (or text) at a URL; None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            text = reply.read().decode()
    except urllib.error.HTTPError as error:
        if error.code == 503:  # on its way
            return None
        raise AssertionError(f"{url}: {error.read().decode()}") from error
    except OSError:
        return None
    return json.loads(text) if text[:1] in "{[" else text


@contextlib.contextmanager
def running(name: str, *arguments: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block; its log is `<name>.log`."""
    program = shutil.which(name)
    assert program, f"{name} is missing: .ci/tools {name}"
    with (cwd / f"{name}.log").open("wb") as log:
        child = subprocess.Popen([program, *arguments], cwd=cwd, stdout=log, stderr=log)
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


class Demo:
    """`streamproc demo` on the in-memory broker until it is ended."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.told = directory, directory / "demo.log"
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "streamproc", "demo", "--plain"]
        with self.told.open("wb") as log:
            self._child = subprocess.Popen(
                command, cwd=directory, env=env, stdout=log, stderr=log, start_new_session=True
            )

    def address(self) -> str:
        """Return host:port of its worker's metrics."""

        def found() -> str | None:
            assert self._child.poll() is None, self.told.read_text()
            match = _ADDRESS.search(self.told.read_text())
            return match.group(1) if match else None

        return str(wait_for("worker of the demo", found, 60))

    def end(self) -> None:
        """End it as Ctrl-C does, and its worker with it."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGINT)
            try:
                self._child.wait(15)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


class Webhook:
    """Keeps what Alertmanager sends, by path."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                got.extend((self.path, alert) for alert in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def alerts(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        return [(path, alert) for path, alert in list(self.got) if alert["labels"]["alertname"] == name]


class Prometheus:
    """The committed configuration with other ports, each second, and rules that wait seconds for minutes."""

    def __init__(self, directory: Path, target: str, alertmanager_port: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        home = directory / "prometheus"
        shutil.copytree(DEPLOY / "prometheus", home)
        for file in (home / "rules").iterdir():
            file.write_text(re.sub(r"^(\s+for: \d+)m$", r"\1s", file.read_text(), flags=re.MULTILINE))
        (home / "targets" / "streamproc.yml").write_text(yaml.safe_dump([{"targets": [target]}]))
        config = yaml.safe_load((home / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        managers = config["alerting"]["alertmanagers"]
        managers[0]["static_configs"] = [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]
        (home / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.home = home
        self.arguments = (
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return what an instant query gives: nothing if all of it is NaN."""
        asked = urllib.parse.urlencode({"query": expr})
        answer = get(f"{self.url}/api/v1/query?{asked}")
        assert answer["status"] == "success", answer
        return [r for r in answer["data"]["result"] if r["value"][1] != "NaN"]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {
            a["labels"]["alertname"]
            for a in get(f"{self.url}/api/v1/alerts")["data"]["alerts"]
            if a["state"] == "firing"
        }


def alertmanager_home(directory: Path, webhook_port: int) -> Path:
    """Return a directory with the committed configuration; it sends to the webhook, and does not wait."""
    home = directory / "alertmanager"
    home.mkdir()
    config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    config["route"] |= {"group_wait": "2s", "group_interval": "2s"}
    for receiver in config["receivers"]:
        for hook in receiver["webhook_configs"]:
            hook["url"] = hook["url"].replace(":9095/", f":{webhook_port}/")
    (home / "alertmanager.yml").write_text(yaml.safe_dump(config))
    return home
