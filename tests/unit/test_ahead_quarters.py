"""Protects the quarter-hour means that the 48-hour forecasts live on: right for every scan rate, around gaps and bad
values, and the same however the records were split."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from test_scada import Record, batch

from streamproc.config import PointTable, SiteConfig
from streamproc.core.messages import Intervals
from streamproc.core.sums import Sums, add, closed, due, skipped
from streamproc.stages.scada import ScadaStage
from streamproc.stages.scada_area import AreaPlan
from streamproc.values import TOPIC_INTERVALS, TOPIC_SCADA, Output

QUARTER_S = 900
FIRST = 1_790_000_100 // QUARTER_S + 1  # the first whole quarter after the T0 of the records
SHIFT = FIRST * QUARTER_S - 1_790_000_100


def config(scan_ms: int = 10_000) -> SiteConfig:
    points = [
        PointTable(id=name, area="north", unit="MW", scan_ms=scan_ms, interval_min=1) for name in ("A", "B")
    ]
    hidden = PointTable(id="H", area="north", unit="MW", forecast=False)
    return SiteConfig(point=(*points, hidden))


def intervals(outputs: list[Output]) -> list[Intervals]:
    return [msgspec.json.decode(o.value, type=Intervals) for o in outputs if o.topic == TOPIC_INTERVALS]


def through(stage: ScadaStage, records: list[Record], size: int, *, restarted: bool = False) -> list[Output]:
    state, outputs = stage.fresh(), []
    for start in range(0, len(records), size):
        step = stage.step(state, records[start : start + size])
        state = step.state
        outputs += step.outputs
        if restarted:
            state = stage.unpack(stage.pack(state))
    return outputs


def scans(
    scan_s: int, quarters: list[int], seed: int = 1
) -> tuple[list[Record], dict[int, list[float | None]]]:
    """Records of these quarter hours (numbers from 0), and the means that they have."""
    rng = np.random.default_rng(seed)
    records, means = [], {}
    for quarter in quarters:
        values: list[list[float]] = [[], []]
        for scan in range(QUARTER_S // scan_s):
            second = SHIFT + quarter * QUARTER_S + scan * scan_s
            points = []
            for at, name in enumerate(("A", "B")):
                value = round(float(10.0 + 5.0 * at + rng.normal()), 3)
                kind = rng.integers(0, 12)
                if at == 1 and quarter % 5 == 3:
                    continue  # B is silent for this quarter
                if kind == 0:
                    points.append((name, 1e6, second, "bad"))
                elif kind == 1:
                    points.append((name, 9e5, second, "suspect"))
                else:
                    points.append((name, value, second))
                    values[at].append(value)
            points.append(("H", 99.0, second))
            records.append(batch(len(records), *points))
        means[quarter] = [float(np.mean(v)) if v else None for v in values]
    return records, means


@pytest.mark.parametrize("scan_s", [10, 60])
@pytest.mark.parametrize("quarters", [list(range(8)), [0, 1, 2, 6, 7, 10, 11], [0, 2, 4, 5], [0, 3, 6]])
def test_means_are_right_and_bad_values_are_left_out(scan_s: int, quarters: list[int]) -> None:
    records, means = scans(scan_s, quarters)
    stage = ScadaStage(config(scan_s * 1000), None)
    made = intervals(through(stage, records, 5))
    numbers = [m.start_us // 1_000_000 // QUARTER_S - FIRST for m in made]
    assert numbers == quarters[:-1]  # the last one is still open
    for number, one in zip(numbers, made, strict=True):
        assert one.start_us % (QUARTER_S * 1_000_000) == 0
        assert one.ids == ("A", "B")  # H is not forecast
        assert one.units == ("MW", "MW")
        for got, wanted in zip(one.means, means[number], strict=True):
            if wanted is None:
                assert got is None
            else:
                assert got == pytest.approx(wanted, rel=5e-7)  # seven digits


@pytest.mark.parametrize("quarters", [list(range(5)), [0, 1, 4, 9, 10, 11]])
def test_batches_and_restarts_do_not_show(quarters: list[int]) -> None:
    records, _ = scans(60, quarters)
    whole = [o for o in through(ScadaStage(config(), None), records, 10_000) if o.topic == TOPIC_INTERVALS]
    assert len(whole) == len(quarters) - 1
    for size in (1, 4, 11):
        again = through(ScadaStage(config(), None), records, size, restarted=size == 4)
        assert [o for o in again if o.topic == TOPIC_INTERVALS] == whole
    assert all(o.key == b"north" for o in whole)
    # A record that holds many scans tells the same as many records.
    points: list[tuple[str, float, float]] = [("A", 1.0 + i % 7, SHIFT + 30 * i) for i in range(100)]
    one = intervals(through(ScadaStage(config(), None), [batch(0, *points)], 1))
    many = [batch(i, p) for i, p in enumerate(points)]
    assert [m.means for m in intervals(through(ScadaStage(config(), None), many, 1))] == [
        m.means for m in one
    ]


def test_a_quarter_hour_waits_for_the_slowest_and_not_for_ever() -> None:
    stage = ScadaStage(config(), None)
    values = [batch(i, ("A", 1.0, SHIFT + 10 * i), ("B", 2.0, SHIFT + 10 * i)) for i in range(90)]
    last = [
        batch(90, ("A", 3.0, SHIFT + 900)),
        batch(91, ("B", 50.0, SHIFT + 899)),
        batch(92, ("B", 3.0, SHIFT + 901)),
    ]
    (made,) = intervals(through(stage, [*values, *last], 1))
    assert made.means[1] == pytest.approx((89 * 2.0 + 2.0 + 50.0) / 91, rel=1e-6)
    alone = [batch(90 + i, ("A", 3.0, SHIFT + 900 + 5 * i)) for i in range(4)]  # B stays away
    made, *_ = intervals(through(ScadaStage(config(), None), [*values, *alone], 1))
    assert made.means == (1.0, 2.0)
    late = [*values, *alone, batch(99, ("B", 1e5, SHIFT + 899))]
    assert intervals(through(ScadaStage(config(), None), late, 1)) == [made]


def test_both_open_quarter_hours_close_before_a_gap() -> None:
    """A is in the second one while B is still in the first; then both are away for an hour's quarter or more."""
    for gap in (3, 4):
        records = [
            batch(0, ("A", 1.0, SHIFT + 880), ("B", 2.0, SHIFT + 880)),
            batch(1, ("A", 3.0, SHIFT + 900)),
            batch(2, ("A", 5.0, SHIFT + gap * 900), ("B", 6.0, SHIFT + gap * 900)),
        ]
        made = intervals(through(ScadaStage(config(), None), records, 1))
        assert [m.means for m in made] == [(1.0, 2.0), (3.0, None)]


