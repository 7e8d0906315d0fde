"""The shape of rationalised alarms: of `[[alarm]]` in their file and of the records of `grid.rules.v1`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from streamproc.core.wire import Message, Name, TimeUs

Severity: TypeAlias = Literal["severe", "major", "minor"]


class AlarmRule(Message, frozen=True, kw_only=True):
    """`[[alarm]]`: one rationalised alarm. `rule`, `source`, `area` are patterns; the first that fits counts."""

    rule: Name
    source: str = "*"
    area: str = "*"
    cause: Name
    consequence: Name
    corrective_action: Name
    severity: Severity
    response_time_min: float
    priority: int | None = None  # None: by the matrix; given: must be what the matrix says
    who: str = ""
    latch: bool = False
    unit: str | None = None  # of limit and deadband: must be that of the point
    limit: float | None = None  # only with a `rule` of one point: point_high:ID or point_low:ID
    deadband: float | None = None
    on_delay_ms: int | None = None
    off_delay_ms: int | None = None


class Rules(Message, frozen=True, kw_only=True):
    """The whole set, in force from `valid_from_us` on. Key of the record: "rules"; `seq` counts the sets."""

    schema: Literal["rules/1"] = "rules/1"
    digest: Name
    seq: int = 1
    valid_from_us: TimeUs = 0
    alarms: tuple[AlarmRule, ...] = ()
