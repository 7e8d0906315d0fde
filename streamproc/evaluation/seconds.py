"""A stream second by second: nine labels, the truth and what the alerts say.

    0 normal   1 fault   2 line outage   3 supply lost   4 load lost   5 missing   6 missing and event   7 bad data
    8 event of another or unknown kind

An event marks the second of its onset and the four after it. A second is missing or bad where at least half of its
frames are, of any PMU; for spikes, where any is. An event with bad data is the event. What the alerts say is read from
the topic in hindsight: a grid alert marks five seconds from its onset with the kind that it told within 2 s of its
raise; an alert about the data marks the seconds from its onset until it cleared: missing where its kind is data_missing, or
data_bad with the flags of data that a concentrator marked as absent; bad otherwise.

Generation and load in the competition that had these labels are devices; here they are what the grid feels: supply lost,
load lost. The seconds of an event that no PMU can see are not judged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamproc.core.messages import Alert
from streamproc.core.quality import OVER_RANGE, SUSPECT_DATA, SYSTEM_ERROR
from streamproc.evaluation.episodes import MISSING, Episode
from streamproc.evaluation.frames import START_NS
from streamproc.evaluation.metrics import f1_of
from streamproc.values import I64, Bool

NORMAL, FAULT, LINE, SUPPLY, LOAD, MISSED, MISSED_EVENT, BAD, OTHER = range(9)
NAMES = (
    "normal",
    "fault",
    "line outage",
    "supply lost",
    "load lost",
    "missing",
    "missing + event",
    "bad data",
    "other event",
)
LABEL_OF = {"fault": FAULT, "topology": LINE, "supply_lost": SUPPLY, "load_lost": LOAD}
EVENT_SECONDS = 5
TOLD_US = 2_000_000
NOT_MISSING = SUSPECT_DATA | OVER_RANGE | SYSTEM_ERROR
NOT_JUDGED = -1


def true_seconds(
    n_row: int,
    rate_hz: float,
    events: Sequence[tuple[int, str, bool]],
    episodes: Sequence[Episode],
) -> I64:
    """Return (n_second,) labels; `events`: (row of the onset, kind, whether it can be seen)."""
    n_second = int(n_row / rate_hz)
    event = np.zeros(n_second, dtype=np.int64)
    for row, kind, _ in events:
        event[_seconds(row / rate_hz)] = LABEL_OF.get(kind, OTHER)
    missing, bad = np.zeros(n_second, dtype=np.bool_), np.zeros(n_second, dtype=np.bool_)
    for episode in episodes:
        touched = bad if episode.kind not in MISSING else missing
        touched |= _mostly(episode, n_second, rate_hz)
    labels = composed(event, missing, bad)
    for row, _, visible in events:
        if not visible:
            labels[_seconds(row / rate_hz)] = NOT_JUDGED
    return labels


def told_seconds(n_row: int, rate_hz: float, alerts: Sequence[Alert]) -> I64:
    """Return (n_second,) labels as the alerts tell them."""
    n_second = int(n_row / rate_hz)
    event = np.zeros(n_second, dtype=np.int64)
    missing, bad = np.zeros(n_second, dtype=np.bool_), np.zeros(n_second, dtype=np.bool_)
    by_id: dict[str, list[Alert]] = {}
    for alert in alerts:
        by_id.setdefault(alert.alert_id, []).append(alert)
    for told in by_id.values():
        first, last = told[0], told[-1]
        start_s = (first.onset_ts_us - START_NS // 1000) / 1e6
        if first.family == "grid":
            early = [alert for alert in told if alert.ts_us <= first.ts_us + TOLD_US]
            known = early[-1].disturbance
            event[_seconds(start_s)] = OTHER if known is None else LABEL_OF.get(known.kind, OTHER)
        else:
            cleared = last.cleared_ts_us
            stop_s = n_second if cleared is None else (cleared - START_NS // 1000) / 1e6
            touched = missing if _says_missing(last) else bad
            touched[max(0, int(start_s)) : int(np.ceil(stop_s))] = True
    return composed(event, missing, bad)


def _says_missing(alert: Alert) -> bool:
    """Return whether an alert about the data says that they are not there: its kind, or its flags and no others."""
    if alert.kind == "data_missing":
        return True
    return (
        alert.kind == "data_bad"
        and not alert.quality_flags & NOT_MISSING
        and not {*alert.rules} - {"data_bad"}
    )


def composed(event: I64, missing: Bool, bad: Bool) -> I64:
    """Return one label per second."""
    labels = np.where(bad, BAD, NORMAL)
    labels = np.where(missing, MISSED, labels)
    return np.where(event > 0, np.where(missing, MISSED_EVENT, event), labels)


def _seconds(start_s: float) -> slice[int, int, None]:
    return slice(max(0, int(start_s)), int(start_s) + EVENT_SECONDS)


def _mostly(episode: Episode, n_second: int, rate_hz: float) -> Bool:
    """Return the seconds of which at least half lie in the episode; of spikes those with any."""
    from_s, to_s = episode.start / rate_hz, episode.stop / rate_hz
    second = np.arange(n_second)
    inside = np.minimum(second + 1.0, to_s) - np.maximum(second, from_s)
    return np.asarray(inside >= (1e-9 if episode.kind == "spike" else 0.5))


def confusion_of(truth: I64, told: I64) -> I64:
    """Return (9, 9) seconds, truth in rows; what is not judged is left out."""
    judged = truth != NOT_JUDGED
    counts = np.zeros((len(NAMES), len(NAMES)), dtype=np.int64)
    np.add.at(counts, (truth[judged], told[judged]), 1)
    return counts


def macro_f1(counts: I64) -> tuple[float, dict[str, float]]:
    """Return macro-F1 over the labels that occur in the truth, and the F1 of each."""
    f1 = {
        name: f1_of(
            int(counts[label, label]),
            int(counts[:, label].sum() - counts[label, label]),
            int(counts[label].sum() - counts[label, label]),
        )
        for label, name in enumerate(NAMES)
        if counts[label].any()
    }
    return (float(np.mean(list(f1.values()))) if f1 else float("nan")), f1