def test_a_meter_that_stands_still_shows_the_same_number_however_often_it_was_scanned() -> None:
    records = []
    for quarter in range(4):
        for scan in range(90 - 13 * quarter):
            records.append(batch(len(records), ("A", 0.1, SHIFT + quarter * QUARTER_S + 10 * scan)))
    made = intervals(through(ScadaStage(config(), None), records, 50))
    assert [m.means for m in made] == [(0.1, None)] * len(made)
    assert len(made) >= 3


def test_sums_of_an_area_without_a_catalogue_grow_with_its_points() -> None:
    stage = ScadaStage(SiteConfig(), None)
    records = [batch(i, ("a.MW", 1.0, SHIFT + 60 * i)) for i in range(15)]
    records += [
        batch(20 + i, ("a.MW", 2.0, SHIFT + 900 + 60 * i), ("b.MW", 4.0, SHIFT + 900 + 60 * i))
        for i in range(15)
    ]
    records += [batch(40, ("a.MW", 2.0, SHIFT + 1800), ("b.MW", 4.0, SHIFT + 1800))]
    made = intervals(through(stage, records, 3))
    assert [m.ids for m in made] == [("a.MW", "b.MW")] * 2
    assert [m.means for m in made] == [(1.0, None), (2.0, 4.0)]


def test_sums_count_what_is_late_and_say_when_they_are_due() -> None:
    sums = Sums.fresh(15, 2)
    assert not due(sums, 10**18, 0)
    sums, late = add(sums, np.array([0, 1]), np.array([5, 5]), np.array([1.0, np.nan]))
    assert (sums.start, late) == (5, 0)
    end_ns = 6 * sums.length_ns
    assert not due(sums, end_ns - 1, 0)
    assert not due(sums, end_ns, 10)
    assert due(sums, end_ns + 10, 10)
    sums, late = add(sums, np.array([0, 0]), np.array([4, 6]), np.array([9.0, 3.0]))
    assert late == 1
    assert not due(sums, 0, 0)  # series 1 is alive, and has not gone past the end
    sums, _ = add(sums, np.array([1]), np.array([6]), np.array([np.nan]))
    assert due(sums, 0, 0)
    sums, mean = closed(sums)
    assert mean[0] == 1.0
    assert np.isnan(mean[1])
    sums, mean = closed(sums)
    assert mean[0] == 3.0
    assert skipped(sums, 99).start == 99
    taken = sums.taken(np.array([1, -1, 0]))
    assert taken.seen.tolist() == [6, -1, 6]
    assert taken.start == 7


def test_a_point_that_speaks_once_an_hour_stands_for_its_hour_and_nobody_waits_for_it() -> None:
    points = (
        PointTable(id="A", area="north", unit="MW", scan_ms=60_000),
        PointTable(id="H", area="north", unit="MW", scan_ms=3_600_000),
    )
    plan = AreaPlan.of("north", "main", points, frozenset())
    assert [(grid.interval_min, grid.columns.tolist()) for grid in plan.grids] == [(1, [0]), (15, [1])]
    assert plan.quarter.wait_ns == 90 * 1_000_000_000
    stage = ScadaStage(SiteConfig(point=points), None)
    state, told = stage.fresh(), []
    begin_us = 1_700_000_000_000_000 // 3_600_000_000 * 3_600_000_000
    for minute in range(125):
        values = [("A", 1.0 + minute)] + ([("H", 50.0 + minute)] if minute % 60 == 0 else [])
        batch = {
            "area": "north",
            "points": [
                {"id": name, "value": value, "ts_us": begin_us + minute * 60_000_000}
                for name, value in values
            ],
        }
        record = Record(TOPIC_SCADA, 0, minute, 0, b"north", json.dumps(batch).encode())
        step = stage.step(state, [record])
        state = step.state
        told += [json.loads(o.value) for o in step.outputs if o.topic == TOPIC_INTERVALS]
    assert [one["means"][1] for one in told] == [50.0] * 4 + [110.0] * 4
