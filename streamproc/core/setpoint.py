"""The shape of a recommendation, of what operators answer to it, and of what came of it. Nothing carries it out."""

from __future__ import annotations

from typing import Literal, TypeAlias

from streamproc.core.wire import Message, Name, TimeUs

Said: TypeAlias = Literal["accept", "reject", "not_now"]


class Difference(Message, frozen=True, kw_only=True):
    """One attribute of one resource, as advised."""

    resource: str
    attribute: str
    value: float
    unit: str


class Precondition(Message, frozen=True, kw_only=True):
    """A fact that was evaluated before the advice was given."""

    name: str
    holds: bool
    detail: str = ""


class Effect(Message, frozen=True, kw_only=True):
    """What the advice is expected to change, with its interval; and the point at its worst moment, with and without it."""

    point: str
    change: float
    low: float
    high: float
    unit: str
    at_ts_us: TimeUs | None = None  # the worst moment within the horizon
    without: float | None = None  # P50 of the forecast then, P05 and P95
    without_low: float | None = None
    without_high: float | None = None
    with_advice: float | None = None  # the same with the change, and with its own uncertainty
    with_low: float | None = None
    with_high: float | None = None


class Alternative(Message, frozen=True, kw_only=True):
    """Another way, for who has a reason not to take the first. Ranked: what relieves comes before what is cheap."""

    forward: tuple[Difference, ...]
    cost: float
    relieved: bool


class Answer(Message, frozen=True, kw_only=True):
    """What an operator said to a recommendation."""

    action: Said
    by: Name
    ts_us: TimeUs
    reason: str = ""
    result: Literal["done", "repeated", "refused"]
    detail: str = ""


class Outcome(Message, frozen=True, kw_only=True):
    """What was promised of an accepted recommendation and what happened, at one point."""

    point: str
    unit: str
    ts_us: TimeUs  # of the measurement
    promised: float
    promised_low: float
    promised_high: float
    without: float  # the forecast without advice, made before it was accepted
    measured: float
    realised: float  # measured - without
    verdict: Literal["within", "less", "more"]


class Setpoint(Message, frozen=True, kw_only=True):
    """A recommendation. It is advice: nothing of ours carries it out."""

    schema: Literal["setpoint/1"] = "setpoint/1"
    recommendation_id: str
    seq: int
    action: Literal["ISSUE", "UPDATE", "WITHDRAW", "ANSWER", "OUTCOME"]
    advice_only: Literal[True] = True
    area: str
    reason: str
    evidence: tuple[str, ...] = ()
    forward: tuple[Difference, ...] = ()
    reverse: tuple[Difference, ...] = ()
    preconditions: tuple[Precondition, ...] = ()
    expected_effect: tuple[Effect, ...] = ()
    relieved: bool = True
    confidence: float = 0.0
    ts_us: int
    valid_from_us: int
    valid_until_us: int
    message: str
    model_digest: str = ""
    cost: float | None = None  # of the moves, in the currency of the site file
    alternatives: tuple[Alternative, ...] = ()
    answer: Answer | None = None
    outcome: tuple[Outcome, ...] = ()
