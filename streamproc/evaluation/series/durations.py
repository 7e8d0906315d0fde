"""Durations as ISO 8601 writes them, as far as a forecast needs them: weeks, days, hours, minutes, seconds."""

from __future__ import annotations

import re

from streamproc.errors import DataError

PATTERN = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
SIZES_S = (604_800, 86_400, 3600, 60, 1)


def seconds_of(text: str, option: str) -> int:
    """Return the seconds of a duration like PT24H; raises DataError that names the option."""
    match = PATTERN.fullmatch(text.strip().upper())
    seconds = (
        sum(int(part or 0) * size for part, size in zip(match.groups(), SIZES_S, strict=True)) if match else 0
    )
    if seconds <= 0:
        raise DataError(f"{option} {text!r}: an ISO 8601 duration is expected, such as PT24H, PT30M or P7D")
    return seconds


def words_of(seconds: int) -> str:
    """Return the duration as ISO 8601: hours up to two days, as horizons are spoken of, then days: PT48H, P7D."""
    if seconds <= 172_800 and seconds % 3600 == 0:
        return f"PT{seconds // 3600}H"
    days, rest = divmod(seconds, 86_400)
    time = "".join(f"{n}{letter}" for n, letter in zip(_clock(rest), "HMS", strict=True) if n)
    return "P" + (f"{days}D" if days else "") + (f"T{time}" if time else "")


def short_of(seconds: int) -> str:
    """Return a time ahead as a column head says it: 15 min, 4 h."""
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min"


def clock_of(text: str) -> int:
    """Return the seconds after midnight of HH:MM; raises DataError."""
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", text.strip())
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise DataError(f"--at {text!r}: a time of day is expected, such as 00:00")
    return int(match[1]) * 3600 + int(match[2]) * 60


def _clock(seconds: int) -> tuple[int, int, int]:
    return seconds // 3600, seconds // 60 % 60, seconds % 60
