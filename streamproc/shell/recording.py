"""Recordings as records: what a broker would have delivered, read from a file.

    .pcap .pcapng           C37.118 over TCP or UDP: the frames in the order of their arrival
    .PmuCapture .c37        the same from a GSF capture, or from raw frames back to back
    .csv .csv.gz .parquet   columns with units in their names (`streamproc.shell.columns`): PMU quantities
                            become real C37.118 frames through the codec, SCADA columns JSON batches
    .ndjson                 SCADA batches as in the measurements topic

So a recording takes the same way as live data, decoder included. A configuration comes first, as it would
from its compacted topic, and again in the frames where the recording has it.

A voltage is that of a phase to ground, as PMUs send it; `nominal_kv` in the site file is line to line, 1.732 times that.

A table becomes one stream with one PMU per name and one frame per row: floating point, polar, locked clock. A
voltage in pu is sent with 1 pu = 1 kV, so `nominal_kv` = 1.732 in the site file makes pu of the site out of
it; without, each voltage is judged against its own first second. What a cell does not say is NaN; a PMU with
no value at all in a row is sent as "absent data tag inserted" (STAT bits 15-14 = 10). A PMU always reports
frequency: where a table has an angle but no frequency, it is taken from the turn of the angle. An angle
without a voltage is sent on a phasor of 1 kV.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from streamproc.core.c37118 import (
    CFG2,
    CFG3,
    Configuration,
    Layout,
    PmuInfo,
    compile_layout,
    encode_configuration,
    encode_data,
)
from streamproc.core.messages import ScadaBatch, ScadaPoint, encode
from streamproc.errors import RecordingError
from streamproc.shell.captures import CAPTURE_ENDINGS, read_capture
from streamproc.shell.columns import PMU_RATE_HZ_MIN, Columns, PmuColumns, find_columns
from streamproc.shell.tables import NO_TIME, Chunk, open_table
from streamproc.values import C128, F64, I64, TOPIC_CONFIG, TOPIC_FRAMES, TOPIC_SCADA, U16, Record

AREA = "recording"  # the area of a recording when nobody names one
BASE_V = 1000.0  # V on the wire that stand for 1 pu
STREAM_IDCODE = 1
RATE_ROWS, RATE_CHANGE = (
    64,
    0.2,
)  # rows looked at together, and how far their rate may be from that of the file
ABSENT_STAT = 0x8000  # IEEE C37.118.2-2011, table 7: absent data tags have been inserted
TABLE_ENDINGS = (".csv", ".csv.gz", ".tsv", ".parquet", ".pq")
NDJSON_ENDINGS = (".ndjson", ".jsonl")
Note = Callable[[str], None]


def read_recording(
    path: Path | str,
    *,
    area: str | None = None,
    rate_hz: float | None = None,
    points: Collection[str] = (),
    nominal_hz: float | None = None,
    note: Note = lambda _: None,
) -> Iterator[Record]:
    """Yield the records of a recording in their order; raises RecordingError with file and place.

    `points` is the site's catalogue: a column with such a name is that point. `nominal_hz` is the site's; without it a
    table's frequencies tell, and a table without frequencies is taken for 60 Hz. `note` gets a sentence for what
    was left out or assumed.
    """
    file = Path(path)
    name = file.name.lower()
    if not file.is_file():
        raise RecordingError(f"{file}: there is no such file")
    key = (area or AREA).encode()
    if name.endswith(TABLE_ENDINGS):
        return _numbered(_table_records(file, key, rate_hz, points, nominal_hz, note))
    if name.endswith(NDJSON_ENDINGS):
        return _numbered(_json_records(file, area))
    if name.endswith(CAPTURE_ENDINGS):
        return _numbered(read_capture(file, key, note))
    known = ", ".join((*CAPTURE_ENDINGS, *TABLE_ENDINGS, *NDJSON_ENDINGS))
    raise RecordingError(f"{file}: a recording is one of {known}")


def _numbered(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the records with offsets as one broker partition per topic would give them."""
    offsets = {TOPIC_CONFIG: 0, TOPIC_FRAMES: 0, TOPIC_SCADA: 0}
    for record in records:
        offset = offsets[record.topic]
        offsets[record.topic] = offset + 1
        yield Record(record.topic, 0, offset, record.ts_ms, record.key, record.value, record.headers)


