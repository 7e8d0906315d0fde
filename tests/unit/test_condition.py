"""Protects limit, deadband and delays at frame resolution. One character per frame: . quiet  p pending  ^ raised
# active  v cleared  (a NaN score is written as ?)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.condition import (
    CLEAR,
    RAISE,
    UPDATE,
    ConditionState,
    RuleArrays,
    advance,
    pack_conditions,
    unpack_conditions,
)
from streamproc.core.detector import Rule

FRAME_NS = 100_000_000


def rule(on_ms: int = 0, off_ms: int = 0, deadband: float = 0.0) -> Rule:
    return Rule("r", 1, "grid", "k", 2, 1.0, "Hz", 0.0, on_ms, off_ms, deadband, "text")


def timeline(scores: str, settings_: Rule, hold_ns: int = 1 << 62) -> str:
    values = np.array([np.nan if s == "?" else float(s) for s in scores.split()])
    arrays = RuleArrays.of([settings_], hold_ns)
    state, drawn = ConditionState.fresh(1, 1), ""
    for tick, value in enumerate(values):
        t_ns = np.array([(tick + 1) * FRAME_NS])
        state, edges = advance(state, arrays, t_ns, value.reshape(1, 1, 1))
        kinds = set(edges.kind.tolist())
        if RAISE in kinds:
            drawn += "^"
        elif CLEAR in kinds:
            drawn += "v"
        elif state.active[0, 0]:
            drawn += "#"
        else:
            drawn += "p" if state.onset_ns[0, 0] else "."
    return drawn


@pytest.mark.parametrize(
    ("scores", "settings_", "drawn"),
    [
        ("0.5 1.2 0.5", rule(), ".^v"),
        ("0.5 1.0 0.5", rule(), ".^v"),  # at the limit is over it
        ("0.5 1.2 0.5 1.2 1.2 0.95 0.95 0.85 0.85", rule(100, 100, 0.1), ".p.p^###v"),
        ("1.2 1.2 1.2", rule(200), "pp^"),  # starting inside the alarm region waits the on-delay too
        ("1.2 0.95 0.89", rule(0, 0, 0.1), "^#v"),  # the deadband holds
        ("1.2 0.5 1.2 0.5 0.5 0.5", rule(0, 200), "^####v"),  # the off-delay starts again
        ("1.2 ? ? 0.5", rule(), "^##v"),  # unknown never clears
        ("? ? 1.2 ?", rule(), "..^#"),  # nor raises
        ("1.2 ? 1.2", rule(200), "pp^"),  # nor resets the on-delay
        ("1.2 ? ? ?", rule(200), "pppp"),  # nor ends it
    ],
)
def test_timelines(scores: str, settings_: Rule, drawn: str) -> None:
    assert timeline(scores, settings_) == drawn


@pytest.mark.parametrize(
    ("scores", "settings_", "drawn"),
    [
        ("1.2 ? ? 1.2 1.2 1.2", rule(200), "pppp" + "p^"),  # the frames before the gap prove nothing any more
        ("1.2 ? 1.2", rule(200), "pp^"),  # a short gap is held
        ("1.2 0.5 ? ? 0.5 0.5 0.5", rule(0, 200), "^#####v"),  # nor does unknown time count as quiet
        ("1.2 ? ? 0.5", rule(200), "ppp."),
        ("1.2 ? ? ? 1.2 0.5", rule(), "^####v"),  # active stays active
    ],
)
def test_after_more_than_the_hold_without_a_known_frame_a_delay_begins_anew(
    scores: str, settings_: Rule, drawn: str
) -> None:
    assert timeline(scores, settings_, hold_ns=2 * FRAME_NS) == drawn


def test_the_onset_is_the_first_frame_over_the_limit() -> None:
    t_ns = np.arange(1, 6) * FRAME_NS
    scores = np.array([0.1, 1.5, 1.7, 1.6, 0.1]).reshape(-1, 1, 1)
    _, edges = advance(ConditionState.fresh(1, 1), RuleArrays.of([rule(200)]), t_ns, scores)
    assert edges.kind.tolist() == [RAISE, CLEAR]
    assert edges.onset_ns.tolist() == [t_ns[1], t_ns[1]]
    assert edges.tick.tolist() == [3, 4]
    assert edges.score.tolist() == [1.7, 0.1]


def test_a_growing_peak_is_told_at_most_once_a_second() -> None:
    t_ns = np.arange(1, 31) * FRAME_NS
    scores = 1.1 ** np.arange(30).reshape(-1, 1, 1)
    _, edges = advance(ConditionState.fresh(1, 1), RuleArrays.of([rule()]), t_ns, scores)
    assert edges.kind.tolist() == [RAISE, UPDATE, UPDATE]
    assert np.diff(t_ns[edges.tick]).min() >= 1_000_000_000


@given(
    st.lists(
        st.lists(st.sampled_from([0.2, 0.93, 1.1, 2.0, float("nan")]), min_size=4, max_size=4), min_size=1
    ),
    st.lists(st.integers(0, 100), max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_any_split_gives_the_same_edges(rows: list[list[float]], cuts: list[int]) -> None:
    scores = np.array(rows).reshape(-1, 2, 2)
    t_ns = np.arange(1, scores.shape[0] + 1) * FRAME_NS
    arrays = RuleArrays.of([rule(100, 200, 0.1), rule()])
    whole_state, whole = advance(ConditionState.fresh(2, 2), arrays, t_ns, scores)
    state, seen = ConditionState.fresh(2, 2), []
    bounds = [0, *sorted(min(c, t_ns.size) for c in cuts), t_ns.size]
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        state, edges = advance(state, arrays, t_ns[start:stop], scores[start:stop])
        seen += list(
            zip(
                edges.tick + start,
                edges.rule,
                edges.kind,
                edges.source,
                edges.onset_ns,
                edges.score,
                strict=True,
            )
        )
    assert seen == list(
        zip(whole.tick, whole.rule, whole.kind, whole.source, whole.onset_ns, whole.score, strict=True)
    )
    assert pack_conditions(state) == pack_conditions(whole_state)
    assert pack_conditions(unpack_conditions(pack_conditions(state), 2, 2)) == pack_conditions(state)


def test_advance_leaves_the_state_it_was_given() -> None:
    fresh = ConditionState.fresh(1, 1)
    before = pack_conditions(fresh)
    advance(fresh, RuleArrays.of([rule()]), np.array([FRAME_NS]), np.full((1, 1, 1), 2.0))
    assert pack_conditions(fresh) == before


def test_new_sources_and_rules_keep_what_is_known_of_the_old() -> None:
    arrays = RuleArrays.of([rule()])
    state, _ = advance(ConditionState.fresh(1, 1), arrays, np.array([FRAME_NS]), np.full((1, 1, 1), 2.0))
    grown = state.take(np.array([-1, 0]), np.array([-1, 0, -1]))
    assert grown.active.tolist() == [[False, False, False], [False, True, False]]


@st.composite
def scenes(draw: st.DrawFn) -> np.ndarray:
    """Scores (n_tick, 2, n_source), many of them far from the limit, as in life."""
    n_tick, n_source = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    value = st.sampled_from([0.1, 0.1, 0.1, 0.93, 1.0, 1.6, 4.0, float("nan")])
    flat = draw(st.lists(value, min_size=n_tick * 2 * n_source, max_size=n_tick * 2 * n_source))
    return np.array(flat).reshape(n_tick, 2, n_source)


@given(scenes())
@settings(max_examples=150, deadline=None)
def test_a_source_is_judged_as_if_it_were_alone(scores: np.ndarray) -> None:
    n_source = scores.shape[2]
    t_ns = np.arange(1, scores.shape[0] + 1) * FRAME_NS
    delays = np.arange(2 * n_source).reshape(2, n_source) % 3 * FRAME_NS  # every one has its own
    arrays = RuleArrays(delays, delays[::-1].copy(), np.full((2, n_source), 0.9))
    together, edges = advance(ConditionState.fresh(2, n_source), arrays, t_ns, scores)
    for source in range(n_source):
        only = np.array([source])
        alone, own = advance(ConditionState.fresh(2, 1), arrays.part(only), t_ns, scores[:, :, only])
        assert pack_conditions(together.part(only)) == pack_conditions(alone)
        mine = edges.source == source
        for name in ("tick", "rule", "kind", "onset_ns", "score"):
            assert getattr(edges, name)[mine].tolist() == getattr(own, name).tolist()


@given(scenes())
@settings(max_examples=100, deadline=None)
def test_more_that_is_unknown_never_makes_an_edge(scores: np.ndarray) -> None:
    unknown = np.full_like(scores, np.nan)
    arrays = RuleArrays.of([rule(100, 100, 0.1), rule()])
    t_ns = np.arange(1, scores.shape[0] + 1) * FRAME_NS
    state, _ = advance(ConditionState.fresh(2, scores.shape[2]), arrays, t_ns, scores)
    held, edges = advance(state, arrays, t_ns + 10**12, unknown)
    assert edges.tick.size == 0
    assert pack_conditions(held) == pack_conditions(state)


def test_a_packed_state_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError):
        unpack_conditions(pack_conditions(ConditionState.fresh(2, 3)), 2, 4)
