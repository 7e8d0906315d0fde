"""Alerts against the truth of one run.

An event is found by a raise (first record, family grid, of an alert) whose event time lies between the first frame at or
after the onset and 5 s later. The delay counts from that frame, so 0 is the first frame that shows it: delay of the
algorithm; transport and the filter of a PMU come on top. Everything else that is raised in the family grid is wrong:

    before the onset, the 14 s of lead included                   false alarm
    a second one within 10 s of the onset                         false alarm
    in event-free data, or open there since its lead              false alarm
    the first one, but between 5 and 10 s after the onset         late: a miss, not a false alarm as well

An event that no PMU can see (dv < 0.002 pu and df < 0.005 Hz) is neither a miss nor, if found, a false alarm; what is
raised before its onset is one. What is said of kind and place is taken from the newest record of the alert that found
it, 0.5, 1 and 2 s after the first frame; "unknown" where there is none. Alerts about the data themselves (family
quality) are counted beside all this, by kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from streamproc.core.disturbance import Estimate
from streamproc.core.messages import Alert
from streamproc.evaluation.corpus import Corpus
from streamproc.evaluation.run import Run, row_of
from streamproc.evaluation.truth import Truth, turning_hz

FIND_S, EVENT_S = 5.0, 10.0
GROUP_S = 15.0  # as shipped: a raise so soon after an alert belongs to it
AGES_S = (0.5, 1.0, 2.0)
PLACE_AGE_S = NUMBERS_AGE_S = 1.0


class Said(msgspec.Struct, frozen=True):
    """What was said of an event by an age."""

    kind: str = "unknown"
    confidence: float = 0.0


class Outcome(msgspec.Struct, frozen=True):
    """One event against its truth. Times in s after the first frame that shows it; None: there is none."""

    number: int
    name: str
    k: str
    kind: str
    dv: float
    df: float
    mw: float | None
    visible: bool
    found: bool
    delay_frames: int | None
    delay_s: float | None
    late_s: float | None
    open_s: float | None  # a miss: how long an alert of the grid was open that may have taken it in
    false_before: int
    false_second: int
    said: tuple[Said, ...]  # at each of AGES_S
    near: str
    near_by: str
    place: tuple[str, ...]  # as told at 1 s
    rank: int | None  # of `near` in it, from 1
    nadir_hz: float | None
    nadir_told_hz: tuple[float, float, float] | None  # value, low, high at 1 s
    size_told_mw: tuple[float, float, float] | None  # the same
    rule: str
    quality: dict[str, int]


def outcome_of(corpus: Corpus, truth: Truth, run: Run) -> Outcome:
    """Return how one event was answered."""
    number, rate_hz = run.task.number, corpus.rate_hz
    event, onset = corpus.events[number], run.lead + corpus.onset_row(number)
    raises = [(row, alert) for row, alert in raises_of(run)]
    after = [(row, alert) for row, alert in raises if row >= onset]
    find, end = onset + FIND_S * rate_hz, onset + EVENT_S * rate_hz
    first = after[0] if after and after[0][0] <= find else None
    late = after[0] if after and find < after[0][0] <= end else None
    beyond = sum(1 for row, _ in after[1:] if row <= end)
    records = [] if first is None else told_by(run, first[1].alert_id, onset)
    said = tuple(said_at(records, onset + age * rate_hz) for age in AGES_S)
    place = place_at(records, onset + PLACE_AGE_S * rate_hz)
    near = truth.near[0]
    delay = None if first is None else first[0] - onset
    return Outcome(
        number=number,
        name=f"{corpus.name} #{number} {event.k} {event.device}".rstrip(),
        k=event.k,
        kind=truth.kind,
        dv=event.dv,
        df=event.df,
        mw=event.mw,
        visible=event.visible,
        found=first is not None,
        delay_frames=delay,
        delay_s=None if delay is None else delay / rate_hz,
        late_s=None if late is None else (late[0] - onset) / rate_hz,
        open_s=None
        if first is not None
        else open_before(spans_of(run.alerts, run.n_row, rate_hz), onset, rate_hz),
        false_before=len(raises) - len(after),
        false_second=beyond if event.visible else 0,
        said=said,
        near=near,
        near_by=truth.near_by,
        place=place,
        rank=place.index(near) + 1 if near in place else None,
        nadir_hz=turning_hz(corpus, number, truth.kind, run.ambient_hz, run.lead),
        nadir_told_hz=_told_at(records, onset + NUMBERS_AGE_S * rate_hz, "nadir_hz"),
        size_told_mw=_told_at(records, onset + NUMBERS_AGE_S * rate_hz, "size_mw"),
        rule="" if first is None else first[1].rule,
        quality=quality_of(run),
    )


def raises_of(run: Run) -> list[tuple[int, Alert]]:
    """Return the first record of each alert of the grid, with its row, in order of time."""
    found = [
        (row, alert)
        for row, alert in zip(run.rows, run.alerts, strict=True)
        if alert.family == "grid" and alert.seq == 1
    ]
    return sorted(found, key=lambda pair: pair[0])


def spans_of(alerts: Sequence[Alert], n_row: int, rate_hz: float) -> list[tuple[int, int]]:
    """Return the rows of the raise and of the return to normal (or the end) of each alert of the grid."""
    spans: dict[str, tuple[int, int]] = {}
    for alert in alerts:
        if alert.family == "grid":
            row = row_of(alert.ts_us, rate_hz)
            start, _ = spans.get(alert.alert_id, (row, row))
            spans[alert.alert_id] = (start, row if alert.state in {"RTNUN", "NORM"} else n_row)
    return sorted(spans.values())


def open_before(spans: Sequence[tuple[int, int]], onset: int, rate_hz: float) -> float | None:
    """Return how long before an onset the newest alert was raised that was open, or had just been; else None."""
    before = [start for start, stop in spans if start < onset <= stop + GROUP_S * rate_hz]
    return (onset - before[-1]) / rate_hz if before else None


def told_by(run: Run, alert_id: str, onset: int) -> list[tuple[int, Alert]]:
    """Return the records of one alert from the onset on, in the order in which they were told."""
    return [
        (row, alert)
        for row, alert in zip(run.rows, run.alerts, strict=True)
        if alert.alert_id == alert_id and row >= onset
    ]


def said_at(records: Sequence[tuple[int, Alert]], row_max: float) -> Said:
    """Return the kind that the newest record up to this row tells."""
    told = [alert for row, alert in records if row <= row_max]
    known = told[-1].disturbance if told else None
    return Said() if known is None else Said(known.kind, known.confidence)


def place_at(records: Sequence[tuple[int, Alert]], row_max: float) -> tuple[str, ...]:
    """Return the PMUs nearest to the event as told; without that those that saw it, in their order."""
    told = [alert for row, alert in records if row <= row_max]
    if not told:
        return ()
    known = told[-1].disturbance
    return known.place if known is not None and known.place else told[-1].sources


def _told_at(
    records: Sequence[tuple[int, Alert]], row_max: float, field: str
) -> tuple[float, float, float] | None:
    """Return value, low and high of an estimate as told by this row."""
    told = [alert for row, alert in records if row <= row_max]
    known: Estimate | None = getattr(told[-1].disturbance, field, None) if told else None
    return None if known is None else (known.value, known.low, known.high)


def quality_of(run: Run) -> dict[str, int]:
    """Return how many alerts about the data, or the service, were raised, by kind."""
    return dict(Counter(alert.kind for alert in run.alerts if alert.family != "grid" and alert.seq == 1))


def false_in_ambient(run: Run) -> list[tuple[int, Alert]]:
    """Return the grid alerts of event-free data with the row of their raise: raised in the judged part, or open in it.

    A piece starts cold, so an alarm that stands for an hour is counted once in every piece; its lead hides nothing.
    """
    ends = _ends_of(run)
    return [
        (row, alert) for row, alert in raises_of(run) if row >= run.lead or ends[alert.alert_id] > run.lead
    ]


def alarmed_rows(run: Run) -> int:
    """Return for how many judged rows of event-free data an alert of the grid was open."""
    ends, alarmed = _ends_of(run), np.zeros(run.n_row, dtype=np.bool_)
    for row, alert in raises_of(run):
        alarmed[row : ends[alert.alert_id]] = True
    return int(alarmed[run.lead :].sum())


def _ends_of(run: Run) -> dict[str, int]:
    """Return the row in which each alert returned to normal; the end of the run for one that has not."""
    return {
        alert.alert_id: row if alert.state in {"RTNUN", "NORM"} else run.n_row
        for row, alert in zip(run.rows, run.alerts, strict=True)
    }
