"""Defects that alarm systems of the field have or had, each by name: none of them may be ours.

Where a whole file of tests protects against one, its case here is the smallest that shows it.
"""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.condition import ConditionState, RuleArrays, advance
from streamproc.core.detector import Rule
from tests.unit.alarm_cases import Desk
from tests.unit.test_condition import rule, timeline


# Delay, deadband, unknown
def test_gsf_has_no_off_delay() -> None:
    assert timeline("1.2 0.5 1.2 0.5 0.5 0.5", rule(0, 200)) == "^####v"


def test_jaws_and_phoebus_delays_in_whole_seconds() -> None:
    assert timeline("1.2 1.2 1.2 1.2", rule(200)) == "pp^#"  # 200 ms at ten frames a second


def test_gsf_bad_samples_raise_and_clear() -> None:
    assert timeline("? ? 1.2 ? ? 0.5", rule()) == "..^##v"


def test_gsf_on_delay_skipped_for_the_first_sample() -> None:
    assert timeline("1.2 1.2 1.2", rule(200)) == "pp^"


def test_gsf_nan_resets_the_on_delay_and_never_clears() -> None:
    assert timeline("1.2 ? 1.2 ? 0.5", rule(200)) == "pp^#v"


def test_gsf_flatline_alarms_with_a_first_value_of_zero() -> None:
    desk = Desk()
    assert desk.records == []
    arrays = RuleArrays.of([rule()])
    state, edges = advance(ConditionState.fresh(1, 1), arrays, np.array([100_000_000]), np.zeros((1, 1, 1)))
    assert edges.kind.size == 0
    assert not state.active.any()


# Shelving, persistence, acknowledgement
@pytest.mark.parametrize(("by_hand", "state"), [(True, "ACKED"), (False, "UNACK")])
def test_alerta_both_unshelve_paths(by_hand: bool, state: str) -> None:
    desk = Desk()
    alert = desk.edge("raise", 100.0)[0]["alert_id"]
    desk.shelve(alert, 101.0, until_s=160.0)
    if by_hand:
        desk.say("unshelve", alert, 120.0)
    else:
        desk.time(161.0)
    assert desk.last(alert)["state"] == state


def test_alerta_a_deduplicated_alert_never_reaches_auto_unshelve() -> None:
    desk = Desk()
    alert = desk.edge("raise", 100.0)[0]["alert_id"]
    desk.shelve(alert, 101.0, until_s=160.0)
    for second in range(102, 165):
        desk.edge("raise" if second % 2 else "clear", second)
    assert desk.last(alert)["state"] == "UNACK"


def test_alerta_has_no_unacknowledge() -> None:
    desk = Desk()
    alert = desk.edge("raise", 100.0)[0]["alert_id"]
    desk.say("acknowledge", alert, 101.0)
    assert desk.say("unacknowledge", alert, 102.0)["state"] == "UNACK"


def test_phoebus_acknowledgements_are_lost_on_restart() -> None:
    desk = Desk()
    alert = desk.edge("raise", 100.0)[0]["alert_id"]
    desk.say("acknowledge", alert, 101.0)
    desk.restart()
    desk.edge("update", 103.0, scores=(9.0,))
    assert (desk.last(alert)["state"], desk.last(alert)["ack_by"]) == ("ACKED", "ann")


def test_phoebus_acknowledging_disconnected_hides_the_real_alarm() -> None:
    desk = Desk()
    alert = desk.edge("raise", 100.0)[0]["alert_id"]
    desk.edge("raise", 110.0, rule="data_missing", family="quality")
    missing = next(a["alert_id"] for a in desk.records if a["rule"] == "data_missing")
    desk.say("acknowledge", missing, 111.0)
    assert desk.last(alert)["state"] == "UNACK"


def test_phoebus_no_history_of_disabling() -> None:
    desk = Desk()
    alert = desk.edge("raise", 100.0)[0]["alert_id"]
    desk.say("out_of_service", alert, 101.0, reason="relay test")
    desk.say("return_to_service", alert, 102.0, "bob")
    told = [(a["state"], a["command"]["action"], a["command"]["user"]) for a in desk.records if a["command"]]
    assert told == [("OOSRV", "out_of_service", "ann"), ("UNACK", "return_to_service", "bob")]


def test_phoebus_duplicates_with_delay() -> None:
    desk = Desk()
    first = desk.edge("raise", 100.0)
    assert desk.edge("raise", 100.0) == []
    assert desk.edge("raise", 100.0) == []
    assert len(first) == len(desk.records) == 1


def test_phoebus_ok_shown_after_compaction() -> None:
    """The newest record of an alert says all that is so: whoever reads nothing else is not misled."""
    desk = Desk()
    alert = desk.edge("raise", 100.0)[0]["alert_id"]
    desk.say("acknowledge", alert, 101.0)
    desk.edge("raise", 103.0, ("P2",), rule="rocof")
    desk.edge("update", 104.0, scores=(9.0,))
    last = desk.last(alert)
    assert (last["state"], last["ack_by"], last["sources"]) == ("ACKED", "ann", ["P1", "P2"])


def test_operatorfabric_an_update_in_place_resets_the_acknowledgement() -> None:
    desk = Desk()
    alert = desk.edge("raise", 100.0)[0]["alert_id"]
    desk.say("acknowledge", alert, 101.0)
    for second in (103, 105, 107):
        desk.edge("update", second, scores=(float(second),))
    assert {a["state"] for a in desk.records[1:]} == {"ACKED"}


def test_grafana_refuses_acknowledgements() -> None:
    desk = Desk()
    alert = desk.edge("raise", 100.0)[0]["alert_id"]
    assert desk.say("acknowledge", alert, 101.0)["state"] == "ACKED"  # the service owns them, and the state


def test_archive_walker_fails_when_an_event_grows_by_several_occurrences() -> None:
    for count in (0, 1, 2, 40):
        desk = Desk()
        alert = desk.edge("raise", 100.0)[0]["alert_id"]
        if count:
            desk.edge("raise", 101.0, tuple(f"Q{n}" for n in range(count)))
        desk.time(103.0)
        desk.edge("update", 104.0, scores=(50.0,))
        assert desk.last(alert)["members"] == 1 + count


def test_gsf_one_alarm_per_signal() -> None:
    desk = Desk()
    desk.edge("raise", 100.0, tuple(f"P{n}" for n in range(300)))
    desk.edge("raise", 100.1, tuple(f"P{n}" for n in range(300)), rule="rocof")
    assert len(desk.newest) == 1


def test_gridappsd_fixed_limits_and_every_fifth_message_only() -> None:
    """The limit is the rule's own, and every frame is judged: a single one over it raises."""
    assert timeline("0.5 0.5 1.0 0.5", Rule("r", 1, "grid", "k", 2, 0.07, "pu", 0.0, 0, 0, 0.0, "")) == "..^v"


def test_gsf_frequency_excursion_counts_valid_channels_at_start_only() -> None:
    """One bad PMU is unknown at every frame, for itself: it raises nothing and silences nobody."""
    arrays = RuleArrays.of([rule()])
    state = ConditionState.fresh(1, 2)
    state, edges = advance(state, arrays, np.array([100_000_000]), np.array([[[np.nan, 0.2]]]))
    assert edges.kind.size == 0
    state, edges = advance(state, arrays, np.array([200_000_000]), np.array([[[np.nan, 1.2]]]))
    assert edges.source.tolist() == [1]
