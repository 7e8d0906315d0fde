"""Protects the score stage: any batching and any restart give the same bytes; bad bytes are counted and kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.config import AreaTable, SiteConfig
from streamproc.core.c37118 import (
    CFG2,
    Configuration,
    PmuInfo,
    compile_layout,
    encode_configuration,
    encode_data,
)
from streamproc.core.damping_watch import WINDOW_S
from streamproc.core.detector import Rule, Windows
from streamproc.stages.score import ScoreStage, ScoreState
from streamproc.values import F32, F64, TOPIC_CONFIG, TOPIC_FINDINGS, TOPIC_FRAMES, Output, Record

RATE = 10
N_PMU = 3


class Steps:
    """A model that needs its whole window: how far the last frequency is from the mean of the window, per 0.1 Hz."""

    fast_rows, slow_rows, digest = 25, 5, "steps"

    def __init__(self, n_pmu: int) -> None:
        self.base_v: F64 = np.full(n_pmu, np.nan)
        self.rules = (
            Rule("step", 1, "grid", "step", 2, 0.1, "Hz", 2.5, 200, 300, 0.1, "{source} {value}"),
            Rule("slow", 1, "grid", "slow", 3, 0.1, "Hz", 5.0, 0, 0, 0.1, "{source} {value}"),
            Rule("rare", 1, "grid", "rare", 3, 0.01, "Hz", 0.3, 0, 0, 0.1, "{source} {value}"),
        )

    def score(self, windows: Windows[F32], instant: int) -> F32:
        now, fast, slow = windows
        known = np.isfinite(fast[:, 0])
        count = known.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(known, fast[:, 0], 0).sum(axis=0) / count
            jump = np.abs(now[0] - mean) / 0.1
            rare = np.abs(fast[-1, 0] - fast[-3, 0]) / 0.01  # both may be bridged
            if instant % 4:
                rare[:] = np.nan  # judged at every fourth instant
            low = np.abs(slow[-1, 0] - slow[0, 0]) / 0.1
        return np.stack([jump, low, rare]).astype(np.float32)


class Models:
    describer = None

    def for_area(self, area: str, stations: tuple[str, ...], rate_hz: float, nominal_hz: float) -> Steps:
        return Steps(len(stations))


def stream(idcode: int, cfgcnt: int = 0, phasors: int = 1) -> tuple[bytes, Configuration]:
    names = tuple(f"V{i}" for i in range(phasors))
    pmu = PmuInfo(
        f"PMU{idcode}", idcode, 15, names, (False,) * phasors, (1.0,) * phasors, (), (), 50.0, cfgcnt
    )
    config = Configuration(CFG2, idcode, 1_000_000, RATE, (pmu,))
    return encode_configuration(config)[0], config


def fleet(seconds: int = 12, seed: int = 1) -> list[Record]:
    """Return the records of three PMUs: noise, one step of two, drop-outs, bad STAT, reordering."""
    rng = np.random.default_rng(seed)
    n = seconds * RATE
    t_ns = 1_700_000_000_000_000_000 + np.arange(n) * (1_000_000_000 // RATE)
    arrivals: list[tuple[float, bytes]] = []
    for pmu in range(N_PMU):
        frame, config = stream(pmu + 1)
        arrivals.append((-1.0, frame))
        freq_hz = 50.0 + 0.005 * rng.standard_normal((n, 1))
        if pmu < 2:
            freq_hz[n // 2 : n // 2 + 15] += 0.6
        stat = np.where(rng.random((n, 1)) < 0.03, 0x8000, 0).astype(np.uint16)
        angle = np.cumsum(rng.normal(0, 0.01, (n, 1)), axis=0)
        phasor = 1000.0 * np.exp(1j * angle)
        made = encode_data(compile_layout(config, frame), t_ns, freq_hz, phasor=phasor, stat=stat)
        late_s = rng.exponential(0.1, n)
        keep = rng.random(n) > 0.03
        arrivals += [
            (float(t - t_ns[0]) / 1e9 + d, f)
            for t, d, f, k in zip(t_ns, late_s, made, keep, strict=True)
            if k
        ]
    arrivals.sort(key=lambda pair: pair[0])
    return [
        Record(TOPIC_FRAMES, 0, i, 1_700_000_000_000 + i, b"north", f) for i, (_, f) in enumerate(arrivals)
    ]


RECORDS = fleet()


def run(
    stage: ScoreStage, records: Sequence[Record], bounds: Sequence[int]
) -> tuple[ScoreState, list[Output]]:
    state, told = stage.fresh(), list[Output]()
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        step = stage.step(state, records[start:stop])
        state = step.state
        told += step.outputs
    return state, told


WHOLE = run(ScoreStage(SiteConfig(), Models()), RECORDS, [0, len(RECORDS)])[1]


def soc(record: Record) -> int:
    return int.from_bytes((record.value or b"")[6:10], "big")


def assert_restart(records: list[Record], whole: list[Output], cut: int, batch: int) -> None:
    stage = ScoreStage(SiteConfig(), Models())
    state, before = run(stage, records, [*range(0, cut, batch), cut])
    blob = stage.pack(state)
    again = stage.unpack(blob)
    assert stage.pack(again) == blob
    resume = stage.resume_offset(state, TOPIC_FRAMES, cut)
    for start in range(resume, cut, batch):
        again = stage.warm(again, records[start : min(cut, start + batch)])
    after = stage.step(again, records[cut:]).outputs
    assert [*before, *after] == whole


# Nobody speaks for 8 s, and later for 14 s: windows are kept over the first, and begin anew after the second.
HOLES = [
    r._replace(offset=i)
    for i, r in enumerate(
        r
        for r in fleet(60, seed=2)
        if not (10 <= soc(r) - 1_700_000_000 < 18 or 30 <= soc(r) - 1_700_000_000 < 44)
    )
]
HOLES_WHOLE = run(ScoreStage(SiteConfig(), Models()), HOLES, [0, len(HOLES)])[1]


def test_a_silence_of_everyone_is_told_when_it_ends() -> None:
    found = [orjson.loads(o.value) for o in HOLES_WHOLE if o.topic == TOPIC_FINDINGS]
    missing = [f for f in found if f["type"] == "raise" and f["rule"] == "data_missing"]
    onsets = {onset // 1_000_000 - 1_700_000_000 for f in missing for onset in f["onsets_us"]}
    assert {10, 30} <= onsets


@given(st.lists(st.integers(0, len(HOLES)), max_size=12), st.sampled_from([0, 1, 7, 37]))
@settings(max_examples=30, deadline=None)
def test_any_split_gives_the_same_bytes_across_silences(cuts: list[int], every: int) -> None:
    stage = ScoreStage(SiteConfig(), Models())
    bounds = sorted({0, *(range(0, len(HOLES), every) if every else cuts), len(HOLES)})
    assert run(stage, HOLES, bounds)[1] == HOLES_WHOLE


@given(st.integers(1, len(HOLES) - 1), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_a_restart_anywhere_goes_on_with_the_same_bytes_across_silences(cut: int, batch: int) -> None:
    assert_restart(HOLES, HOLES_WHOLE, cut, batch)


def test_the_fleet_shows_what_happened() -> None:
    found = [orjson.loads(o.value) for o in WHOLE if o.topic == TOPIC_FINDINGS]
    kinds = {(f["type"], f["rule"]) for f in found}
    assert ("raise", "step") in kinds
    assert ("clear", "step") in kinds
    assert ("watermark", "") in kinds
    raised = next(f for f in found if f["rule"] == "step" and f["type"] == "raise")
    assert set(raised["sources"]) <= {"PMU1", "PMU2"}
    assert raised["onsets_us"][0] == 1_700_000_006_000_000


@given(st.lists(st.integers(0, len(RECORDS)), max_size=12))
@settings(max_examples=40, deadline=None)
def test_any_split_gives_the_same_bytes(cuts: list[int]) -> None:
    stage = ScoreStage(SiteConfig(), Models())
    assert run(stage, RECORDS, [0, *sorted(cuts), len(RECORDS)])[1] == WHOLE


@given(st.integers(1, len(RECORDS) - 1), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_a_restart_anywhere_goes_on_with_the_same_bytes(cut: int, batch: int) -> None:
    assert_restart(RECORDS, WHOLE, cut, batch)


@given(st.lists(st.integers(0, 2 * len(RECORDS)), max_size=8))
@settings(max_examples=25, deadline=None)
def test_two_areas_in_one_partition_keep_their_order_in_any_split(cuts: list[int]) -> None:
    stage = ScoreStage(SiteConfig(), Models())
    both = [r._replace(key=k) for r in RECORDS for k in (b"north", b"south")]
    whole = run(stage, both, [0, len(both)])[1]
    assert run(stage, both, [0, *sorted(cuts), len(both)])[1] == whole
    assert [o for o in whole if b"north" in o.value] == WHOLE


def test_a_pmu_that_joins_later_was_not_missing_before() -> None:
    stage = ScoreStage(SiteConfig(), Models())
    late = [r for i, r in enumerate(RECORDS) if i > 250 or (r.value or b"")[4:6] != b"\x00\x03"]
    told = run(stage, late, [0, len(late)])[1]
    assert not [o for o in told if b"data_missing" in o.value and b"PMU3" in o.value]
    assert run(stage, late, [*range(0, len(late), 7), len(late)])[1] == told


def test_the_resume_offset_trails_by_the_windows_only() -> None:
    stage = ScoreStage(SiteConfig(), Models())
    records = fleet(seconds=220)
    bounds = [*range(0, len(records), 200), len(records)]
    state, _ = run(stage, records, bounds)
    trailing = len(records) - stage.resume_offset(state, TOPIC_FRAMES, len(records))
    per_second = N_PMU * RATE
    assert WINDOW_S * per_second < trailing < (WINDOW_S + 14) * per_second


def test_a_step_leaves_the_state_it_was_given() -> None:
    stage = ScoreStage(SiteConfig(), Models())
    state, _ = run(stage, RECORDS, [0, 100])
    before = stage.pack(state)
    first = stage.step(state, RECORDS[100:150])
    assert stage.pack(state) == before
    assert stage.step(state, RECORDS[100:150]).outputs == first.outputs


def reasons(outputs: Sequence[Output]) -> list[bytes]:
    return [dict(o.headers)["reason"] for o in outputs if o.topic == TOPIC_FRAMES + ".dlq"]


def test_bad_records_are_kept_with_their_reason_and_good_ones_beside_them_are_processed() -> None:
    stage = ScoreStage(SiteConfig(area=(AreaTable(name="north"),)), Models())
    good = RECORDS[:40]
    wrong = bytearray(good[10].value or b"")
    wrong[-1] ^= 1
    unknown, _ = stream(77)
    stranger = encode_data(
        compile_layout(stream(77)[1], unknown), np.array([1_700_000_000_000_000_000]), np.full((1, 1), 50.0)
    )[0]
    contradiction, _ = stream(1, phasors=3)
    bad = [
        bytes(wrong),
        b"",
        stranger,
        contradiction,
        b"hello, this is no frame",
        (good[5].value or b"")[:-4],
    ]
    mixed = [*good, *(Record(TOPIC_FRAMES, 0, 1000 + i, 1, b"north", b) for i, b in enumerate(bad))]
    mixed.append(good[0]._replace(key=None))
    mixed.append(good[0]._replace(key=b"atlantis"))
    step = stage.step(stage.fresh(), mixed)
    assert sorted(reasons(step.outputs)) == sorted(
        [
            b"bad_crc",
            b"empty",
            b"unknown_configuration",
            b"config_conflict",
            b"bad_sync",
            b"truncated",
            b"missing_key",
            b"unknown_area",
        ]
    )
    assert step.counts["frames", "north"] == len(good) - N_PMU
    assert sum(n for (name, _), n in step.counts.items() if name == "dead_letters") == 8


def test_a_record_of_more_than_a_mebibyte_is_refused_unread() -> None:
    step = ScoreStage(SiteConfig(), Models()).step(
        ScoreState(), [RECORDS[0]._replace(value=b"\xaa\x01\xff\xff" * 300_000)]
    )
    assert reasons(step.outputs) == [b"too_large"]
    assert step.counts["dead_letters", "too_large"] == 1


def test_a_record_with_good_and_bad_frames_gives_both() -> None:
    stage = ScoreStage(SiteConfig(), Models())
    both = (RECORDS[0].value or b"") + (RECORDS[5].value or b"") + b"garbage behind it"
    state = stage.step(stage.fresh(), RECORDS[:3]).state
    step = stage.step(state, [RECORDS[5]._replace(value=both)])
    assert step.counts["frames", "north"] == 1
    assert reasons(step.outputs) == [b"garbage"]


def test_a_configuration_from_the_broadcast_topic_is_enough() -> None:
    stage = ScoreStage(SiteConfig(), Models())
    configs = [Record(TOPIC_CONFIG, 0, i, 0, b"1", stream(i + 1)[0]) for i in range(N_PMU)]
    state = stage.learn(stage.fresh(), configs)
    step = stage.step(state, RECORDS[N_PMU:])
    assert not reasons(step.outputs)
    assert step.outputs == tuple(WHOLE)


def test_a_new_configuration_mid_stream_takes_over() -> None:
    stage = ScoreStage(SiteConfig(), Models())
    frame, config = stream(1, cfgcnt=1, phasors=3)
    t_ns = 1_700_000_002_000_000_000 + np.arange(10) * 100_000_000
    more = encode_data(compile_layout(config, frame), t_ns, np.full((10, 1), 50.0))
    records = [r for r in RECORDS if (r.value or b"")[4:6] == b"\x00\x01"][:15]
    records += [Record(TOPIC_FRAMES, 0, 500 + i, 0, b"north", b) for i, b in enumerate([frame, *more])]
    step = stage.step(stage.fresh(), records)
    assert not reasons(step.outputs)
    assert step.counts["frames", "north"] == 24


def test_streams_of_two_rates_in_one_area_do_not_disturb_each_other() -> None:
    stage = ScoreStage(SiteConfig(), Models())
    pmu = PmuInfo("SLOW", 9, 15, (), (), (), (), (), 50.0, 0)
    config = Configuration(CFG2, 9, 1_000_000, 1, (pmu,))
    frame = encode_configuration(config)[0]
    t_ns = 1_700_000_000_000_000_000 + np.arange(12) * 1_000_000_000
    slow = encode_data(compile_layout(config, frame), t_ns, np.full((12, 1), 50.0))
    extra = [Record(TOPIC_FRAMES, 0, 5000 + i, 0, b"north", b) for i, b in enumerate([frame, *slow])]
    told = stage.step(stage.fresh(), [*RECORDS, *extra]).outputs
    mine = [o for o in told if b'"watermark"' not in o.value and b"SLOW" not in o.value]
    assert mine == [o for o in WHOLE if b'"watermark"' not in o.value]


def test_bad_frozen_and_unsynchronised_frames_are_counted_and_laid_at_their_pmu() -> None:
    frame, config = stream(1)
    n = 20
    t_ns = 1_700_000_000_000_000_000 + np.arange(n) * 100_000_000
    freq_hz = 50.0 + 0.01 * np.arange(n)[:, None]
    freq_hz[15:] = freq_hz[14]  # five frames stand still
    stat = np.zeros((n, 1), dtype=np.uint16)
    stat[3:7], stat[9:11] = 0x8000, 0x2000  # data invalid; clock lost
    sent = encode_data(compile_layout(config, frame), t_ns, freq_hz, stat=stat)
    records = [Record(TOPIC_FRAMES, 0, i, 0, b"north", b) for i, b in enumerate([frame, *sent])]
    counts = ScoreStage(SiteConfig(), Models()).step(ScoreState(), records).counts
    seen = {word: counts[word, "north"] for word in ("bad", "frozen", "unsynchronised")}
    assert seen == {"bad": 4, "frozen": 5, "unsynchronised": 2}
    assert counts["pmu_unusable", "north/PMU1"] == 9


def test_a_bad_configuration_of_the_broadcast_topic_is_counted() -> None:
    stage = ScoreStage(SiteConfig(), Models())
    bad = bytearray(stream(9)[0])
    bad[-1] ^= 1
    state = stage.learn(stage.fresh(), [Record(TOPIC_CONFIG, 0, 0, 0, b"9", bytes(bad))])
    step = stage.step(state, RECORDS[:N_PMU])
    assert step.counts["config_rejected", "bad_crc"] == 1
    assert stage.step(step.state, RECORDS[N_PMU:9]).counts["config_rejected", "bad_crc"] == 0
