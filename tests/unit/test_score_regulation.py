"""Protects the regulation need in the stream: once a minute, honest about what is known, the same bytes in any split."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamproc.config import AreaTable, SiteConfig
from streamproc.core.c37118 import (
    CFG2,
    Configuration,
    PmuInfo,
    compile_layout,
    encode_configuration,
    encode_data,
)
from streamproc.core.detector import Rule, Windows
from streamproc.core.messages import Forecast, decode
from streamproc.core.quantiles import NAMES
from streamproc.core.regulation import digest
from streamproc.shell.metrics import Metrics
from streamproc.shell.recording import read_recording
from streamproc.stages.advise import AdviseStage
from streamproc.stages.score import ScoreStage, ScoreState
from streamproc.stages.score_regulation import RULES, middle
from streamproc.values import F32, F64, TOPIC_CONFIG, TOPIC_FORECASTS, TOPIC_FRAMES, U16, Output, Record

RECORDING = Path(__file__).resolve().parents[1] / "data" / "gsf_openpdc_freq" / "freq_80min.csv.gz"
EVERY, MINUTES = 6, 45  # of the recording's 30 frames a second five are enough; before its event
START_S = 1_700_000_040  # the beginning of a minute


class Trips:
    """A model that raises while the frequency is half a hertz off."""

    fast_rows, slow_rows, digest = 3, 1, "trips"

    def __init__(self, n_pmu: int) -> None:
        self.base_v: F64 = np.full(n_pmu, np.nan)
        self.rules = (Rule("off", 1, "grid", "off", 2, 0.5, "Hz", 0.1, 0, 0, 0.1, "{source} {value}"),)

    def score(self, windows: Windows[F32], instant: int) -> F32:
        del instant
        scores: F32 = (np.abs(windows[0][0]) / 0.5)[None].astype(np.float32)
        return scores


class Models:
    describer = None

    def for_area(self, area: str, stations: tuple[str, ...], rate_hz: float, nominal_hz: float) -> Trips:
        return Trips(len(stations))


def stage_of(beta_mw_per_hz: float | None = None) -> ScoreStage:
    area = AreaTable(name="north", beta_mw_per_hz=beta_mw_per_hz)
    return ScoreStage(SiteConfig(area=(area,)), Models())


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> tuple[list[Record], F64, F64]:
    """Return frames of real frequency, and their times (s) and deviations (Hz)."""
    with gzip.open(RECORDING, "rt") as file:
        head, *rows = file.read().splitlines()
    rows = rows[: 30 * 60 * MINUTES : EVERY]
    path = tmp_path_factory.mktemp("real") / "thin.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    values = np.array([row.split(",") for row in rows], dtype=np.float64)
    frames = [r for r in read_recording(path, area="north") if r.topic != TOPIC_CONFIG]
    frames = [r._replace(offset=i) for i, r in enumerate(frames)]
    return frames, values[:, 0], values[:, 1] - 60.0


@pytest.fixture(scope="module")
def whole(real) -> list[Output]:
    return run(stage_of(2500.0), real[0], [0, len(real[0])])[1]


def run(
    stage: ScoreStage, records: Sequence[Record], bounds: Sequence[int]
) -> tuple[ScoreState, list[Output]]:
    state, outputs = stage.fresh(), list[Output]()
    for start, stop in pairwise(bounds):
        step = stage.step(state, records[start:stop])
        state = step.state
        outputs += step.outputs
    return state, outputs


def told(outputs: Sequence[Output], ending: str = "") -> list[Forecast]:
    found = [decode(Forecast, o.value) for o in outputs if o.topic == TOPIC_FORECASTS]
    assert all(isinstance(one, Forecast) for one in found)
    return [one for one in found if isinstance(one, Forecast) and one.series.endswith(ending)]


def made(
    deviation_hz: F64, stat: U16 | None = None, rate_hz: int = 1, idcode: int = 1, start_s: int = START_S
) -> list[Record]:
    """Return the records of one stream: deviations (n, n_pmu) from 50 Hz."""
    n, n_pmu = deviation_hz.shape
    pmus = tuple(
        PmuInfo(f"P{idcode}.{i}", 10 * idcode + i, 15, (), (), (), (), (), 50.0, 0) for i in range(n_pmu)
    )
    config = Configuration(CFG2, idcode, 1_000_000, rate_hz, pmus)
    frame = encode_configuration(config)[0]
    t_ns = start_s * 1_000_000_000 + np.arange(n) * (1_000_000_000 // rate_hz)
    frames = encode_data(compile_layout(config, frame), t_ns, 50.0 + deviation_hz, stat=stat)
    return [Record(TOPIC_FRAMES, 0, i, 0, b"north", value) for i, value in enumerate([frame, *frames])]


def noise(minutes: float, n_pmu: int = 2, seed: int = 1) -> F64:
    rng = np.random.default_rng(seed)
    n = int(60 * minutes)
    common = 0.01 * np.sin(np.arange(n) / 50.0)[:, None] + rng.normal(0, 0.003, (n, 1))
    return np.asarray(common + rng.normal(0, 1e-4, (n, n_pmu)))


def minute_of(one: Forecast) -> int:
    """Return how many minutes of made data had passed."""
    return one.issued_at_us // 60_000_000 - START_S // 60


def test_real_frequency_is_told_once_a_minute_and_mostly_inside_the_band(real, whole) -> None:
    _, t_s, moved_hz = real
    hits = []
    for side, extreme in (("min", np.min), ("max", np.max)):
        series = told(whole, f".{side}_hz")
        issued_us = [one.issued_at_us for one in series]
        assert [us // 60_000_000 for us in issued_us] == list(range(5, MINUTES))
        for one in series:
            (end_us,) = one.valid_ts_us
            assert (one.horizon, one.unit, one.interval_min) == ("PT15M", "Hz", 15)
            assert one.issued_at_us <= one.available_at_us <= one.issued_at_us + 1_000_000
            assert end_us - one.issued_at_us == 900_000_000
            assert one.model_digest == digest(RULES)
            bands = [getattr(one.quantiles, name)[0] for name in NAMES]
            assert bands == sorted(bands)
            inside = (t_s >= one.issued_at_us / 1e6) & (t_s < end_us / 1e6)
            if end_us / 1e6 <= t_s[-1] + 1.0:
                hits.append(bands[0] <= extreme(moved_hz[inside]) <= bands[-1])
            last = (t_s >= one.issued_at_us / 1e6 - 60.0) & (t_s < one.issued_at_us / 1e6)
            assert one.last_value == pytest.approx(extreme(moved_hz[last]), abs=1e-5)
        assert series[-1].coverage_90 is not None
        assert (series[-1].quality, series[-1].known_ratio) == ("GOOD", 1.0)
    assert len(hits) == 2 * (MINUTES - 5 - 15 + 1)
    assert np.mean(hits) >= 0.8


def test_the_power_that_lacks_is_the_frequency_upside_down_and_told_with_mw_per_hz_only(real, whole) -> None:
    assert {one.series for one in told(whole)} == {
        f"north.regulation.{of}" for of in ("min_hz", "max_hz", "imbalance_min_mw", "imbalance_max_mw")
    }
    for mw, hz in (("imbalance_min_mw", "max_hz"), ("imbalance_max_mw", "min_hz")):
        for power, frequency in zip(told(whole, mw), told(whole, hz), strict=True):
            for level, opposite in zip(NAMES, reversed(NAMES), strict=True):
                expected = -2500.0 * getattr(frequency.quantiles, opposite)[0]
                assert getattr(power.quantiles, level)[0] == pytest.approx(expected, rel=1e-4, abs=1e-3)
            assert (power.unit, power.coverage_90) == ("MW", frequency.coverage_90)
    plain = run(stage_of(), real[0], [0, len(real[0])])[1]
    assert [o for o in whole if b"_mw" not in o.key] == plain
    assert not told(plain, "_mw")


def test_other_splits_give_the_same_bytes(real, whole) -> None:
    frames = real[0]
    cuts = np.random.default_rng(3).choice(len(frames), 40, replace=False)
    for bounds in ([0, *sorted(cuts.tolist()), len(frames)], [*range(0, len(frames), 7), len(frames)]):
        assert run(stage_of(2500.0), frames, bounds)[1] == whole


@pytest.mark.parametrize("cut", [1000, 7177, 9000, 9001, 13000])  # 9000: a minute begins there
def test_a_restart_goes_on_with_the_same_bytes(real, whole, cut: int) -> None:
    frames, stage = real[0], stage_of(2500.0)
    state, before = run(stage, frames, [0, cut // 2, cut])
    blob = stage.pack(state)
    again = stage.unpack(blob)
    assert stage.pack(again) == blob
    again = stage.warm(again, frames[stage.resume_offset(state, TOPIC_FRAMES, cut) : cut])
    ahead = min(len(frames), cut + 2000)
    after = stage.step(again, frames[cut:ahead])
    assert [*before, *after.outputs] == whole[: len(before) + len(after.outputs)]
    assert len(told(after.outputs)) >= (4 if cut > 1000 else 0)
    straight = stage.step(state, frames[cut:ahead])
    assert stage.pack(after.state) == stage.pack(straight.state)


def test_minutes_with_bad_data_lower_the_known_share_and_the_quality() -> None:
    values = noise(40)
    stat = np.zeros(values.shape, dtype=np.uint16)
    stat[60 * 20 : 60 * 23] = 0x8000  # three minutes, both PMUs
    stat[60 * 25 : 60 * 30, 0] = 0x8000  # one of two is enough
    outputs = run(stage_of(), made(values, stat), [0, 60 * 40])[1]
    by_minute = {minute_of(one): one for one in told(outputs, "min_hz")}
    assert by_minute[20].known_ratio == 1.0
    assert [by_minute[m].known_ratio for m in (21, 22, 23, 30, 35)] == [0.9333, 0.8667, 0.8, 0.8, 0.8]
    assert [by_minute[m].quality for m in (20, 21, 22, 35, 38)] == [
        "GOOD",
        "GOOD",
        "SUSPECT",
        "SUSPECT",
        "GOOD",
    ]
    assert by_minute[22].last_value is None
    assert all("disturbance" not in one.flags for one in by_minute.values())


def test_a_minute_with_a_trip_is_unknown_and_what_stays_off_is_known_again() -> None:
    values = noise(60)
    values[60 * 20 + 10 : 60 * 20 + 20] -= 0.7  # over within its minute
    values[60 * 40 + 30 :] -= 0.7  # stays
    state, outputs = run(stage_of(), made(values), [0, 60 * 60 + 1])
    by_minute = {minute_of(one): one for one in told(outputs, "min_hz")}
    assert by_minute[21].known_ratio == 0.9333
    assert min(by_minute[m].quantiles.P05[0] for m in range(21, 40)) > -0.1
    assert [m for m, one in by_minute.items() if "disturbance" in one.flags and m < 41] == [*range(21, 36)]
    # The trip that stays is left out for a quarter of an hour: until too little is known, and then it is the level.
    assert by_minute[50].known_ratio == pytest.approx(5 / 15, abs=1e-4)
    assert 51 not in by_minute
    held = state.regulation["north"].state
    assert held.share[0, -3:].tolist() == [1.0] * 3
    assert held.recent[0, 2, -1] < -0.6


def test_a_median_of_the_known() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(200, 7))
    values[rng.random(values.shape) < 0.4] = np.nan
    values[3] = np.nan
    known = np.isfinite(values).any(axis=1)
    np.testing.assert_allclose(middle(values)[known], np.nanmedian(values[known], axis=1))
    assert np.isnan(middle(values)[3])


def test_one_rate_speaks_for_an_area_and_another_one_after_it_fell_silent() -> None:
    fast = made(np.repeat(noise(30, 1), 2, axis=0), idcode=1, rate_hz=2)
    slow = made(noise(60, 1, 2), idcode=2)
    pairs = [(i / 2, r) for i, r in enumerate(fast)] + [(i + 0.1, r) for i, r in enumerate(slow)]
    records = [r._replace(offset=i) for i, (_, r) in enumerate(sorted(pairs, key=lambda p: p[0]))]
    state, outputs = run(stage_of(), records, [0, len(records)])
    minutes = [minute_of(one) for one in told(outputs, "min_hz")]
    assert minutes == sorted(set(minutes))  # one voice
    assert {*range(6, 29)} < {*minutes}
    assert {*range(50, 59)} < {*minutes}
    assert state.regulation["north"].rate_hz == 1.0
    for step in (7, 333):
        bounds = [*range(0, len(records), step), len(records)]
        other = run(stage_of(), records, bounds)[1]
        assert told(other) == told(outputs)


def test_minutes_told_too_late_are_not_told_and_time_that_went_back_begins_anew() -> None:
    stage = stage_of()
    first = made(noise(20.5))
    state, outputs = run(stage, first, [0, len(first)])
    assert minute_of(told(outputs, "min_hz")[-1]) == 20
    later = made(noise(20, seed=2), start_s=START_S + 3600)
    step = stage.step(state, later)
    minutes = [minute_of(one) for one in told(step.outputs, "min_hz")]
    assert minutes[0] == 60 + 5  # what was open at the silence was told by nobody
    before = step.state.regulation["north"].state
    back = made(noise(30, seed=3), start_s=START_S - 86_400)
    step = stage.step(step.state, back)
    minutes = [minute_of(one) for one in told(step.outputs, "min_hz")]
    assert minutes
    assert set(minutes) <= {*range(-1440, -1410)}
    held = step.state.regulation["north"].state
    assert (held.held[..., 1] > before.held[..., 1]).all()  # what was learnt stays
    assert (held.errors >= before.errors).all()


def test_the_live_coverage_is_a_gauge_and_every_word_has_its_series(real) -> None:
    frames, metrics, stage = real[0], Metrics(), stage_of()
    state = stage.fresh()
    step = stage.step(state, frames)
    metrics.apply(step)
    assert not metrics.unlisted
    series = told(step.outputs)
    assert step.counts["regulation", "north"] == len(series)
    assert metrics.total("regulation") == len(series)
    for side in ("min", "max"):
        last = told(step.outputs, f".{side}_hz")[-1].coverage_90
        assert step.gauges["regulation_coverage_ratio", f"north/{side}"] == pytest.approx(last, abs=1e-4)
    asked = stage.step(stage.unpack(stage.pack(step.state)), ()).gauges
    assert ("regulation_coverage_ratio", "north/min") in asked
    assert b'streamproc_regulation_coverage_ratio{area="north",side="max"}' in metrics.expose()


def test_advice_is_not_moved_by_it(whole) -> None:
    stage = AdviseStage(SiteConfig(), lambda *_: None)
    records = [
        Record(o.topic, 0, i, o.ts_ms, o.key, o.value)
        for i, o in enumerate(o for o in whole if o.topic == TOPIC_FORECASTS)
    ]
    step = stage.step(stage.fresh(), records)
    assert step.outputs == ()
    assert stage.pack(step.state) == stage.pack(stage.fresh())
