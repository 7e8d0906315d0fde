"""The regulation need in the stream: an area's closed instants in, once a minute of event time a forecast out.

    instants ── median of the good PMUs ── minute ── core.regulation ── 15 minutes' minimum and maximum

A minute is over with the first instant after it; so its end, and all that follows, is caused by a record and not by a
batch. What is summed of an open minute is in the blob, as is everything else: nothing is refilled after a restart. Sums
run in order of time, so that any split into batches gives the same bits.

A minute in which a detector's rule about the grid is open counts as unknown: a trip is no regulation need. This lasts
`TRIP_NS` after the last raise at most: what stands for longer is how the grid moves now.

Every reporting rate of an area sums its own minutes, and one of them speaks for the area: the first that ended one, until it
has been silent for the whole horizon while another went on.

Frequencies are deviations from nominal, Hz. The power that lacks is told where `[[area]] beta_mw_per_hz` is set; its
coverage is that of the frequency from which it follows, because nobody measures it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from operator import attrgetter
from typing import Any

import numpy as np
from msgspec.structs import replace as changed

from streamproc.core.area import AreaState, Scored
from streamproc.core.condition import CLEAR, RAISE, ConditionState, Edges
from streamproc.core.detector import Rule
from streamproc.core.messages import Forecast, Quantiles, encode
from streamproc.core.quantiles import NAMES, rounded
from streamproc.core.regulation import (
    STEP_S,
    WINDOW_SHARE_MIN,
    Minutes,
    Rules,
    State,
    digest,
    forecast,
    fresh,
    imbalance_mw,
    rewound,
    update,
)
from streamproc.core.regulation import Forecast as Extremes
from streamproc.errors import StateError
from streamproc.values import F64, I64, TOPIC_FORECASTS, Bool, Output

RULES = Rules()
DIGEST = digest(RULES)
MINUTE_NS = STEP_S * 1_000_000_000
HORIZON_NS = RULES.horizon * MINUTE_NS
TRIP_NS = HORIZON_NS
OWN_ERRORS = 24  # before so many (two hours) the bands are mostly those of the prior
SIDES = ("min", "max")


@dataclass(frozen=True, slots=True)
class Open:
    """What is summed of one minute at one reporting rate."""

    number: int = -1  # minutes since 1970; -1: none yet
    low_hz: float = np.inf
    high_hz: float = -np.inf
    sum_hz: float = 0.0
    known: int = 0  # instants with a good PMU
    trip: bool = False
    raised_ns: int = 0  # the last raise of a rule about the grid, in this minute or before

    def with_instants(self, moved_hz: F64, *, trip: bool) -> Open:
        """Return the sums with these instants (n,) of the same minute; NaN: no good PMU."""
        known = moved_hz[np.isfinite(moved_hz)]
        if not known.size:
            return replace(self, trip=self.trip or trip)
        return replace(
            self,
            low_hz=min(self.low_hz, float(known.min())),
            high_hz=max(self.high_hz, float(known.max())),
            sum_hz=float(np.cumsum(np.concatenate([[self.sum_hz], known]))[-1]),  # one by one, in their order
            known=self.known + known.size,
            trip=self.trip or trip,
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """A minute that is over, the record and the instant that ended it."""

    record: int
    rate_hz: float
    t_ns: int
    sums: Open

    def minutes(self) -> Minutes:
        """Return it as the one row that `core.regulation` takes; unknown if a trip is in it."""
        sums, unknown = self.sums, self.sums.trip or not self.sums.known
        values = (sums.low_hz, sums.high_hz, sums.sum_hz / max(sums.known, 1))
        share = 0.0 if unknown else min(sums.known / (STEP_S * self.rate_hz), 1.0)
        low, high, mean = (np.array([[np.nan if unknown else value]]) for value in values)
        return Minutes(np.array([sums.number], np.int64), low, high, mean, np.array([[share]]))


@dataclass(frozen=True, slots=True)
class Regulation:
    """Memory of one area."""

    rate_hz: float  # of those that speak for the area
    state: State = field(default_factory=lambda: fresh(RULES, 1))
    trip: int = -1  # the last minute with a trip in it
    opened: Mapping[float, Open] = field(default_factory=dict)  # by reporting rate


def packed_regulation(areas: Mapping[str, Regulation]) -> dict[str, Any]:
    """Return the memories for a state blob."""
    return {
        area: {"rate_hz": r.rate_hz, "state": r.state, "trip": r.trip, "opened": list(r.opened.items())}
        for area, r in areas.items()
    }


def unpacked_regulation(tree: Mapping[str, Any]) -> dict[str, Regulation]:
    """Return the memories of `packed_regulation`; raises StateError."""
    try:
        return {
            area: Regulation(
                item["rate_hz"],
                State(**item["state"]),
                item["trip"],
                {float(rate_hz): Open(**sums) for rate_hz, sums in item["opened"]},
            )
            for area, item in tree.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"the regulation need in the state blob does not fit: {error}") from error


def summed(
    area: Regulation,
    rate_hz: float,
    track: AreaState,
    record: I64,
    scored: Scored,
    rules: Sequence[Rule],
) -> tuple[Regulation, list[Ended]]:
    """Return the area with these closed instants summed, and the minutes that ended; `record` (n,) closed each one.

    `track` is the one after the last instant; `rules` are the detectors', which stand first in its conditions.
    """
    sums = area.opened.get(rate_hz, Open())
    number = scored.t_ns // MINUTE_NS
    moved_hz = middle(scored.freq_hz) - track.nominal_hz
    raised_ns, trip = _trips(sums.raised_ns, scored.t_ns, scored.edges, track.conditions, rules)
    inner = [] if number[0] == number[-1] else (np.flatnonzero(np.diff(number)) + 1).tolist()
    ended: list[Ended] = []
    for start, stop in pairwise([0, *inner, number.size]):
        at = int(number[start])
        if at != sums.number:
            if 0 <= sums.number < at:  # else time went back, and that minute is believed no more
                ended.append(Ended(int(record[start]), rate_hz, int(scored.t_ns[start]), sums))
            sums = Open(at)
        sums = sums.with_instants(moved_hz[start:stop], trip=bool(trip[start:stop].any()))
    sums = replace(sums, raised_ns=raised_ns)
    return replace(area, opened={**area.opened, rate_hz: sums}), ended


def middle(freq_hz: F64) -> F64:
    """Return the median (n,) over the known ones of (n, n_pmu); NaN where none is known."""
    ordered = np.sort(freq_hz, axis=1)  # NaN last
    count = np.isfinite(freq_hz).sum(axis=1)
    row = np.arange(count.size)
    return np.asarray(0.5 * (ordered[row, np.maximum(count - 1, 0) // 2] + ordered[row, count // 2]))


def _trips(
    raised_ns: int, t_ns: I64, edges: Edges, conditions: ConditionState, rules: Sequence[Rule]
) -> tuple[int, Bool]:
    """Return when a rule about the grid raised last, and at which instants (n,) one is open and not for too long."""
    if not (edges.tick.size or conditions.active.any()):
        return raised_ns, np.zeros(t_ns.size, dtype=np.bool_)
    about_grid = np.array([rule.family == "grid" for rule in rules], dtype=np.bool_)
    still = int(conditions.active[: about_grid.size][about_grid].sum())
    if not edges.tick.size:
        return raised_ns, (t_ns - raised_ns < TRIP_NS) & (still > 0)
    mine = (edges.rule < about_grid.size) & about_grid[np.minimum(edges.rule, about_grid.size - 1)]
    up, down = (edges.tick[mine & (edges.kind == kind)] for kind in (RAISE, CLEAR))
    ups, downs = (np.bincount(tick, minlength=t_ns.size) for tick in (up, down))
    change = np.cumsum(ups - downs)
    open_after = still - change[-1] + change
    last_ns = np.maximum.accumulate(np.where(ups > 0, t_ns, raised_ns))
    return int(last_ns[-1]), ((open_after > 0) | (downs > 0)) & (t_ns - last_ns < TRIP_NS)


def tell(
    name: str, area: Regulation, ended: Iterable[Ended], beta_mw_per_hz: float | None
) -> tuple[Regulation, list[tuple[int, Output]]]:
    """Return the area after these minutes, and the forecasts with the record that caused each."""
    made: list[tuple[int, Output]] = []
    for minute in sorted(ended, key=attrgetter("record", "rate_hz")):
        number = minute.sums.number
        last = area.state.number
        if minute.rate_hz != area.rate_hz and number <= last + RULES.horizon:
            continue
        area = replace(area, rate_hz=minute.rate_hz)
        if number <= last - RULES.horizon:  # time went back, or was wrong
            area = replace(area, state=rewound(area.state, RULES), trip=-1)
        elif number <= last:
            continue
        state = update(area.state, RULES, minute.minutes())
        area = replace(area, state=state, trip=number if minute.sums.trip else area.trip)
        if minute.t_ns < (number + 1) * MINUTE_NS + HORIZON_NS:  # else all of it has passed
            made += [(minute.record, output) for output in _outputs(name, area, minute, beta_mw_per_hz)]
    return area, made


def coverage_gauges(name: str, area: Regulation | None) -> dict[tuple[str, str], float]:
    """Return the live coverage of an area, per side; nothing before enough windows have ended."""
    shares = forecast(area.state).coverage[0].tolist() if area is not None else []
    return {
        ("regulation_coverage_ratio", f"{name}/{side}"): share
        for side, share in zip(SIDES, shares, strict=False)
        if np.isfinite(share)
    }


def _outputs(name: str, area: Regulation, minute: Ended, beta_mw_per_hz: float | None) -> list[Output]:
    """Return the records of one minute: two of frequency, and two of power where MW per Hz are known."""
    extremes = forecast(area.state)
    bands = extremes.quantile_hz  # (1, 2, 7)
    if not np.isfinite(bands).all():
        return []
    last = area.state.recent[0, :2, -1]  # low, high; NaN: not known
    head = _head(name, area, minute, extremes)
    coverage = extremes.coverage[0]
    outputs = _sides(head, "{}_hz", "Hz", bands[0], last, coverage)
    if beta_mw_per_hz is not None:
        lacking = imbalance_mw(bands, np.array([beta_mw_per_hz]))[0]
        outputs += _sides(
            head, "imbalance_{}_mw", "MW", lacking, -beta_mw_per_hz * last[::-1], coverage[::-1]
        )
    return outputs


def _head(name: str, area: Regulation, minute: Ended, extremes: Extremes) -> Forecast:
    """Return what all records of one minute have in common; series, unit and values are still to come."""
    end_ns = (minute.sums.number + 1) * MINUTE_NS
    share = float(extremes.share[0])
    flags = (
        ("prior_bands", int(extremes.errors[0]) < OWN_ERRORS),
        ("disturbance", area.trip >= max(0, minute.sums.number - RULES.horizon + 1)),
    )
    return Forecast(
        series=f"{name}.regulation",
        area=name,
        unit="",
        issued_at_us=end_ns // 1000,
        available_at_us=minute.t_ns // 1000,
        interval_min=15,
        valid_ts_us=((end_ns + HORIZON_NS) // 1000,),
        quantiles=Quantiles(**dict.fromkeys(NAMES, ())),
        method="model",
        horizon="PT15M",
        flags=tuple(flag for flag, holds in flags if holds),
        known_ratio=round(share, 4),
        model_digest=DIGEST,
        quality="GOOD" if share >= WINDOW_SHARE_MIN else "SUSPECT",
    )


def _sides(head: Forecast, series: str, unit: str, bands: F64, last: F64, coverage: F64) -> list[Output]:
    """Return the records of minimum and maximum: bands (2, 7), the last minute's extremes and the coverage (2,)."""
    outputs: list[Output] = []
    ends = rounded(np.nan_to_num(last))
    for side, (word, row) in enumerate(zip(SIDES, rounded(bands).tolist(), strict=True)):
        known, share = bool(np.isfinite(last[side])), float(coverage[side])
        message = changed(
            head,
            series=f"{head.series}.{series.format(word)}",
            unit=unit,
            quantiles=Quantiles(**{name: (value,) for name, value in zip(NAMES, row, strict=True)}),
            last_value=float(ends[side]) if known else None,
            last_ts_us=head.issued_at_us if known else None,
            coverage_90=round(share, 4) if np.isfinite(share) else None,
        )
        ts_ms = message.available_at_us // 1000
        outputs.append(Output(TOPIC_FORECASTS, message.series.encode(), encode(message), ts_ms))
    return outputs
