"""Protects rationalised alarms: the file is strict, guidance and priority reach the alert, limits switch at an event time
and at no other, and history says the same as the service would have."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from streamproc.cli.root import app
from streamproc.config import PointTable, SiteConfig
from streamproc.core.kpi import figures
from streamproc.core.messages import Alert, decode, encode
from streamproc.core.rationale import difference, priority_of
from streamproc.core.rules_message import AlarmRule, Rules
from streamproc.errors import ConfigError
from streamproc.shell.alarm_report import figures_of, page_of, read_alerts
from streamproc.shell.rules_file import parse_rules, rules_text
from streamproc.shell.rules_history import compared, proposed, replayed
from streamproc.shell.site_file import load_site
from streamproc.stages.decide import DecideStage
from streamproc.stages.scada import ScadaStage
from streamproc.values import TOPIC_FINDINGS, TOPIC_RULES, TOPIC_SCADA, Output, Record
from tests.unit.alarm_cases import Desk

T0_US = 1_790_000_100_000_000
SITE = SiteConfig(
    point=(
        PointTable(id="F1.P", area="north", unit="MW", limit_high=10.0, limit_low=-5.0, deadband=0.1),
        PointTable(id="BUS.V", area="north", unit="kV", kind="voltage", limit_low=109.0, forecast=False),
        PointTable(id="F2.P", area="north", unit="MW"),
    )
)
GOOD = """
[[alarm]]
rule = "point_high:F1.P"
cause = "Load above the rating"
consequence = "Trip of the feeder"
corrective_action = "Shift load to feeder 2"
severity = "major"
response_time_min = 30
priority = 3
who = "dispatcher"
unit = "MW"
limit = 12.0
deadband = 0.5
on_delay_ms = 20000