def _json_records(path: Path, area: str | None) -> Iterator[Record]:
    """Yield one record per line; the key is the batch's own area. The stage judges the lines, not we."""
    from orjson import JSONDecodeError, loads  # noqa: PLC0415 - only for this kind of recording

    with path.open("rb") as lines:
        for raw in lines:
            line = raw.strip()
            if not line:
                continue
            ts_ms, key = 0, area
            try:
                tree = loads(line)
                key = area or str(tree["area"])
                ts_ms = max(int(point["ts_us"]) for point in tree["points"]) // 1000
            except (JSONDecodeError, KeyError, TypeError, ValueError):
                pass  # the stage will refuse it, with its reason
            yield Record(TOPIC_SCADA, 0, 0, ts_ms, (key or AREA).encode(), line)


def _table_records(
    path: Path,
    key: bytes,
    rate_hz: float | None,
    points: Collection[str],
    nominal_hz: float | None,
    note: Note,
) -> Iterator[Record]:
    table = open_table(path)
    first = next(table.chunks, None)
    if first is None:
        raise RecordingError(f"{path}: there is a header but no row")
    rate = rate_hz or _rate_hz(path, first)
    columns = find_columns(table.names, rate, points)
    if columns.ignored:
        note(f"columns left out (no unit that is known in their names): {', '.join(columns.ignored[:8])}")
    if not columns.pmus and not columns.points:
        raise RecordingError(
            f"{path}: no column says what it is; names are like freq_hz, BUS1_voltage_pu, BUS1_angle_deg, F1_mw"
        )
    chunks = _same_rate(_with_times(path, chain([first], table.chunks), rate), rate, note)
    if not columns.pmus:
        for t_ns, chunk in chunks:
            yield from _scada(columns, key, t_ns, chunk)
        return
    if rate != round(rate):
        raise RecordingError(f"{path}: {rate:g} frames/s: the DATA_RATE of a stream is a whole number")
    maker = FrameMaker.of(path, columns.pmus, rate, nominal_hz or _nominal_hz(columns.pmus, first))
    note(f"{len(columns.pmus)} PMUs at {rate:g} frames/s, nominal {maker.layout.nominal_hz[0]:g} Hz")
    for number, (t_ns, chunk) in enumerate(chunks):
        if number == 0:
            yield from maker.config_records(key, int(t_ns[0]) // 1_000_000)
        frames = maker.frames(t_ns, chunk)
        times_ms = (t_ns // 1_000_000).tolist()
        made = (Record(TOPIC_FRAMES, 0, 0, t, key, f) for t, f in zip(times_ms, frames, strict=True))
        if columns.points:
            batches = _scada(columns, key, t_ns, chunk)
            yield from sorted(chain(made, batches), key=lambda record: record.ts_ms)
        else:
            yield from made


def _with_times(path: Path, chunks: Iterable[Chunk], rate_hz: float) -> Iterator[tuple[I64, Chunk]]:
    """Yield each chunk with its times; without a time column row n is at n / rate_hz."""
    done = 0
    for chunk in chunks:
        if chunk.t_ns is None:
            t_ns = np.rint(np.arange(done, done + chunk.n_row) * (1e9 / rate_hz)).astype(np.int64)
        else:
            t_ns = chunk.t_ns
            wrong = np.flatnonzero((t_ns < 0) | (t_ns >= 2**32 * 1_000_000_000))
            if wrong.size:
                told = "no time" if t_ns[wrong[0]] == NO_TIME else f"time {t_ns[wrong[0]] / 1e9:.3f} s"
                raise RecordingError(
                    f"{path}: row {done + int(wrong[0]) + 1} has {told}; a frame needs one from 1970 to 2106"
                )
        done += chunk.n_row
        yield t_ns, chunk


def _same_rate(
    chunks: Iterable[tuple[I64, Chunk]], rate_hz: float, note: Note
) -> Iterator[tuple[I64, Chunk]]:
    """Yield the chunks; say it once if rows begin to come at another rate."""
    row, told = 0, False
    for t_ns, chunk in chunks:
        stop = 0 if told else t_ns.size - t_ns.size % RATE_ROWS
        steps = np.diff(t_ns[:stop].reshape(-1, RATE_ROWS), axis=1)
        found = np.median(steps, axis=1) if stop else np.zeros(0)
        other = np.flatnonzero((found > 0) & (np.abs(found * rate_hz / 1e9 - 1.0) > RATE_CHANGE))
        if other.size:
            first, told = int(other[0]), True
            note(
                f"from about row {row + first * RATE_ROWS + 1} on rows come {1e9 / found[first]:.3g} times a second, not "
                f"{rate_hz:g}: what is too slow counts as frames lost, what is too fast as frames sent twice; "
                "cut the file where its rate changes"
            )
        row += t_ns.size
        yield t_ns, chunk


def _rate_hz(path: Path, first: Chunk) -> float:
    """Return rows per second as the time column tells; a whole number from 1 on, as DATA_RATE is."""
    if first.t_ns is None:
        raise RecordingError(
            f"{path}: there is no time column (time_s, ts_us, timestamp, ...); tell --rate-hz"
        )
    steps = np.diff(first.t_ns)
    steps = steps[steps > 0]
    if not steps.size:
        raise RecordingError(f"{path}: the rate cannot be told from the time column; tell --rate-hz")
    median = float(np.median(steps))
    # Times with milliseconds only make 33 and 34 ms out of 1/30 s: their mean is right, their median is not.
    rate = 1e9 / float(steps[np.abs(steps - median) <= 0.2 * median].mean())
    return rate if rate < PMU_RATE_HZ_MIN * 0.99 else float(max(1, round(rate)))


@dataclass(slots=True)
class FrameMaker:
    """Turns rows into data frames of one stream."""

    layout: Layout
    config: list[bytes]
    pmus: tuple[PmuColumns, ...]
    last_angle_rad: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, pmus: tuple[PmuColumns, ...], rate_hz: float, nominal_hz: float) -> FrameMaker:
        """Return the maker for these PMUs."""
        long = any(len(pmu.name.encode()) > 16 for pmu in pmus)
        infos = tuple(_pmu_info(pmu, number, nominal_hz) for number, pmu in enumerate(pmus, 1))
        kind = CFG3 if long or len(pmus) > 1000 else CFG2
        config = Configuration(kind, STREAM_IDCODE, 1_000_000, round(rate_hz), infos)
        frames = encode_configuration(config)
        layout = compile_layout(config, b"".join(frames))
        if layout.frame_size > 65535:
            raise RecordingError(f"{path}: {len(pmus)} PMUs do not fit into one frame of 65535 bytes")
        return cls(layout, frames, pmus)

    def config_records(self, key: bytes, ts_ms: int) -> Iterator[Record]:
        """Yield the configuration as its topic has it, and in front of the frames."""
        for frame in self.config:
            yield Record(TOPIC_CONFIG, 0, 0, ts_ms, b"%d" % STREAM_IDCODE, frame)
        yield Record(TOPIC_FRAMES, 0, 0, ts_ms, key, b"".join(self.config))

    def frames(self, t_ns: I64, chunk: Chunk) -> list[bytes]:
        """Return one frame per row."""
        n_pmu = len(self.pmus)
        freq_hz, rocof = np.full((chunk.n_row, n_pmu), np.nan), np.full((chunk.n_row, n_pmu), np.nan)
        phasor = np.full((chunk.n_row, self.layout.phasor_pmu.size), np.nan + 0j, dtype=np.complex128)
        for index in range(n_pmu):  # over columns of the file, not over rows
            given = {
                quantity: chunk.numbers(column) * scale
                for quantity, (column, scale) in self.pmus[index].quantities.items()
            }
            freq_hz[:, index] = self._frequency(index, given, chunk.n_row)
            rocof[:, index] = given.get("rocof", np.nan)
            place = np.flatnonzero(self.layout.phasor_pmu == index)
            if place.size:
                phasor[:, place[0]] = _phasor(given)
        stat = self._stat(freq_hz, phasor)
        return encode_data(self.layout, t_ns, freq_hz, stat=stat, rocof_hz_s=rocof, phasor=phasor)

    def _frequency(self, index: int, given: dict[str, F64], n_row: int) -> F64:
        nominal_hz = float(self.layout.nominal_hz[index])
        if "freq" in given:
            return given["freq"]
        if "freq_dev" in given:
            return given["freq_dev"] + nominal_hz
        angle = given.get("angle")
        if angle is None:
            return np.full(n_row, np.nan)
        before = self.last_angle_rad.get(index, float(angle[0]))
        self.last_angle_rad[index] = float(angle[-1])
        turn = np.diff(angle, prepend=before) / (2 * np.pi)
        return np.asarray(nominal_hz + (turn - np.rint(turn)) * self.layout.rate_hz)

    def _stat(self, freq_hz: F64, phasor: C128) -> U16:
        known = np.isfinite(freq_hz)
        known[:, self.layout.phasor_pmu] |= np.isfinite(phasor)
        return np.where(known, 0, ABSENT_STAT).astype(np.uint16)


def _phasor(given: dict[str, F64]) -> C128 | complex:
    if "voltage_pu" in given:
        size: F64 | float = given["voltage_pu"] * BASE_V
    else:
        size = given.get("voltage", BASE_V)
    angle = given.get("angle")
    if angle is None:
        return np.asarray(size) + 0j
    # A phasor with one of its halves missing is missing as a whole.
    return np.asarray(size * np.exp(1j * angle))


def _pmu_info(pmu: PmuColumns, number: int, nominal_hz: float) -> PmuInfo:
    has_phasor = not {"voltage", "voltage_pu", "angle"}.isdisjoint(pmu.quantities)
    return PmuInfo(
        stn=pmu.name,
        idcode=number,
        format=1 | 2 | 8,  # polar, float phasors, float FREQ and DFREQ
        phasor_names=("V1",) if has_phasor else (),
        phasor_is_current=(False,) if has_phasor else (),
        phasor_factor=(1.0,) if has_phasor else (),
        analog_names=(),
        digital_names=(),
        nominal_hz=nominal_hz,
        cfgcnt=0,
        phasor_component=(1,) if has_phasor else (),
    )


def _nominal_hz(pmus: Sequence[PmuColumns], first: Chunk) -> float:
    """Return 50 or 60, whichever is nearer to the median of the first frequencies; 60 if there are none."""
    for pmu in pmus:
        if "freq" in pmu.quantities:
            values = first.numbers(pmu.quantities["freq"][0])
            values = values[np.isfinite(values) & (values > 40.0) & (values < 70.0)]
            if values.size:
                return 50.0 if float(np.median(values)) < 55.0 else 60.0
    return 60.0


def _scada(columns: Columns, key: bytes, t_ns: I64, chunk: Chunk) -> Iterator[Record]:
    """Yield one batch per row, without the points whose cell is empty; a row without any is left out."""
    area = key.decode()
    values = [(name, chunk.numbers(column).tolist()) for name, column in columns.points]
    for row, t in enumerate(t_ns.tolist()):
        ts_us = t // 1000
        given = tuple(
            ScadaPoint(id=name, value=cells[row], ts_us=ts_us)
            for name, cells in values
            if cells[row] - cells[row] == 0.0  # finite
        )
        if given:
            value = encode(ScadaBatch(area=area, points=given))
            yield Record(TOPIC_SCADA, 0, 0, ts_us // 1000, key, value)
