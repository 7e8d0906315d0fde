"""Runs one command in a network that is this machine alone: `unshare -rn python loopback.py COMMAND...`.

Brings up `lo` by ioctl, since `ip` is not everywhere, and refuses to go on if there is any other interface.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def bring_up() -> None:
    """Have nothing but 127.0.0.1, and have that."""
    others = [name for _, name in socket.if_nameindex() if name != "lo"]
    assert not others, f"not a network of its own: {others}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        flags = struct.unpack("16xh", fcntl.ioctl(link, SIOCGIFFLAGS, struct.pack("16sh", b"lo", 0)))[0]
        fcntl.ioctl(link, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP))


if __name__ == "__main__":
    bring_up()
    os.execvp(sys.argv[1], sys.argv[1:])
