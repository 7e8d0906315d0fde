"""Times that a person types: ISO 8601, UTC when nothing else is said."""

from __future__ import annotations

from datetime import UTC, datetime

from streamproc.errors import DataError


def moment_us(text: str, option: str) -> int:
    """Return microseconds UTC; raises DataError that names the option."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise DataError(f"{option} {text!r:.40}: must be a time like 2026-11-24T10:00:00Z") from error
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1e6)
