"""The watch of a process under test, and how it hands over what it saw. Standard library only: peers use it too.

It starts when the first records are in hand and stops with the last of those wanted, or when the time is up;
connecting, joining a group and loading models are not in it. CPU is that of this process, all threads, user
and system (`getrusage`).
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

MARK = "BENCH "


class Meter:
    """Counts records; `take` says when it is enough."""

    def __init__(self, wanted: int, seconds: float) -> None:
        self._wanted, self._seconds = wanted, seconds
        self._begin_s = self._begin_cpu_s = 0.0
        self._started = False
        self.records = 0
        self.elapsed_s = 0.0
        self.cpu_s = 0.0

    def start(self) -> None:
        """Note the time, with the first records in hand; later calls do nothing."""
        if not self._started:
            self._started = True
            self._begin_s, self._begin_cpu_s = time.perf_counter(), cpu_s()

    def take(self, count: int) -> bool:
        """Count records that are done; True once enough are, and from then on nothing is counted."""
        if self.elapsed_s > 0:
            return True
        self.records += count
        passed_s = time.perf_counter() - self._begin_s
        if self.records < self._wanted and passed_s < self._seconds:
            return False
        self.elapsed_s, self.cpu_s = passed_s, cpu_s() - self._begin_cpu_s
        return True

    def seen(self) -> dict[str, float]:
        """Return what was measured."""
        return {"records": self.records, "elapsed_s": self.elapsed_s, "cpu_s": self.cpu_s}


def cpu_s() -> float:
    """Return the CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def spec() -> dict[str, Any]:
    """Return what the parent asked for."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    return asked


def tell(seen: Mapping[str, Any]) -> None:
    """Hand over what was seen, as one line."""
    sys.stdout.write(MARK + json.dumps(dict(seen)) + "\n")
    sys.stdout.flush()


def tell_and_end(seen: Mapping[str, Any]) -> None:
    """Hand over and end at once: not every framework lets go of its threads."""
    tell(seen)
    os._exit(0)


def fail(why: str) -> None:
    """Say why there is nothing to hand over, and end at once."""
    sys.stderr.write(why + "\n")
    sys.stderr.flush()
    os._exit(1)
