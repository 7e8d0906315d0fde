"""What a service manager is told (systemd, `Type=notify`): ready, alive, stopping, and a line of status.

One datagram each to the socket named by `NOTIFY_SOCKET` (sd_notify(3)). Without that variable nothing is sent,
and a manager that does not listen is no failure of ours: the work goes on.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence


class ServiceManager:
    """The other end of `NOTIFY_SOCKET`, or nobody."""

    def __init__(self, address: str | None = None) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        # "@name" is a socket in the abstract name space of Linux.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def beat(self, reasons: Sequence[str]) -> None:
        """Say that the event loop runs, and why it does not do its work; without a reason, that it is ready."""
        status = "STATUS=" + ("; ".join(reasons) or "working").replace("\n", " ")
        ready = [] if reasons else ["READY=1"]  # each time: the manager needs the first that arrives
        self._send(["WATCHDOG=1", status, *ready])

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send(["STOPPING=1", "STATUS=draining"])

    def _send(self, lines: Sequence[str]) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.setblocking(False)
                link.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return