[[alarm]]
rule = "frequency_*"
cause = "Loss of generation"
consequence = "Shedding"
corrective_action = "Start reserve"
severity = "severe"
response_time_min = 2
latch = true
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("response_time_min = 30", "", "rules.toml:2: alarm[0].response_time_min = (nothing): is required"),
        ('severity = "major"', 'severity = "huge"', "must be one of"),
        ("priority = 3", "priority = 1", "severity and response_time_min make it 3"),
        ("limit = 12.0", "limit = -7.0", "must be above the other limit (-5)"),
        ("limit = 12.0", 'limit = "12"', "must be"),
        ('unit = "MW"', 'unit = "kW"', "must be MW, the unit of the point (12 kW are 0.012 MW)"),
        ('rule = "point_high:F1.P"', 'rule = "point_high:F9.P"', "no such [[point]] in the site file"),
        ('rule = "frequency_*"', 'rule = "frequency_*"\nlimit = 3.0', "only with a rule of one point"),
        ("deadband = 0.5", "deadband = 9.0", "less than half of the distance between the limits"),
        ("on_delay_ms = 20000", "on_delay_ms = -1", "must not be negative"),
        ("on_delay_ms = 20000", "on_delay_s = 20", "unknown key; did you mean 'on_delay_ms'?"),
        ("response_time_min = 2", "response_time_min = 0", "what needs no answer is no alarm"),
        ('rule = "frequency_*"', 'rule = "point_high:F1.P"', "stands there twice"),
    ],
)
def test_a_wrong_file_is_refused_with_line_key_value_and_rule(old: str, new: str, told: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as refused:
        parse_rules(GOOD.replace(old, new), SITE)
    assert told in str(refused.value)
    assert "rules.toml:" in str(refused.value)


def test_priority_follows_from_consequence_and_time_to_respond() -> None:
    rules = parse_rules(GOOD, SITE)
    assert [priority_of(rule) for rule in rules.alarms] == [3, 1]
    base = {"rule": "x", "cause": "c", "consequence": "c", "corrective_action": "a"}
    for severity in ("severe", "major", "minor"):
        made = [AlarmRule(**base, severity=severity, response_time_min=t) for t in (1.0, 10.0, 30.0, 100.0)]
        ranks = [priority_of(rule) for rule in made]
        assert all(one <= other for one, other in pairwise(ranks))
        assert ranks[-1] == 4


def rules_record(rules: Rules, offset: int = 0) -> Record:
    return Record(TOPIC_RULES, 0, offset, 0, b"%d" % rules.valid_from_us, encode(rules))


def test_an_alert_carries_its_guidance_and_the_sites_priority_from_the_event_time_on() -> None:
    desk = Desk()
    rules = parse_rules(GOOD, SITE, valid_from_us=1000 * 1_000_000)
    desk.state = desk.stage.learn(desk.state, [rules_record(rules)])
    step = desk.stage.step
    told = []
    # The worker teaches a stage again after every restart, and the desk restarts at every record.
    desk.stage.step = lambda s, r, *a: step(desk.stage.learn(s, [rules_record(rules)]), r, *a)  # type: ignore[method-assign]
    for at_s, source in ((500.0, "P1"), (2000.0, "P2")):
        told += desk.edge("raise", at_s, (source,), rule="frequency_jump", priority=2)
    assert [t["priority"] for t in told if t["seq"] == 1] == [2, 1]
    assert told[0]["guidance"] is None
    assert told[-1]["guidance"]["corrective_action"] == "Start reserve"
    desk.edge("clear", 2001.0, ("P2",), rule="frequency_jump")
    assert desk.time(2010.0)[-1]["latched"] is True


def test_rules_that_nobody_can_read_are_counted_and_change_nothing() -> None:
    stage = DecideStage(SITE)
    state = stage.learn(stage.fresh(), [Record(TOPIC_RULES, 0, 0, 0, b"x", b"{}")])
    assert state.eras == ()
    step = stage.step(state, [Record(TOPIC_FINDINGS, 0, 0, 0, b"", b"")])
    assert step.counts["rejected", "rules"] == 1


def scada(values: list[float], start_s: float = 0.0, step_s: float = 10.0) -> list[Record]:
    made = []
    for number, value in enumerate(values):
        ts_us = T0_US + round((start_s + number * step_s) * 1e6)
        points = [{"id": "F1.P", "value": value, "ts_us": ts_us}]
        text = orjson.dumps({"schema": "scada/1", "area": "north", "points": points})
        made.append(Record(TOPIC_SCADA, 0, number, ts_us // 1000, b"north", text))
    return made


def raises(outputs: tuple[Output, ...]) -> list[tuple[int, float]]:
    found = [orjson.loads(o.value) for o in outputs if o.topic == TOPIC_FINDINGS]
    return [((f["ts_us"] - T0_US) // 1_000_000, f["limit"]) for f in found if f["type"] == "raise"]


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_limits_switch_at_their_event_time_however_records_are_batched(batch: int) -> None:
    stage = ScadaStage(SITE, None)
    rules = parse_rules(GOOD.replace("on_delay_ms = 20000", ""), SITE, valid_from_us=T0_US + 100_000_000)
    state = stage.learn(stage.fresh(), [rules_record(rules)])
    # Over 10 MW until the switch at 100 s, then 11 MW is within 12 MW; at 200 s it is over that, too.
    values = [9.0, 11.0] + [9.0] * 8 + [11.0] * 10 + [12.5] * 3
    records, outputs = scada(values), []
    for start in range(0, len(records), batch):
        step = stage.step(state, records[start : start + batch])
        state = step.state
        outputs += step.outputs
    assert raises(tuple(outputs)) == [(10, 10.0), (200, 12.0)]


def test_history_proposes_delays_and_deadbands_and_whatif_shows_what_they_change() -> None:
    rng = np.random.default_rng(5)
    load = 9.6 + 0.25 * np.sin(np.arange(4000) / 40.0) + rng.normal(0.0, 0.15, 4000)
    load[2000:2400] += 3.0
    records = scada([float(v) for v in load])
    alarms, why = proposed(SITE, records)
    assert {alarm.rule for alarm in alarms} == {"point_high:F1.P", "point_low:F1.P"}
    assert "noise" in why["point_high:F1.P"]
    new = parse_rules(rules_text(alarms, why), SITE)
    told = compared(replayed(SITE, records, None), replayed(SITE, records, new))
    assert told["before"]["raises"] > 10 * max(1, told["after"]["raises"])
    assert told["after"]["raises"] >= 1  # the real excursion is still said
    assert told["missed"]["point_high:F1.P"] > 0
    assert told["new"] == {}
    assert compared(replayed(SITE, records, new), replayed(SITE, records, new))["missed"] == {}


def test_a_replay_says_what_the_stages_said() -> None:
    records = scada([9.0, 11.0, 9.0, 9.0, 11.0])
    outcome = replayed(SITE, records, None)
    stage = ScadaStage(SITE, None)
    live = raises(stage.step(stage.fresh(), records).outputs)
    assert [(t - T0_US) // 1_000_000 for t, _ in outcome.raises] == [at_s for at_s, _ in live]


def test_the_difference_is_told_line_by_line() -> None:
    old = parse_rules(GOOD, SITE)
    new = parse_rules(GOOD.replace("limit = 12.0", "limit = 11.0").replace("frequency_*", "rocof"), SITE)
    assert difference(old, new) == [
        "+ rocof: priority 1",
        "- frequency_*",
        "~ point_high:F1.P: limit 12.0 -> 11.0",
    ]
    assert difference(old, old) == []


def told_alerts() -> list[Alert]:
    desk = Desk()
    for number in range(30):
        desk.edge("raise", 1000.0 + 20 * number, (f"P{number}",))
        alert = desk.records[-1]["alert_id"]
        desk.say("acknowledge", alert, 1010.0 + 20 * number)
    alerts = [decode(Alert, orjson.dumps(record)) for record in desk.records]
    return [alert for alert in alerts if isinstance(alert, Alert)]


def test_the_figures_of_a_position() -> None:
    alerts = told_alerts()
    found = figures("main", alerts, 1000_000_000, 4600_000_000)
    assert found.annunciations == 30
    assert found.rate_max == 30
    ((begin, end, count),) = found.floods
    assert (begin, count) == (1_200_000_000, 30)  # with the eleventh
    assert end == 1_000_000_000 + 25 * 20_000_000 + 600_000_000
    assert found.time_in_flood_ratio == pytest.approx((end - begin) / 3600e6)
    assert found.acknowledge_s == (10.0,) * 30
    assert found.mix == {"low": 0.0, "medium": 1.0, "high": 0.0}
    assert found.per_window == (30, 0, 0, 0, 0, 0)
    late = figures("main", alerts, 1000_000_000, 1000_000_000 + 2 * 86_400_000_000)
    assert len(late.stale) == 30


def test_the_report_is_one_page_and_a_strange_file_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "alerts.ndjson"
    path.write_bytes(b"\n".join(encode(alert) for alert in told_alerts()))
    with pytest.raises(SystemExit) as end:
        app(["alarms", "report", "--alerts", str(path), "--out", str(tmp_path / "page.html")])
    assert not end.value.code, capsys.readouterr().err
    page = (tmp_path / "page.html").read_text()
    assert "EEMUA 191" in page
    assert "<svg" in page
    assert "src=" not in page
    assert page_of(figures_of(read_alerts(SITE, path, None, None), None, None)) == page
    path.write_bytes(path.read_bytes() + b"\n{}")
    with pytest.raises(SystemExit) as end:
        app(["alarms", "report", "--alerts", str(path)])
    assert end.value.code == 1
    assert "line 61" in capsys.readouterr().err


def test_whatif_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site, rules, history = (tmp_path / name for name in ("site.toml", "rules.toml", "history.csv"))
    site.write_text(
        '[[point]]\nid = "F1.P"\narea = "north"\nunit = "MW"\nlimit_high = 10.0\nlimit_low = -5.0\n'
    )
    rules.write_text(GOOD.replace("deadband = 0.5", "deadband = 0.1"))
    rows = [f"{T0_US // 1_000_000 + 10 * n},{11.0 if n % 7 == 3 else 9.0}" for n in range(100)]
    history.write_text("time,F1.P\n" + "\n".join(rows) + "\n")
    with pytest.raises(SystemExit) as end:
        app(["alarms", "whatif", str(rules), "-c", str(site), "--recording", str(history), "--json"])
    out, err = capsys.readouterr()
    assert not end.value.code, err
    told: dict[str, Any] = orjson.loads(out)
    assert (told["before"]["raises"], told["after"]["raises"]) == (14, 0)
    assert told["missed"] == {"point_high:F1.P": 14}


def test_the_example_fits_the_example_site() -> None:
    deploy = Path(__file__).parents[2] / "deploy"
    text = (deploy / "rules.example.toml").read_text()
    assert len(parse_rules(text, load_site(deploy / "site.example.toml")).alarms) == 3
