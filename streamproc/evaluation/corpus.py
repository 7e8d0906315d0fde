"""An event corpus: simulated disturbances with known truth, read and checked.

    X      (event, frame, pmu, 3) float: voltage magnitude pu, voltage angle rad, frequency Hz; no noise, no gaps
    meta   one JSON string:
           case, pmu_bus (one name per PMU), fps, and if known nominal_hz, network
           events, in the order of X: k (line, gen, load, fault, ...), t (onset, s from the first frame), the device,
           dv, df (largest change of voltage pu and frequency Hz that any PMU sees within 5 s), and if known
           phys (one of `core.disturbance.KINDS`), mw (active power lost), near (the PMUs, nearest by
           electrical distance first: names, or whole numbers that count in pmu_bus from 0)

An angle turns as the frequency says: d(angle)/dt = 2 pi (frequency - nominal). Whatever is wrong is a
RecordingError that names the file, the event and the field.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamproc.core.disturbance import KINDS
from streamproc.errors import RecordingError
from streamproc.values import F32, F64

VOLTAGE, ANGLE, FREQUENCY = range(3)  # last axis of X
DV_MIN_PU, DF_MIN_HZ = 0.002, 0.005  # smaller in both: no PMU can see it
RATE_MIN_HZ, RATE_MAX_HZ = 5.0, 240.0
AFTER_S = 0.5  # of an event that must be there after its onset
FREQ_MIN_HZ, FREQ_MAX_HZ = 40.0, 70.0  # outside, a frequency is in another unit
SETTLING_S = 0.5  # after an onset angles jump, which no frequency follows
TURN_MIN_RAD = 2e-5  # a frame; what swings less drowns in the digits of float32
DEGREES_RATIO = 20.0
PMU_MAX = 3600  # one frame has 65535 bytes, a PMU takes 18 of them


class Event(msgspec.Struct, frozen=True):
    """The truth of one event; other keys of the JSON are not needed here."""

    k: str
    t: float
    dv: float
    df: float
    phys: str | None = None
    mw: float | None = None
    near: list[str | int] = []
    dev: Any = ""  # a name, a number, or several
    bus: Any = ""
    devs: Any = ""

    @property
    def visible(self) -> bool:
        """Return whether any PMU can see it."""
        return self.dv >= DV_MIN_PU or self.df >= DF_MIN_HZ

    @property
    def device(self) -> str:
        """Return what was switched."""
        found = next((what for what in (self.dev, self.devs, self.bus) if what not in ("", None, [])), "")
        return " ".join(map(str, found)) if isinstance(found, list) else str(found)


class Meta(msgspec.Struct, frozen=True):
    """The JSON beside the array."""

    pmu_bus: list[str | int]
    fps: float
    events: list[Event]
    case: str = ""
    nominal_hz: float | None = None


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus that may be believed."""

    path: str
    name: str
    case: str
    stations: tuple[str, ...]
    rate_hz: float
    nominal_hz: float
    x: F32  # (event, frame, pmu, 3)
    events: tuple[Event, ...]
    digest: str  # of the arrays and the JSON

    @property
    def n_pmu(self) -> int:
        """Return the number of PMUs."""
        return len(self.stations)

    def near(self, number: int) -> tuple[str, ...]:
        """Return the PMUs nearest to an event, if the corpus tells."""
        told = self.events[number].near
        return tuple(name if isinstance(name, str) else self.stations[name] for name in told)

    def onset_row(self, number: int) -> int:
        """Return the first frame at or after the onset of an event."""
        return first_row(self.events[number].t, self.rate_hz)


def first_row(t_s: float, rate_hz: float) -> int:
    """Return the first frame at or after a time; what is a frame but for rounding is that frame."""
    return int(np.ceil(t_s * rate_hz - 1e-6))


