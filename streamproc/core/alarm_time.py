"""What the passing of time alone does to an alert: it returns to normal, a shelf ends, growth that was held back is told.

    all members clear for `quiet`   RTNUN, or NORM when acknowledged; a latched rule: held until an operator resets it
                                    shelved, suppressed, out of service: noted as returned; a one-shot shelf is over
    a shelf's end                   UNACK while the condition is active, else NORM; also while the alert goes on updating

Time is event time, of the alert's area; only a shelf, which an operator's clock ended, may end by another area's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase

from streamproc.core.alarm import QUIET, after
from streamproc.core.open_alert import OpenAlert, unheld

UPDATE_INTERVAL_US = 1_000_000  # an alert that only grows is told again at most once a second


def passed(
    alert: OpenAlert, area: str, ts_us: int, quiet_us: int, latch: Iterable[str]
) -> tuple[OpenAlert, int] | None:
    """Return the alert at `ts_us` of `area` and the time to tell it at, or None when nothing is to be told."""
    if alert.state == "SHLVD" and alert.held_until_us <= ts_us:
        return unheld(alert, "expire", alert.held_until_us), max(alert.held_until_us, alert.told_us)
    if alert.area != area or not alert.open:
        return None
    over_us = None if alert.cleared_us is None else alert.cleared_us + quiet_us
    if over_us is not None and ts_us >= over_us and not alert.latched:
        return _returned(alert, over_us, latch), over_us
    said_us = alert.told_us + UPDATE_INTERVAL_US
    return (alert, said_us) if alert.unsaid and ts_us >= said_us else None


def _returned(alert: OpenAlert, at_us: int, latch: Iterable[str]) -> OpenAlert:
    if alert.state in QUIET:
        alert = replace(alert, returned=True)
        return unheld(alert, "expire", at_us) if alert.one_shot and alert.state == "SHLVD" else alert
    if any(fnmatchcase(alert.rule, pattern) for pattern in latch):
        return replace(alert, latched=True)
    return replace(alert, state=after(alert.state, "clear"))
