"""One line of `streamproc check`: what was looked at, how it stands, what was found, what to do about it.

And two helpers of everybody who makes lines: text on one line, and a name looked up within a time.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Level: TypeAlias = Literal["OK", "WARN", "FAIL"]


@dataclass(frozen=True, slots=True)
class Line:
    """One result. `todo` is "" where `detail` says it already, or where nothing is to be done."""

    check: str
    level: Level
    detail: str
    todo: str = ""


def ok(check: str, detail: str) -> Line:
    """Return a line that all is well."""
    return Line(check, "OK", detail)


def warn(check: str, detail: str, todo: str = "") -> Line:
    """Return a line about what works, but not as it should, or could not be looked at."""
    return Line(check, "WARN", detail, todo)


def fail(check: str, detail: str, todo: str = "") -> Line:
    """Return a line about what keeps the service from working."""
    return Line(check, "FAIL", detail, todo)


def one_line(text: object, size_max: int = 300) -> str:
    """Return the text on one line and printable: words of other programs must not move the cursor."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:size_max].strip()


async def look_up(host: str, limit_s: float) -> list[tuple[Any, ...]]:
    """Return what `getaddrinfo` finds for a TCP address; TimeoutError when the name service is too slow.

    In a thread of its own that nobody waits for: those of the event loop's executor are joined at the end of
    the program, so a name service that hangs would hold it.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[tuple[Any, ...]]] = loop.create_future()

    def settle(result: list[tuple[Any, ...]] | OSError | UnicodeError) -> None:
        if found.done():
            return
        if isinstance(result, list):
            found.set_result(result)
        else:
            found.set_exception(result)

    def ask() -> None:
        result: list[tuple[Any, ...]] | OSError | UnicodeError
        try:
            result = list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            result = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    async with asyncio.timeout(limit_s):
        return await found
