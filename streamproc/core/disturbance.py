"""What is known about a disturbance: what, where, how big, how sure. Part of a finding and of an alert.

It is told again as time goes by (`core.event_watch` says when): the first half second decides little, two seconds
decide most. Every number that is estimated carries the band in which it lies nine times of ten; what cannot be told
is absent, never zero.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal[
    "fault", "supply_lost", "load_lost", "topology", "islanding", "oscillation", "unknown"
]
KINDS: tuple[Kind, ...] = (
    "fault",
    "supply_lost",
    "load_lost",
    "topology",
    "islanding",
    "oscillation",
    "unknown",
)
WORDS: dict[str, str] = {
    "fault": "Fault",
    "supply_lost": "Supply lost",
    "load_lost": "Load lost",
    "topology": "Switching (line trip)",
    "islanding": "Islanding",
    "oscillation": "Oscillation",
    "unknown": "Disturbance of unknown kind",
}
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the parts: frozen; unknown fields are ignored when read."""


class Estimate(Part, frozen=True, kw_only=True):
    """A value with its 90 % band, in the unit that the field's name ends with."""

    value: float
    low: float
    high: float


class Response(Part, frozen=True, kw_only=True):
    """How one PMU answered."""

    source: str
    delay_ms: float  # from the onset to its own first frame over the limit
    voltage_pu: float | None = None  # largest change so far, signed
    freq_hz: float | None = None
    angle_rad: float | None = None  # against the median of the area


class Mode(Part, frozen=True, kw_only=True):
    """One oscillation mode. `sources`: the PMUs that swing most, or lead; ("outside",) if that is the best guess."""

    freq_hz: Estimate
    damping_ratio: Estimate
    energy: Share
    forced: bool | None = None  # None: too short a time to tell
    sources: tuple[str, ...] = ()


class Disturbance(Part, frozen=True, kw_only=True):
    """One disturbance as known at `ts_us`."""

    onset_ts_us: int
    ts_us: int
    kind: Kind
    confidence: Share  # that it is of this kind
    chances: dict[str, Share]  # of every kind but "unknown"; their sum is 1
    finer: str = ""  # "generator", "load_rise", "line", ...: a guess within the kind
    finer_confidence: Share = 0.0
    size_mw: Estimate | None = None  # active power lost (supply_lost, load_lost)
    rocof_hz_s: float | None = None  # of the area's median frequency just after the onset
    nadir_hz: Estimate | None = None  # lowest (or highest) frequency to come, or seen
    nadir_after_s: Estimate | None = None  # s from the onset to it
    clearing_ms: float | None = None  # of a fault, when it was seen to clear
    place: tuple[str, ...] = ()  # the PMUs nearest to it, best guess first
    responses: tuple[Response, ...] = ()  # in order of time, then size
    modes: tuple[Mode, ...] = ()
    islands: tuple[tuple[str, ...], ...] = ()  # groups of PMUs that run on their own
    model_digest: str = ""


def sentence_of(told: Disturbance) -> str:
    """Return what a person reads first: kind, confidence, size, what the frequency will do."""
    words = WORDS[told.kind]
    if told.kind != "unknown":
        words += (
            f" ({told.confidence:.0%}" + (f", {told.finer.replace('_', ' ')}?" if told.finer else "") + ")"
        )
    if told.size_mw is not None:
        size = told.size_mw
        words += f", {abs(size.value):.3g} MW ({abs(size.low):.3g} to {abs(size.high):.3g})"
    if told.clearing_ms is not None:
        words += f", cleared after {told.clearing_ms:.0f} ms"
    if told.place:
        words += f", nearest {told.place[0]}"
    if told.nadir_hz is not None:
        nadir = told.nadir_hz
        words += f", frequency to {nadir.value:.3f} Hz ({nadir.low:.3f} to {nadir.high:.3f})"
    if told.islands:
        words += ", islands " + " | ".join(" ".join(group[:5]) for group in told.islands)
    if told.modes:
        mode = told.modes[0]
        words += f", mode {mode.freq_hz.value:.2f} Hz with {mode.damping_ratio.value:.1%} damping"
    return words
