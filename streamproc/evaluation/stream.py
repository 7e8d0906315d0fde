"""One long stream with many events, in pieces: the protocol of a competition, re-made with our own means.

90 minutes hold 60 events of a corpus, drawn at random, at least 45 s apart, and at least 5/6 of the mean distance: 73 s.
An event keeps its own course from 2 s before its onset. Then the changes of voltage and of the common frequency are taken
back at an even pace until shortly before the next one; the differences of angles stay, as they do when a line is out. No
grid is put back as fast as that, so it is done as slowly as the distance allows; an alarm about it is a false one all the
same. Below lies the ambient frequency, its test half forwards and backwards, joined over 30 s; above, the noise of a tier.
Into this fall drop-outs and bad data at random (`episodes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import lfilter

from streamproc.errors import RecordingError
from streamproc.evaluation.ambient import Ambient
from streamproc.evaluation.corpus import ANGLE, FREQUENCY, VOLTAGE, Corpus
from streamproc.evaluation.episodes import Episode, drawn_episodes, spoilt
from streamproc.evaluation.noise import TIERS, WANDER_PU, WANDER_S, Signals, steady
from streamproc.evaluation.site import digits, steady_state
from streamproc.values import F64

BEFORE_S, APART_S, FADE_MIN_S, REST_S = 2.0, 45.0, 20.0, 3.0
BLEND_S = 2.0  # at the end of an event's own course
JOIN_S = 30.0  # of two pieces of ambient


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens when. `onsets` are rows: the first frame at or after each onset."""

    n_row: int
    numbers: tuple[int, ...]  # of the events in the corpus
    onsets: tuple[int, ...]
    episodes: tuple[Episode, ...]


