"""Series made for the tests of forecasts: a day, a week, some noise; and what people do to such files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from streamproc.cli.root import app

START = datetime(2023, 1, 2, tzinfo=UTC)  # a Monday
Row = list[str]


def load(n: int, step_h: float = 1.0, seed: int = 1) -> np.ndarray:
    """Return a load with a day, a week and noise."""
    hour = np.arange(n) * step_h
    noise = np.convolve(np.random.default_rng(seed).normal(0.0, 1.0, n + 4), np.ones(5) / 5.0, "valid")
    weekend = (hour // 24 % 7) >= 5
    return 100.0 + 20.0 * np.sin(2 * np.pi * (hour - 8) / 24) - 12.0 * weekend + 3.0 * noise


def rows_of(values: Sequence[float], step_h: float = 1.0, start: datetime = START) -> list[Row]:
    """Return rows of time and value."""
    times = [(start + timedelta(hours=i * step_h)).strftime("%Y-%m-%dT%H:%MZ") for i in range(len(values))]
    return [[time, f"{value:.4f}"] for time, value in zip(times, values, strict=True)]


def write(path: Path, rows: Sequence[Row], head: str = "time,load") -> Path:
    """Write a CSV."""
    path.write_text("\n".join([head, *(",".join(row) for row in rows)]) + "\n")
    return path


def spoilt(path: Path, change: Callable[[list[Row]], None], days: int = 60) -> Path:
    """Write 60 days of load after a change."""
    rows = rows_of(load(24 * days))
    change(rows)
    return write(path, rows)


def typed(*words: object) -> int:
    """Return the exit code of a command line."""
    with pytest.raises(SystemExit) as end:
        app([str(word) for word in words])
    assert isinstance(end.value.code, int)
    return end.value.code


def asked(capfd: pytest.CaptureFixture[str], path: Path, *words: object) -> dict[str, object]:
    """Return the JSON of `evaluate forecast`."""
    assert typed("evaluate", "forecast", path, *DEFAULTS, *words, "--json") == 0
    return json.loads(capfd.readouterr().out)


def refused(capfd: pytest.CaptureFixture[str], path: Path, *words: object) -> str:
    """Return the sentence with which it was refused."""
    assert typed("evaluate", "forecast", path, *DEFAULTS, *words, "--json") == 1
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return told.err


DEFAULTS = ("--time", "time", "--target", "load", "--model", "weekly mean")
