"""A C37.118 command frame, for tests of the reader: the service itself cannot make one."""

from __future__ import annotations

from streamproc.core.c37118.frame import COMMAND, HEADER_SIZE, header_bytes, with_crc


def encode_command(idcode: int, cmd: int, extended: bytes = b"", *, version: int = 1) -> bytes:
    """Return a command frame (IEEE C37.118.2-2011, clause 6.6)."""
    body = cmd.to_bytes(2, "big") + extended
    return with_crc(header_bytes(COMMAND, HEADER_SIZE + len(body) + 2, idcode, 0, 0, version) + body)