def plan_stream(corpus: Corpus, minutes: float, count: int, seed: int) -> Plan:
    """Return a plan; raises RecordingError if so many events do not fit."""
    rng = np.random.default_rng([seed, *digits(corpus.digest, "stream")])
    rate_hz = corpus.rate_hz
    n_row = round(minutes * 60.0 * rate_hz)
    apart = max(round(APART_S * rate_hz), n_row * 5 // (6 * (count + 1)))
    spare = n_row - apart * (count + 1)
    if count < 1 or spare < 0:
        least = APART_S * (count + 1) / 60.0
        raise RecordingError(
            f"{corpus.path}: {count} events, {APART_S:g} s apart, need {least:.0f} minutes, not {minutes:g}"
        )
    onsets = apart * np.arange(1, count + 1) + np.sort(rng.integers(0, spare + 1, count))
    drawn = np.concatenate(
        [rng.permutation(len(corpus.events)) for _ in range(-(-count // len(corpus.events)))]
    )
    episodes = drawn_episodes(n_row, corpus.n_pmu, rate_hz, onsets.tolist(), rng)
    return Plan(n_row, tuple(drawn[:count].tolist()), tuple(onsets.tolist()), episodes)


def looped(ambient: Ambient, n_row: int) -> F64:
    """Return (n_row,) of the test half, again and again, forwards and backwards, without a step."""
    join = round(JOIN_S * ambient.rate_hz)
    up = (1.0 - np.cos(np.pi * (np.arange(join) + 0.5) / join)) / 2.0
    usable = [part for part in ambient.stretches if part.size > 2 * join]
    if not usable:
        raise RecordingError(
            f"{ambient.name}: no stretch of {2 * JOIN_S:g} s without a gap in its second half"
        )
    turns = [part for part in usable] + [part[::-1] for part in reversed(usable)]
    path, number = turns[0], 1
    while path.size < n_row:
        following = turns[number % len(turns)]
        middle = path[-join:] * (1.0 - up) + following[:join] * up
        path = np.concatenate([path[:-join], middle, following[join:]])
        number += 1
    return path[:n_row]


def pieces(corpus: Corpus, ambient: Ambient, tier: str, plan: Plan, seed: int) -> Iterator[Signals]:
    """Yield the stream piece by piece: the rest before the first event, then one piece per event."""
    rate_hz = corpus.rate_hz
    rng = np.random.default_rng([seed, *digits(corpus.digest, tier, "stream noise")])
    before = round(BEFORE_S * rate_hz)
    starts = [0, *(onset - before for onset in plan.onsets), plan.n_row]
    under = looped(ambient, plan.n_row)
    middle = (under + np.concatenate([under[:1], under[:-1]])) / 2.0
    turned = np.cumsum(2.0 * np.pi * middle / rate_hz)
    wander = np.zeros((1, corpus.n_pmu))  # of the filter that makes the voltages wander
    carried = np.zeros(corpus.n_pmu)
    held: dict[Episode, F64] = {}
    rest = steady_state(corpus)
    for place, (start, stop) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        signals = steady(*rest, stop - start, corpus.nominal_hz, rate_hz)
        base_turn = 2.0 * np.pi * (rest[2] - corpus.nominal_hz) / rate_hz * start
        if place:
            delta, after = changed(corpus, plan.numbers[place - 1], before, stop - start)
        else:
            delta, after = (
                Signals.of(*(np.zeros((stop - start, corpus.n_pmu)) for _ in range(3))),
                0.0 * carried,
            )
        common = carried + turned[start:stop, None] + base_turn
        made = replace(
            signals,
            voltage_pu=signals.voltage_pu + delta.voltage_pu,
            freq_hz=signals.freq_hz + delta.freq_hz + under[start:stop, None],
            angle_rad=signals.angle_rad + delta.angle_rad + common,
        )
        carried = carried + after
        made, wander = _measured(made, tier, rate_hz, rng, wander)
        yield spoilt(made, plan.episodes, start, tier, held, rng)


def changed(corpus: Corpus, number: int, before: int, n_row: int) -> tuple[Signals, F64]:
    """Return what an event changes, (n_row, n_pmu): its own course from `before` rows ahead of its onset, then the fade;
    and by how much each angle has turned in the end, rad (n_pmu,).

    Angles turn as the frequencies say in what follows too: what is left of a swing is levelled within 2 s, and that is
    frequency.
    """
    rate_hz, onset = corpus.rate_hz, corpus.onset_row(number)
    x = corpus.x[number].astype(np.float64)
    first = x[0]
    fade, blend = round(FADE_MIN_S * rate_hz), max(2, round(BLEND_S * rate_hz))
    own = x[max(0, onset - before) :]
    if onset < before:
        own = np.concatenate([np.repeat(first[None], before - onset, axis=0), own])
    own = own[: max(before + blend, n_row - fade - round(REST_S * rate_hz))]
    n_own = own.shape[0]
    voltage, frequency = own[..., VOLTAGE] - first[:, VOLTAGE], own[..., FREQUENCY] - first[:, FREQUENCY]
    turn = 2.0 * np.pi * (first[:, FREQUENCY] - corpus.nominal_hz) / rate_hz * np.arange(n_own)[:, None]
    angle = np.unwrap(own[..., ANGLE], axis=0)
    angle = angle - angle[0] - turn
    keep = np.ones(n_own)  # 1: as it was, 0: at its last level
    keep[-blend:] = falling(blend)
    hold = np.zeros(n_row)
    hold[:n_own] = 1.0
    hold[n_own : n_row - round(REST_S * rate_hz)] = falling(max(0, n_row - round(REST_S * rate_hz) - n_own))
    level_v, mean_f = voltage[-blend:].mean(axis=0), frequency.mean(axis=1)
    apart, mean_angle = angle - angle.mean(axis=1, keepdims=True), angle.mean(axis=1)
    level_apart = apart[-blend:].mean(axis=0)

    def course(values: F64, level: F64) -> F64:
        """Return values, then their level, then nothing."""
        blended = keep[:, None] * values + (1.0 - keep[:, None]) * level
        return np.concatenate([blended, hold[n_own:, None] * level])

    common_f = course(mean_f[:, None], mean_f[-blend:].mean(keepdims=True))[:, 0]
    common_angle = np.concatenate([mean_angle, np.zeros(n_row - n_own)])
    later = n_own - blend
    common_angle[later:] = (
        mean_angle[later]
        + np.cumsum(2.0 * np.pi * common_f[later:] / rate_hz)
        - (2.0 * np.pi * common_f[later] / rate_hz)
    )
    blended = keep[:, None] * apart + (1.0 - keep[:, None]) * level_apart
    difference = np.concatenate([blended, np.repeat(level_apart[None], n_row - n_own, axis=0)])
    extra = np.diff(difference, axis=0, prepend=difference[:1]) * rate_hz / (2.0 * np.pi)
    own_apart = frequency - mean_f[:, None]
    extra[:later] = own_apart[:later]
    made = Signals.of(course(voltage, level_v), difference + common_angle[:, None], extra + common_f[:, None])
    return made, np.asarray(made.angle_rad[-1])


def falling(n_row: int) -> F64:
    """Return (n_row,) from 1 to 0 at an even pace, but for a tenth at either end, where it begins and ends gently."""
    at = (np.arange(n_row) + 0.5) / max(1, n_row)
    pace = np.clip(np.minimum(at, 1.0 - at) / 0.1, 0.0, 1.0)
    gone: F64 = np.cumsum(pace)
    return 1.0 - gone / gone[-1] if n_row else gone


def _measured(
    signals: Signals, tier: str, rate_hz: float, rng: np.random.Generator, wander: F64
) -> tuple[Signals, F64]:
    """Return the signals with noise, and where the voltages have wandered to."""
    sd_pu, sd_hz, sd_deg = TIERS[tier]
    shape = signals.freq_hz.shape
    keep = float(np.exp(-1.0 / (WANDER_S * rate_hz)))
    kicks = rng.normal(0.0, WANDER_PU * np.sqrt(1.0 - keep**2), shape)
    path, wander = lfilter([1.0], [1.0, -keep], kicks, axis=0, zi=wander)
    made = replace(
        signals,
        voltage_pu=signals.voltage_pu + path + rng.normal(0.0, sd_pu, shape),
        freq_hz=signals.freq_hz + rng.normal(0.0, sd_hz, shape),
        angle_rad=signals.angle_rad + rng.normal(0.0, np.radians(sd_deg), shape),
    )
    return made, wander