def find_corpora(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Return the files, and of a directory every corpus in it by name; and what was left out. Raises RecordingError."""
    found, notes = [], []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        for file in sorted(path.glob("*.npz")):
            if _looks_right(file):
                found.append(file)
            else:
                notes.append(f"{file.name} is no event corpus and is left out")
    if not found:
        raise RecordingError(f"{', '.join(map(str, paths))}: no event corpus (.npz with X and meta) is there")
    return found, notes


def _looks_right(file: Path) -> bool:
    """Return whether a file has the names of a corpus; one that cannot be read is for `read_corpus` to refuse."""
    try:
        with zipfile.ZipFile(file) as arrays:
            return {"X.npy", "meta.npy"} <= set(arrays.namelist())
    except (OSError, zipfile.BadZipFile):
        return True


def read_corpus(path: Path | str) -> Corpus:
    """Return the corpus of a file; raises RecordingError with file, event and field."""
    file = Path(path)
    x, text = _load(file)
    try:
        # Python's reader takes NaN, so that what is not a number can be told by its event and field below.
        meta = msgspec.convert(json.loads(text), type=Meta)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise RecordingError(f"{file}: meta: {error}") from error
    stations = tuple(str(name) for name in meta.pmu_bus)
    _check_shape(file, x, meta, stations)
    for number, event in enumerate(meta.events):
        _check_event(file, number, event, x[number], meta.fps, stations)
    _check_angles(file, meta, x)
    nominal_hz = _nominal_hz(file, meta, x)
    digest = hashlib.sha256(np.ascontiguousarray(x).tobytes() + text.encode()).hexdigest()
    name = file.name.removesuffix(".npz")
    return Corpus(
        str(file),
        name,
        meta.case or name,
        stations,
        float(meta.fps),
        nominal_hz,
        x,
        tuple(meta.events),
        digest,
    )


def _load(file: Path) -> tuple[F32, str]:
    if not file.is_file():
        raise RecordingError(f"{file}: there is no such file")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            missing = [name for name in ("X", "meta") if name not in arrays.files]
            if missing:
                raise RecordingError(f"{file}: there is no array {missing[0]!r} in it, but {arrays.files}")
            x, meta = arrays["X"], arrays["meta"]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise RecordingError(f"{file}: this is no .npz that can be read: {error}") from error
    except AttributeError as error:  # a lone .npy
        raise RecordingError(f"{file}: this is one array, not an .npz with X and meta") from error
    if meta.size != 1 or meta.dtype.kind not in "US":
        raise RecordingError(f"{file}: meta: one JSON string is expected, not {meta.dtype} {meta.shape}")
    if x.dtype.kind not in "fiu":
        raise RecordingError(f"{file}: X: numbers are expected, not {x.dtype}")
    raw: Any = meta.reshape(-1)[0]
    return x.astype(np.float32, copy=False), raw.decode() if isinstance(raw, bytes) else str(raw)


def _check_shape(file: Path, x: F32, meta: Meta, stations: tuple[str, ...]) -> None:
    if x.ndim != 4 or x.shape[3] != 3:
        raise RecordingError(f"{file}: X: (event, frame, pmu, 3) is expected, not {x.shape}")
    if not stations:
        raise RecordingError(f"{file}: meta: pmu_bus: there is no PMU")
    if x.shape[2] != len(stations):
        raise RecordingError(f"{file}: X has {x.shape[2]} PMUs, pmu_bus names {len(stations)}")
    if x.shape[0] != len(meta.events):
        raise RecordingError(f"{file}: X has {x.shape[0]} events, meta.events {len(meta.events)}")
    if not meta.events:
        raise RecordingError(f"{file}: meta: events: there is none")
    if len(stations) > PMU_MAX:
        raise RecordingError(
            f"{file}: pmu_bus: {len(stations)} PMUs, at most {PMU_MAX} fit into one frame of 65535 bytes"
        )
    twice = (
        [name for name in stations if not name or stations.count(name) > 1]
        if len(set(stations)) < len(stations)
        else []
    )
    if twice or "" in stations:
        raise RecordingError(f"{file}: meta: pmu_bus: {(twice or [''])[0]!r} is empty or occurs twice")
    rate = meta.fps
    if not RATE_MIN_HZ <= rate <= RATE_MAX_HZ or rate != round(rate):
        raise RecordingError(
            f"{file}: meta: fps: {rate:g}; a whole number from {RATE_MIN_HZ:g} to {RATE_MAX_HZ:g} is expected"
        )


def _check_event(
    file: Path, number: int, event: Event, x: F32, fps: float, stations: tuple[str, ...]
) -> None:
    where = f"{file}: event {number} ({event.k} {event.device})"
    last_s = x.shape[0] / fps - AFTER_S
    if not 1.0 / fps <= event.t <= last_s:  # NaN too
        raise RecordingError(
            f"{where}: t: {event.t:g} s; the onset must lie within {1.0 / fps:.3g} and {last_s:g} s"
        )
    for field in ("dv", "df"):
        value = getattr(event, field)
        if not 0.0 <= value < np.inf:
            raise RecordingError(f"{where}: {field}: {value:g}; a finite number from 0 on is expected")
    for place in event.near:
        if place not in stations if isinstance(place, str) else not 0 <= place < len(stations):
            raise RecordingError(f"{where}: near: {place!r} is no PMU of pmu_bus")
    if event.phys and event.phys not in KINDS:
        raise RecordingError(f"{where}: phys: {event.phys!r}; one of {', '.join(KINDS)} is expected")
    if not np.isfinite(x).all():
        row, pmu, what = (int(part[0]) for part in np.nonzero(~np.isfinite(x)))
        field = ("voltage", "angle", "frequency")[what]
        raise RecordingError(
            f"{where}: X: {field} of PMU {stations[pmu]} is {x[row, pmu, what]} at frame {row}"
        )
    freq_hz, voltage = x[..., FREQUENCY], x[..., VOLTAGE]
    if not ((freq_hz > FREQ_MIN_HZ) & (freq_hz < FREQ_MAX_HZ)).all():
        row, pmu = (int(p[0]) for p in np.nonzero(~((freq_hz > FREQ_MIN_HZ) & (freq_hz < FREQ_MAX_HZ))))
        raise RecordingError(
            f"{where}: X: frequency of PMU {stations[pmu]} is {freq_hz[row, pmu]:g} at frame {row}; Hz are expected"
        )
    if not ((voltage >= 0.0) & (voltage < 3.0)).all():
        row, pmu = (int(p[0]) for p in np.nonzero(~((voltage >= 0.0) & (voltage < 3.0))))
        raise RecordingError(
            f"{where}: X: voltage of PMU {stations[pmu]} is {voltage[row, pmu]:g} at frame {row}; pu are expected"
        )


def _check_angles(file: Path, meta: Meta, x: F32) -> None:
    """Refuse angles that swing many times as far as the frequencies say: degrees."""
    ratios = []
    for event, rows in zip(meta.events, x, strict=True):
        after = rows[first_row(event.t + SETTLING_S, meta.fps) :].astype(np.float64)
        own = after - np.median(after, axis=1, keepdims=True)  # (n_row, n_pmu, 3)
        turned = np.diff(own[..., ANGLE], axis=0)
        turned = (turned + np.pi) % (2.0 * np.pi) - np.pi
        expected = np.sqrt(np.mean(np.square(2.0 * np.pi * own[1:, :, FREQUENCY] / meta.fps)))
        if expected > TURN_MIN_RAD:
            ratios.append(float(np.sqrt(np.mean(turned * turned)) / expected))
    if ratios and np.median(ratios) > DEGREES_RATIO:
        raise RecordingError(
            f"{file}: X: angle: PMUs swing {np.median(ratios):.0f} times as far as their frequencies say; "
            "rad are expected, degrees are 57 times as many"
        )


def _nominal_hz(file: Path, meta: Meta, x: F32) -> float:
    """Return 50 or 60: as the JSON says, else whichever is nearer to the first frames."""
    if meta.nominal_hz is None:
        first: F64 = x[:, 0, :, FREQUENCY].astype(np.float64)
        return 50.0 if float(np.median(first)) < 55.0 else 60.0
    if meta.nominal_hz not in (50.0, 60.0):
        raise RecordingError(f"{file}: meta: nominal_hz: {meta.nominal_hz:g}; 50 or 60 is expected")
    return float(meta.nominal_hz)
