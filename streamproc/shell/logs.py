"""Structured logs: one JSON object a line on stderr, one line per event that an engineer would act on.

    {"ts":"2026-11-03T06:00:00.123456Z","level":"WARNING","logger":"streamproc.host","event":"batch failed",
     "topic":"grid.pmu.frames.v1","partition":2,"offset":4711}

The message is the name of the event; what belongs to it comes as `extra={...}` and stands beside it. Nothing
is logged per record. The libraries below us speak from WARNING on. For people: `form="console"`. `streamproc run`
adds two plain lines for the person at the terminal, each beginning with `streamproc:`, one when it works and one
when it fails.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

# What every LogRecord has by itself; the rest came with `extra`.
_OWN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}
_QUIET = ("aiokafka", "faust", "mode", "kafka", "asyncio", "aiohttp", "rdkafka")
REPEAT_S = 10.0  # seconds
_KEY_SIZE_MAX, _KEYS_MAX = 40, 1000  # characters of a message that make it the same; messages remembered
_WORD_SIZE_MAX = 2000  # characters of one value: a log line is for reading


class JsonFormatter(logging.Formatter):
    """One record as one line of JSON, keys in reading order."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a value that JSON does not know is written as its `repr`."""
        line: dict[str, object] = {
            "ts": _iso(record.created),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage()[:_WORD_SIZE_MAX],
        }
        line.update((k, v) for k, v in vars(record).items() if k not in _OWN and not k.startswith("_"))
        if isinstance(record.exc_info, tuple):  # a library may leave True there
            line["error"] = self.formatException(record.exc_info)[-_WORD_SIZE_MAX:]
        return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


class Calm(logging.Filter):
    """Lets a library say the same thing once in `REPEAT_S`, with the number of times that it was held back.

    A client that cannot reach its broker says so hundreds of times a second. Our own lines always pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[
            tuple[str, str], tuple[float, int]
        ] = {}  # (logger, template) -> when said, held since

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be said."""
        if record.name.partition(".")[0] not in _QUIET:
            return True
        key = (record.name, str(record.msg)[:_KEY_SIZE_MAX])
        said_s, held = self._held.get(key, (float("-inf"), 0))
        if record.created - said_s < REPEAT_S:
            self._held[key] = (said_s, held + 1)
            return False
        if len(self._held) >= _KEYS_MAX:
            self._held.clear()
        self._held[key] = (record.created, 0)
        if held:
            record.held_back = held
        return True


class ConsoleFormatter(logging.Formatter):
    """The same for a person: time, level, event, then key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the traceback below it if there is one."""
        extra = [f"{k}={v}" for k, v in vars(record).items() if k not in _OWN and not k.startswith("_")]
        line = " ".join([_iso(record.created), f"{record.levelname:<7}", record.getMessage(), *extra])
        if not isinstance(record.exc_info, tuple):
            return line
        return f"{line}\n{self.formatException(record.exc_info)}"


def set_up_logs(
    level: str = "INFO", *, form: Literal["json", "console"] = "json", stream: TextIO | None = None
) -> None:
    """Send all logs of this process to one stream; call once, from a command."""
    out = logging.StreamHandler(sys.stderr if stream is None else stream)
    out.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter())
    out.addFilter(Calm())
    root = logging.getLogger()
    root.handlers[:] = [out]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _iso(created_s: float) -> str:
    return datetime.fromtimestamp(created_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
