"""docker-compose.yml without a container engine: `unshare --net --mount python composition.py REPORT SECONDS`.

Each service of ours runs with the command, the mounts, the read-only root and the user that the file and the
Dockerfile give it (`container.py`); Kafka is a real one with the settings of the file. The network is one of
loopback only, where every service's name is 127.0.0.1. What was seen goes to REPORT as JSON. What this cannot
show: that the images can be pulled and built, and what is inside those of others.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from container import bind
from deploy_rig import OPT, ROOT
from loopback import bring_up

from streamproc.shell.kafka_broker import KafkaBroker, die_with_parent

URL = "http://127.0.0.1:9108"


def compose() -> dict[str, Any]:
    """Return docker-compose.yml, its merge keys resolved."""
    tree: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return tree


def image() -> dict[str, Any]:
    """Return what the Dockerfile's last stage says: ENTRYPOINT, CMD, HEALTHCHECK, ENV, USER."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.split(None, 1) for line in text.split("\nFROM ")[-1].splitlines()[1:] if line.strip()]
    told = {word: rest for word, rest in lines if word.isupper()}
    env = dict(word.split("=", 1) for word in shlex.split(told["ENV"]))
    env["PATH"] = env["PATH"].replace("$PATH", "/usr/local/bin:/usr/bin:/bin")
    return {
        "entrypoint": json.loads(told["ENTRYPOINT"]),
        "command": json.loads(told["CMD"]),
        "health": json.loads(told["HEALTHCHECK"].split(" CMD ", 1)[1]),
        "env": env,
        "user": told["USER"],
        "port": int(told["EXPOSE"]),
    }


def kafka_properties(service: dict[str, Any]) -> dict[str, str]:
    """Return the environment of the image apache/kafka as the properties that it makes of it."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in service["environment"].items()
        if name.startswith("KAFKA_") and name not in {"KAFKA_HEAP_OPTS", "KAFKA_LOG_DIRS"}
    }


class Composition:
    """The services of ours, as child processes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.services = compose()["services"]
        self.image = image()
        self.hosts = home / "hosts"
        names = " ".join(["localhost", socket.gethostname(), *self.services])
        self.hosts.write_text(f"127.0.0.1 {names}\n")
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Composition:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children.values():
            child.kill()
            child.wait()

    def start(self, name: str, argv: list[str] | None = None) -> subprocess.Popen[bytes]:
        """Start a service, or another command in its place."""
        service = self.services[name]
        root = Path(tempfile.mkdtemp(dir=self.home, prefix="root-"))
        mounts = {"/opt": str(OPT), "/etc/hosts": str(self.hosts)}
        for words in service.get("volumes", ()):
            source, target, mode = words.split(":")
            assert mode == "ro"
            mounts[target] = str(ROOT / source)
        given = [word.replace("$$", "$") for word in service.get("command", self.image["command"])]
        argv = argv or [*service.get("entrypoint", self.image["entrypoint"]), *given]
        at, _, options = service["tmpfs"][0].partition(":")
        assert at == "/tmp"
        spec = {"root": str(root), "mounts": mounts, "tmpfs": options, "argv": argv, "env": self.image["env"]}
        script = Path(__file__).with_name("container.py")
        log = (self.home / f"{name}.log").open("ab")
        child = subprocess.Popen(
            ["unshare", "--mount", sys.executable, str(script), json.dumps(spec)],
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,  # noqa: PLW1509  (one prctl call)
        )
        self.children[name] = child
        return child

    def once(self, name: str, argv: list[str] | None = None) -> tuple[int, str]:
        """Run to the end; return exit code and what it said."""
        log = self.home / f"{name}.log"
        begin = log.stat().st_size if log.exists() else 0
        code = self.start(name, argv).wait(60)
        return code, log.read_bytes()[begin:].decode()


def get(path: str) -> tuple[int, str]:
    """Return status and body of the service's HTTP side; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(URL + path, timeout=5) as reply:
            return int(reply.status), reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def wait(what: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Return whether something became true in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.1)
    return False


def total(name: str, text: str) -> float:
    """Return the sum of a series in an exposition."""
    rows = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, rows))


ASK = """
import json, os, pathlib
def refused(path):
    try:
        pathlib.Path(path).write_bytes(b"")
    except OSError as error:
        return error.strerror
    return ""
status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
paths = ("/opt/streamproc/x", "/usr/x", "/etc/streamproc/site.toml", "/x", "/tmp/x")
print(json.dumps({"uid": os.getuid(), "caps": [status[k] for k in ("CapEff", "CapPrm", "CapBnd")],
    "no_new_privs": status["NoNewPrivs"], "refused": {path: refused(path) for path in paths},
    "tree": os.path.exists(%r)}))
"""


def play(home: Path, seconds: float) -> dict[str, Any]:
    """Bring the composition up, look at it, and take the service down."""
    seen: dict[str, Any] = {}
    run = Composition(home)
    bind(run.hosts, Path("/etc/hosts"))
    properties = kafka_properties(run.services["kafka"])
    seen["cluster_id"] = len(
        base64.urlsafe_b64decode(run.services["kafka"]["environment"]["CLUSTER_ID"] + "==")
    )
    with run, KafkaBroker(home / "kafka", cache_dir=ROOT / ".cache", port=9092, properties=properties):
        check = ["streamproc", "check", "-c", "/etc/streamproc/site.toml"]
        seen["topics"] = run.once("topics")
        seen["check"] = run.once("topics", check)
        seen["inside"] = json.loads(run.once("topics", ["python", "-c", ASK % str(ROOT)])[1])
        worker = run.start("streamproc")
        seen["ready"] = wait(lambda: get("/readyz")[0] == 200)
        seen["health"] = run.once("topics", run.image["health"])
        plan = ["streamproc", "topics", "plan", "-c", "/etc/streamproc/site.toml"]
        seen["hosts_own_port"] = run.once("topics", [*plan, "--bootstrap", "127.0.0.1:29092"])
        for name in ("fleet", "points"):
            run.start(name)
        series = "streamproc_records_total"
        seen["records"] = wait(lambda: total(series, get("/metrics")[1]) > 1000)
        time.sleep(seconds)
        seen["metrics"] = get("/metrics")[1]
        seen["senders_live"] = {name: run.children[name].poll() for name in ("fleet", "points")}
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        seen["exit_code"], seen["drain_s"] = worker.wait(30), time.monotonic() - began
        seen["health_after"] = run.once("topics", run.image["health"])[0]
    seen["log"] = (home / "streamproc.log").read_text()
    return seen


def main() -> None:
    """Write the report."""
    report, seconds = Path(sys.argv[1]), float(sys.argv[2])
    bring_up()
    os.umask(0o022)
    report.write_text(json.dumps(play(report.parent, seconds)))


if __name__ == "__main__":
    main()
