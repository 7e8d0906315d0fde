"""`streamproc broker`: a local Apache Kafka in the foreground, until Ctrl-C.

It prints its bootstrap address as soon as it answers. For a laptop and for tests; see
`streamproc.shell.kafka_broker`.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "broker", help="Start a local Apache Kafka (KRaft, loopback) and print its bootstrap address."
    )(broker)


def broker(
    port: Annotated[int, typer.Option(help="TCP port on loopback; 0 takes a free one.")] = 9092,
    data: Annotated[
        Path | None, typer.Option(help="Data directory to keep; without it the data go when the broker ends.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Where Kafka's jars are kept.")] = Path(".cache"),
    heap_mb: Annotated[int, typer.Option(help="Java heap, MB.", min=128)] = 512,
    auto_create: Annotated[bool, typer.Option(help="Let clients create topics by using them.")] = False,
) -> None:
    """Start a broker, say where it is, and wait for Ctrl-C or for its end."""
    from streamproc.errors import ShellError
    from streamproc.shell.kafka_broker import KafkaBroker

    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="broker-", dir=cache) as passing:
        node = KafkaBroker(
            data or passing,
            cache_dir=cache,
            port=port or None,
            heap_mb=heap_mb,
            properties={"auto.create.topics.enable": str(auto_create).lower()},
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        with node:
            print(node.bootstrap, flush=True)
            while not asked.wait(0.5):
                if node.pid is None:
                    raise ShellError(f"Apache Kafka ended by itself: {node.last_words()}")
