"""The file: rounded, compressed, readable by `numpy.load(allow_pickle=False)`; and the figures beside each event."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from tools.corpus.network import F64

ROUND = (2.0**-16,) * 3  # pu, rad, Hz: a twentieth of the quietest noise; a power of two packs best
SEEN_S = 5.0  # dv and df look so far after the onset
TURN_S = 10.0


def rounded(values: F64, step: float) -> F64:
    """Return the values as multiples of a step."""
    return np.asarray(np.round(values / step) * step)


def changes(trace: F64, onset_s: float, fps: float) -> tuple[float, float]:
    """Return the largest change of voltage (pu) and frequency (Hz) that any PMU sees after the onset."""
    first = int(np.ceil(onset_s * fps - 1e-6))
    after, before = trace[first : first + int(SEEN_S * fps)], trace[first - 2]
    moved = np.abs(after - before).max(axis=(0, 1))
    return float(moved[0]), float(moved[2])


def turning_point(trace: F64, onset_s: float, fps: float, nominal_hz: float) -> tuple[float, float]:
    """Return the farthest median frequency (Hz) after the onset and when it came (s after)."""
    first = int(np.ceil(onset_s * fps - 1e-6))
    median = np.median(trace[:, :, 2], axis=1)
    moved = (median - np.median(median[:5]))[first : first + int(TURN_S * fps)]
    place = int(np.argmax(np.abs(moved)))
    return float(nominal_hz + moved[place]), place / fps


def save(path: Path, x: F64, meta: str) -> None:
    """Write `X` (event, frame, pmu, 3) float32 and `meta`."""
    packed = np.stack([rounded(x[..., i], step) for i, step in enumerate(ROUND)], axis=3).astype(np.float32)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        for name, array in (("X", packed), ("meta", np.array(meta))):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            file.writestr(member, content.getvalue(), zipfile.ZIP_LZMA)
