"""A real Apache Kafka of our own: one KRaft node on loopback, for tests, benchmarks and `demo BROKER=kafka`.

The jars come once from Maven (a pom of three dependencies, about 54 MB) and stay in
`.cache/kafka-<version>/libs`; after that no network is needed. Each broker has its own data directory and its
own free ports, so several can run side by side, and nothing of it lies outside the directories it was given.

    libs/*.jar ── StorageTool format (once per data directory) ── kafka.Kafka server.properties ── answers
    Metadata

It is ended by its own process id: TERM, then KILL. If our own process dies without a word, the kernel ends
the broker (`PR_SET_PDEATHSIG`, Linux); elsewhere an exit hook does. That signal is bound to the *thread* that
started the broker: start it from a thread that lives as long as the broker shall.

Not meant for production: one replica, loopback, no TLS. What survives is a `kill -9` of the broker, not a
power loss.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from streamproc.errors import ShellError

KAFKA_VERSION = "4.1.1"
JAVA_VERSION_MIN = 17  # Apache Kafka 4.x, "Java versions": brokers need 17
DEFAULT_CACHE_DIR = Path(".cache")

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>kafka-dist</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{version}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
"""

# Small single-node settings: every internal topic has one replica, a group starts at once, topics are created
# by hand.
PROPERTIES: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    "num.partitions": "4",
    "group.min.session.timeout.ms": "1000",
    "controlled.shutdown.enable": "false",
    # Records carry event time. A recording of a past year would be deleted at the first check of retention.
    "log.retention.check.interval.ms": "2147483647",
    "log.initial.task.delay.ms": "2147483647",  # the first check
    "log.retention.ms": "-1",
    # A broker that was killed must wait for its old session to end before it may register again: 3 s instead
    # of 9.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Its default of 128 MB is half of a small heap, in one piece: now and then there is no such piece, and no broker.
    "log.cleaner.dedupe.buffer.size": str(8 << 20),
}

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class KafkaBroker:
    """One Apache Kafka node as a child process; also a context manager.

    The ports are chosen at the first start and kept, so a broker that was killed comes back at the same
    address with the same data.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        cache_dir: Path | str = DEFAULT_CACHE_DIR,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 512,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.log_path = self.data_dir / "broker.log"
        self._cache_dir = Path(cache_dir).absolute()
        self._port = port
        self._ports: tuple[int, int] | None = None  # broker, controller
        self._properties = dict(properties or {})
        self._heap_mb = heap_mb
        self._say = say
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Return "127.0.0.1:PORT"; known from the first start on."""
        if self._ports is None:
            raise ShellError("the broker has no address before its first start")
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def pid(self) -> int | None:
        """Return the process id while the broker runs, else None."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def start(self, timeout_s: float = 90.0) -> KafkaBroker:
        """Start and wait until the node answers; raise ShellError with its last words if it does not."""
        if self.pid is not None:
            return self
        java = find_java()
        libs = kafka_libs(self._cache_dir, say=self._say)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._ports is None:
            self._ports = (self._port or free_port(), free_port())
        properties_path = self._write_properties(self._ports)
        classpath = str(libs / "*")
        if not (self.data_dir / "log" / "meta.properties").exists():
            self._format(java, classpath, properties_path)
        self._say(f"starting Apache Kafka {KAFKA_VERSION} on {self.bootstrap}")
        command = [
            *self._java(java, self._heap_mb),
            "-Xms128m",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-cp",
            classpath,
            "kafka.Kafka",
            str(properties_path),
        ]
        with self.log_path.open("ab") as log:
            # A session of its own: Ctrl-C in a terminal must reach the worker first, which still has offsets
            # to commit.
            self._child = subprocess.Popen(  # noqa: S603  (our own argument list, no shell)
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.data_dir,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  (one prctl call on a library loaded beforehand)
            )
        atexit.register(self.kill)
        self._await_answer(self._child, timeout_s)
        return self

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the broker: TERM, and KILL if it has not gone in time."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._reap()

    def kill(self) -> None:
        """End the broker as `kill -9` does: no farewell to clients, no flush."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
        self._reap()

    def restart(self, timeout_s: float = 90.0) -> None:
        """Start again on the same ports with the same data."""
        self.stop()
        self.start(timeout_s)

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): the connection stays, nothing answers."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGCONT)

    def wait(self) -> int:
        """Wait until the broker ends by itself and return its exit code."""
        return 0 if self._child is None else self._child.wait()

    def last_words(self, line_count: int = 5) -> str:
        """Return the last lines of the broker's own log."""
        if not self.log_path.exists():
            return ""
        text = self.log_path.read_bytes()[-8192:].decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-line_count:])

    def __enter__(self) -> KafkaBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait()
            self._child = None
        atexit.unregister(self.kill)

    def _java(self, java: str, heap_mb: int) -> list[str]:
        # Nothing of a Java process shall stay outside our directory, also when it is killed: no hsperfdata
        # file, and the unpacked native libraries go under the data directory.
        scratch = self.data_dir / "scratch"
        scratch.mkdir(exist_ok=True)
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return [java, f"-Xmx{heap_mb}m", "-XX:-UsePerfData", f"-Djava.io.tmpdir={scratch}", quiet]

    def _write_properties(self, ports: tuple[int, int]) -> Path:
        broker, controller = ports
        wanted = {
            **PROPERTIES,
            "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": str(self.data_dir / "log"),
            **self._properties,
        }
        path = self.data_dir / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in wanted.items()), encoding="utf-8")
        return path

    def _format(self, java: str, classpath: str, properties_path: Path) -> None:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        command = [*self._java(java, 128), "-cp", classpath]
        command += ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            raise ShellError(
                f"Apache Kafka cannot format {self.data_dir}: {(done.stderr or done.stdout).strip()}"
            )

    def _await_answer(self, child: subprocess.Popen[bytes], timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not answers(self.bootstrap):
            code = child.poll()
            if code is not None:
                self._reap()
                raise ShellError(f"Apache Kafka ended with exit code {code}: {self.last_words()}")
            if time.monotonic() > deadline_s:
                self.kill()
                raise ShellError(f"Apache Kafka did not answer within {timeout_s:g} s: {self.last_words()}")
            time.sleep(0.1)


def find_java() -> str:
    """Return the path of a Java of at least version 17; raise ShellError with what to install."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java")) if home else None
    java = java or shutil.which("java")
    wish = "install it, for example: apt-get install openjdk-17-jre-headless"
    if java is None:
        raise ShellError(f"Apache Kafka {KAFKA_VERSION} needs Java {JAVA_VERSION_MIN} or newer: {wish}")
    command = [java, "-XX:-UsePerfData", "-version"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr  # noqa: S603
    match = re.search(r'version "(\d+)', told)
    if match is None or int(match[1]) < JAVA_VERSION_MIN:
        found = match[1] if match else "of unknown version"
        raise ShellError(
            f"Apache Kafka {KAFKA_VERSION} needs Java {JAVA_VERSION_MIN}, {java} is {found}: {wish}"
        )
    return java


def kafka_libs(cache_dir: Path, *, say: Callable[[str], None] = lambda _: None) -> Path:
    """Return the directory of Kafka's jars; fetch them with Maven when they are not there yet."""
    home = cache_dir.absolute() / f"kafka-{KAFKA_VERSION}"
    libs = home / "libs"
    if libs.is_dir():
        return libs
    maven = shutil.which("mvn")
    if maven is None:
        raise ShellError(
            f"the jars of Apache Kafka {KAFKA_VERSION} are fetched with Maven: install it, for example: "
            "apt-get install maven"
        )
    say(f"fetching Apache Kafka {KAFKA_VERSION} into {libs} (once)")
    home.mkdir(parents=True, exist_ok=True)
    pom = home / "pom.xml"
    pom.write_text(POM.format(version=KAFKA_VERSION), encoding="utf-8")
    partial = home / f"libs.partial-{os.getpid()}"
    command = [maven, "-q", "-B", f"-Dmaven.repo.local={cache_dir.absolute() / 'm2'}", "-f", str(pom)]
    command += ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    env = {**os.environ, "MAVEN_OPTS": f"{os.environ.get('MAVEN_OPTS', '')} -XX:-UsePerfData".strip()}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)  # noqa: S603
    if done.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        words = (done.stdout + done.stderr).strip().splitlines()
        raise ShellError(
            f"Maven cannot fetch Apache Kafka {KAFKA_VERSION}: {words[0] if words else 'no message'}"
        )
    try:
        partial.rename(libs)  # all or nothing: a fetch that was cut short never looks like a whole one
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)  # another process was faster
    return libs


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(bootstrap: str, timeout_s: float = 2.0) -> bool:
    """Return whether a Kafka node answers Metadata (version 1) and knows of a live broker."""
    host, _, port = bootstrap.rpartition(":")
    client = b"streamproc"
    # api_key 3, api_version 1, correlation_id 1, client_id, no topics (an empty array; null would mean all)
    body = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)
    try:
        with socket.create_connection((host, int(port)), timeout_s) as link:
            link.sendall(struct.pack(">i", len(body)) + body)
            reply = link.recv(12, socket.MSG_WAITALL)
    except OSError:
        return False
    # size, correlation_id, number of brokers: none while the node is still fenced
    return len(reply) == 12 and struct.unpack(">iii", reply)[2] > 0


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (Linux; elsewhere nothing happens)."""
    # In the child, between fork and exec: only a system call on what is already loaded.
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
