"""Protects the one alarm that no data can raise: an area that says nothing at all."""

from __future__ import annotations

import msgspec

from streamproc.config import AreaTable, PointTable, QualityTable, SiteConfig
from streamproc.core.decide import DecideState
from streamproc.core.messages import Alert, Finding
from streamproc.shell.silence import SilenceWatch
from streamproc.stages.decide import DecideStage
from streamproc.values import Output, Record

SITE = SiteConfig(
    area=(AreaTable(name="north", position="desk-1"), AreaTable(name="south")),
    point=(PointTable(id="P", area="north", unit="MW", scan_ms=60_000),),
    quality=QualityTable(silent_ms=10_000),
)
T_S = 1_700_000_000.0


def told(outputs: list[Output]) -> list[tuple[str, str, int]]:
    found = [msgspec.json.decode(o.value, type=Finding) for o in outputs]
    return [(f.type, f.rule, f.ts_us) for f in found]


def test_an_area_is_silent_after_the_limit_and_heard_again_with_its_first_data() -> None:
    watch = SilenceWatch(SITE)
    said = []
    for second in range(40):
        event_s = T_S + (second if second < 5 or second >= 30 else 4)
        outputs = watch.look(float(second), {("score", "north"): event_s})
        said += [(second, *row) for row in told(outputs)]
        watch.told()
    assert said == [
        (1, "clear", "area_silent", 1_700_000_001_000_000),  # what a predecessor may have said is over
        (14, "raise", "area_silent", 1_700_000_014_000_000),
        (
            24,
            "watermark",
            "",
            1_700_000_024_000_000,
        ),  # its time passes: shelves end, what is held too long is told
        (30, "clear", "area_silent", 1_700_000_030_000_000),
    ]


def test_what_was_not_acknowledged_is_said_again_and_a_successor_says_the_same_bytes() -> None:
    watch, successor = SilenceWatch(SITE), SilenceWatch(SITE)
    times_s = {("score", "south"): T_S}
    watch.look(0.0, times_s)
    successor.look(100.0, times_s)
    first = watch.look(10.0, times_s)
    assert first
    assert watch.look(11.0, times_s) == first
    assert successor.look(110.0, times_s) == first
    watch.told()
    assert watch.look(12.0, times_s) == []


def test_polled_points_have_six_scans_and_strangers_are_not_expected() -> None:
    watch = SilenceWatch(SITE)
    times_s = {("scada", "north"): T_S, ("score", "elsewhere"): T_S}
    assert [bool(watch.look(now_s, times_s)) for now_s in (0.0, 359.0, 360.0)] == [False, False, True]


def test_an_area_that_went_to_another_worker_is_forgotten() -> None:
    watch = SilenceWatch(SITE)
    watch.look(0.0, {("score", "north"): T_S})
    watch.look(5.0, {})
    assert watch.look(20.0, {("score", "north"): T_S}) == []


def test_the_deciding_stage_makes_one_alert_of_it_that_returns_to_normal() -> None:
    watch, stage = SilenceWatch(SITE), DecideStage(SITE)
    state, alerts = DecideState(), []
    for second in range(60):
        event_s = T_S + (second if second < 5 or second >= 30 else 4)
        for output in watch.look(float(second), {("score", "north"): event_s}):
            record = Record(output.topic, 0, second, output.ts_ms, output.key, output.value)
            step = stage.step(state, (record, record))  # a second time changes nothing
            state = step.state
            alerts += [msgspec.json.decode(o.value, type=Alert) for o in step.outputs]
        watch.told()
        mark = Finding(
            type="watermark",
            finding_id=str(second),
            area="north",
            position="desk-1",
            ts_us=round(event_s * 1e6),
        )
        step = stage.step(state, (Record("grid.findings.v1", 0, 0, 0, b"", msgspec.json.encode(mark)),))
        state = step.state
        alerts += [msgspec.json.decode(o.value, type=Alert) for o in step.outputs]
    assert [(a.family, a.kind, a.state, a.source, a.priority) for a in alerts] == [
        ("service", "area_silent", "UNACK", "north", 2),
        ("service", "area_silent", "RTNUN", "north", 2),
    ]
    assert alerts[0].message.startswith("No PMU frames from area north for more than 10 s")
