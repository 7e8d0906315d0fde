"""The demo's worker: `streamproc run` as a child process with a site file and a log of its own.

It is ended by its process id: TERM, and KILL when it has not drained in time. It stands in a session of its
own, so that Ctrl-C in the terminal reaches the demo only; should the demo be killed, the kernel ends it
(Linux).
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from streamproc.config import SiteConfig
from streamproc.errors import ShellError
from streamproc.shell.demo_script import site_toml
from streamproc.shell.kafka_broker import die_with_parent

START_S, DRAIN_S = 60.0, 1.5
_ADDRESS = re.compile(r"metrics at (http://\S+?)/metrics")


class DemoWorker:
    """Start it, watch it, end it."""

    def __init__(self, site: SiteConfig, directory: Path) -> None:
        self.log_path = directory / "worker.log"
        self._site_path = directory / "site.toml"
        self._scratch = directory / "scratch"
        self._site = site
        self._child: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._last_line = ""

    async def start(self) -> str:
        """Return the address of its HTTP side as soon as it works; raise ShellError with its last words."""
        self._site_path.write_text(site_toml(self._site), encoding="utf-8")
        self._scratch.mkdir(exist_ok=True)
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "streamproc", "run", "--config", str(self._site_path)),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            env={**os.environ, "TMPDIR": str(self._scratch)},
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._reading = asyncio.create_task(self._read(self._child))
        try:
            async with asyncio.timeout(START_S):
                return await asyncio.shield(self._address)
        except TimeoutError:
            raise ShellError(f"the worker did not start within {START_S:g} s: {self._last_line}") from None

    async def watch(self) -> None:
        """Wait; raise ShellError when the worker ends by itself."""
        if self._child is None:
            raise ShellError("the worker was never started")
        code = await self._child.wait()
        raise ShellError(f"the worker ended with exit code {code}: {self._last_line}")

    async def end(self) -> None:
        """End it, within two seconds."""
        child = self._child
        if child is not None and child.returncode is None:
            child.terminate()
            try:
                async with asyncio.timeout(DRAIN_S):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()
        if self._reading is not None:
            await self._reading
        if self._address.done() and not self._address.cancelled():
            self._address.exception()  # looked at: whoever ends it early waits for no address

    async def _read(self, child: Process) -> None:
        """Keep its log, and find the line that says where it listens."""
        lines = child.stderr
        with self.log_path.open("wb") as log:
            while lines is not None and (line := await lines.readline()):
                log.write(line)
                log.flush()
                self._last_line = line.decode("utf-8", "replace").strip()[:500]
                match = _ADDRESS.search(self._last_line)
                if match is not None and not self._address.done():
                    self._address.set_result(match.group(1))
        if not self._address.done():
            code = await child.wait()
            self._address.set_exception(
                ShellError(f"the worker ended with exit code {code}: {self._last_line}")
            )
