"""Small corpora whose answers are known because they were made by hand, and alerts made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from streamproc.core.disturbance import Disturbance
from streamproc.core.messages import Alert
from streamproc.evaluation.frames import START_NS

STATIONS = ("NORTH", "EAST", "SOUTH", "WEST")
RATE_HZ, FRAMES, ONSET_S = 30, 480, 5.01
ONSET_ROW = 151  # the first frame at or after 5.01 s


def steady(n_frame: int = FRAMES, n_pmu: int = 4, nominal_hz: float = 60.0) -> np.ndarray:
    """One event in which nothing happens, (n_frame, n_pmu, 3)."""
    x = np.zeros((n_frame, n_pmu, 3))
    x[..., 0] = 1.0 + 0.01 * np.arange(n_pmu)
    x[..., 1] = -0.1 * np.arange(n_pmu)
    x[..., 2] = nominal_hz
    return x


def sag(pmu: int = 1, depth: float = 0.2, frames: int = 4) -> np.ndarray:
    """A fault: the voltage of one PMU is low for some frames, that of the others by a quarter of it."""
    x = steady()
    x[ONSET_ROW : ONSET_ROW + frames, :, 0] -= depth / 4
    x[ONSET_ROW : ONSET_ROW + frames, pmu, 0] -= depth * 3 / 4
    return x


def ramp(final_hz: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Supply or load lost: the frequency of all goes to another value with a time constant of 2 s."""
    x = steady()
    t_s = np.arange(FRAMES - ONSET_ROW) / rate_hz
    deviation_hz = final_hz * (1.0 - np.exp(-t_s / 2.0))
    x[ONSET_ROW:, :, 2] += deviation_hz[:, None]
    x[ONSET_ROW:, :, 1] += np.cumsum(2 * np.pi * deviation_hz / rate_hz)[:, None]
    return x


def switched(pmu: int = 2, change: float = -0.03) -> np.ndarray:
    """A line: voltages and angles are others from one frame to the next, the frequency stays."""
    x = steady()
    x[ONSET_ROW:, :, 0] += change / 3
    x[ONSET_ROW:, pmu, 0] += change * 2 / 3
    x[ONSET_ROW:, pmu, 1] -= 0.05
    return x


def five() -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Five events: a fault, a generator, a load, a line, and one that nobody can see."""
    x = np.stack([sag(), ramp(-0.3), ramp(0.2), switched(), steady()])
    events = [
        {"k": "fault", "t": ONSET_S, "bus": 7, "dv": 0.2, "df": 0.0},
        {"k": "gen", "t": ONSET_S, "dev": "G1", "dv": 0.0, "df": 0.3, "mw": 800.0, "near": [3, 0, 1, 2]},
        {"k": "load", "t": ONSET_S, "dev": "L1", "dv": 0.0, "df": 0.2, "near": ["SOUTH", "EAST"]},
        {"k": "line", "t": ONSET_S, "dev": "Line 1", "dv": 0.03, "df": 0.0},
        {"k": "line", "t": ONSET_S, "dev": "Line 2", "dv": 0.0, "df": 0.0},
    ]
    return x, events


def write_corpus(
    path: Path, x: np.ndarray | None = None, events: list[dict[str, Any]] | None = None, **meta: Any
) -> Path:
    """Write a corpus; keys of `meta` that are None are left out of the JSON."""
    made_x, made_events = five()
    tree = {
        "case": "by hand",
        "pmu_bus": list(STATIONS),
        "fps": RATE_HZ,
        "events": made_events if events is None else events,
    } | meta
    text = json.dumps({key: value for key, value in tree.items() if value is not None})
    np.savez_compressed(path, X=(made_x if x is None else x).astype(np.float32), meta=np.array(text))
    return path


def alert(
    row: int,
    alert_id: str = "a",
    seq: int = 1,
    rate_hz: float = RATE_HZ,
    told: Disturbance | None = None,
    **changes: Any,
) -> Alert:
    """An alert record whose event time is a frame of a run."""
    ts_us = START_NS // 1000 + round(row * 1e6 / rate_hz)
    fields = {
        "alert_id": alert_id,
        "seq": seq,
        "state": "UNACK",
        "family": "grid",
        "kind": "voltage_jump",
        "priority": 2,
        "area": "corpus",
        "position": "main",
        "onset_ts_us": ts_us,
        "ts_us": ts_us,
        "source": "EAST",
        "sources": ("EAST",),
        "members": 1,
        "score": 2.0,
        "value": 2.0,
        "limit": 1.0,
        "unit": "",
        "quality": "GOOD",
        "quality_flags": 0,
        "message": "",
        "rule": "voltage_jump",
        "rule_version": 1,
        "rules": ("voltage_jump",),
        "model_digest": "",
        "disturbance": told,
    }
    return Alert(**(fields | changes))


def told(kind: str, confidence: float = 0.9, **changes: Any) -> Disturbance:
    """What is known of a disturbance."""
    chances = {kind: confidence} if kind != "unknown" else {}
    return Disturbance(onset_ts_us=0, ts_us=0, kind=kind, confidence=confidence, chances=chances, **changes)
