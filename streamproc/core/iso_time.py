"""Times as people and other programs read them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_time(t_ns: int) -> str:
    """Return ISO 8601 UTC with milliseconds; a time that no calendar holds is given as seconds."""
    try:
        stamp = datetime.fromtimestamp(t_ns // 1_000_000_000, tz=UTC)
    except (OverflowError, ValueError, OSError):
        return f"{t_ns // 1_000_000_000}s"
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{t_ns // 1_000_000 % 1000:03d}Z"
