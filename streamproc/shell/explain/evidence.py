"""What was measured and judged around the onset of an alert: arrays over instants, PMUs and rules. Pure.

    frames ── decode, align ── angles, quality ─┐
    what the models heard ──── rows ────────────┼── one grid, from 10 s before the onset to 20 s after it
                               scores ── guard ─┘

Frequency and voltage are the rows that the models saw, so that the traces show what was judged: what was withheld is
a gap. Scores are those of the models, less what `core.guard` does not believe, and those of the five quality rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamproc.config import SiteConfig
from streamproc.core.align import Aligned, AlignState, align
from streamproc.core.area import QualityLimits, samples_of
from streamproc.core.c37118 import DataBatch, decode
from streamproc.core.detector import FREQUENCY, N_QUANTITY, VOLTAGE, Rule
from streamproc.core.deviation import middle
from streamproc.core.grid import from_grid, to_grid
from streamproc.core.guard import HOLD_S, Guard, guarded
from streamproc.core.messages import Alert
from streamproc.core.open_alert import FRAMES_US
from streamproc.core.quality import DISCARDED
from streamproc.core.samples import ANGLE, N_VALUE
from streamproc.core.source_quality import Stillness, quality_rules, quality_scores, stand_still
from streamproc.core.stream_clock import AlignSettings
from streamproc.shell.explain.ear import Ear, Listening
from streamproc.shell.explain.power import Power, power_of
from streamproc.stages.score_state import ScoreState, TrackKey, by_track
from streamproc.values import F32, F64, I64, TOPIC_FRAMES, U32, Bool, Record

PRE_S, POST_S = (us / 1e6 for us in FRAMES_US)  # of the page, around the onset
LEAD_S = HOLD_S + 2.0  # before that: so long the guard remembers who moved alone
STEADY_S = 0.5  # what is called "before" ends so long before the onset


@dataclass(frozen=True, slots=True)
class Evidence:
    """The instants around an onset. Arrays are (n,), (n, n_pmu) or (n, n_rule, n_pmu); NaN is unknown."""

    area: str
    rate_hz: float
    nominal_hz: float
    onset_us: int
    labels: tuple[str, ...]
    t_s: F64  # since the onset
    freq_hz: F64
    voltage_pu: F64
    angle_deg: F64  # against the median of the area, less what it was before the onset
    flags: U32  # `core.quality`
    rules: tuple[Rule, ...]
    scores: F32  # per unit of the rule's limit; NaN also where a rule was not judged or not believed
    withheld: I64  # (n_pmu,) instants at which a score over its limit was not believed
    digest: str
    power: Power

    @property
    def before(self) -> Bool:
        """Return which instants are the steady state before the onset; all of them if none is known."""
        early: Bool = self.t_s < -STEADY_S
        known = np.isfinite(self.freq_hz).any(axis=1) | np.isfinite(self.voltage_pu).any(axis=1)
        return early if bool((early & known).any()) else np.ones_like(early)

    @property
    def has_angles(self) -> bool:
        """Return whether angles can be compared."""
        return int(np.isfinite(self.angle_deg).any(axis=0).sum()) > 1


@dataclass(frozen=True, slots=True)
class Grid:
    """Instants of a track, longer to the front than the page by the lead."""

    first: int
    size: int
    cut: int  # instants of the lead

    @classmethod
    def of(cls, onset_us: int, rate_hz: float) -> Grid:
        """Return the grid around an onset."""
        lead, first, last = to_grid(
            np.array([onset_us - round(s * 1e6) for s in (PRE_S + LEAD_S, PRE_S, -POST_S)], dtype=np.int64)
            * 1000,
            rate_hz,
        ).tolist()
        return cls(lead, last - lead + 1, first - lead)

    def place(self, instant: I64) -> tuple[I64, Bool]:
        """Return the rows of these instants, and which of them are on the grid."""
        row = instant - self.first
        return row, np.asarray((row >= 0) & (row < self.size))


def gather(
    alert: Alert, site: SiteConfig, state: ScoreState, ear: Ear, frames: Sequence[Record]
) -> Evidence | None:
    """Return what is known around the onset of an alert; None if no frames of its area were seen."""
    key = _track_of(alert, ear)
    if key is None or key not in state.tracks:
        return None
    track = state.tracks[key]
    labels = tuple(column.label for column in track.columns)
    grid = Grid.of(alert.onset_ts_us, key[1])
    models = ear.of_track(key)
    rows, scores = _heard(grid, models, labels)
    columns = {(c.idcode, c.block): i for i, c in enumerate(track.columns)}
    batches = _batches(state, key, columns, frames)
    closed, seen = _closed(grid, site, key[1], columns, batches)
    rules = models[-1].rules
    instants = grid.first + np.arange(grid.size)
    _, believed, alone = guarded(Guard.fresh(len(labels)), scores, rules, instants, key[1])
    own = site.quality
    five = quality_rules(own.missing_ms, own.bad_ms, site.align.frozen_ms, own.off_delay_ms)
    _, still, _ = stand_still(Stillness.fresh(len(labels)), closed.value, key[1], track.nominal_hz)
    quality = quality_scores(closed, still, alone).astype(np.float32)
    quality[~seen] = np.nan  # before and after what was played nothing is missing
    cut = slice(grid.cut, None)
    merged, judged = _merged((*rules, *five), np.concatenate([believed[cut], quality[cut]], axis=1))
    t_s = (from_grid(instants[cut], key[1]) // 1000 - alert.onset_ts_us) / 1e6
    before: Bool = t_s < -STEADY_S
    return Evidence(
        area=alert.area,
        rate_hz=key[1],
        nominal_hz=track.nominal_hz,
        onset_us=alert.onset_ts_us,
        labels=labels,
        t_s=t_s,
        freq_hz=rows[cut, FREQUENCY].astype(np.float64) + track.nominal_hz,
        voltage_pu=rows[cut, VOLTAGE].astype(np.float64) + 1.0,
        angle_deg=relative_angle(closed.value[cut, :, ANGLE], rows[cut, FREQUENCY], key[1], before),
        flags=closed.quality[cut],
        rules=merged,
        scores=judged,
        withheld=np.asarray(((scores >= 1.0) & ~(believed >= 1.0))[cut].any(axis=1).sum(axis=0)),
        digest=models[-1].digest,
        power=power_of(batches, columns, closed.value[cut], grid.first + grid.cut, key[1]),
    )


def _track_of(alert: Alert, ear: Ear) -> TrackKey | None:
    """Return the track that raised the alert: by its model, else by its PMU."""
    tracks = ear.tracks(alert.area)
    by_model = [k for k in tracks if any(m.digest == alert.model_digest for m in ear.of_track(k))]
    by_pmu = [k for k in by_model or tracks if any(alert.source in m.labels for m in ear.of_track(k))]
    return next(iter(by_pmu or by_model or tracks), None)


def _heard(grid: Grid, models: Sequence[Listening], labels: tuple[str, ...]) -> tuple[F32, F32]:
    """Return the rows (n, 3, n_pmu) and the scores (n, n_rule, n_pmu) on the grid."""
    place = {label: column for column, label in enumerate(labels)}
    rules = models[-1].rules
    rows = np.full((grid.size, N_QUANTITY, len(labels)), np.nan, dtype=np.float32)
    scores = np.full((grid.size, len(rules), len(labels)), np.nan, dtype=np.float32)
    for model in models:
        known = [(own, place[label]) for own, label in enumerate(model.labels) if label in place]
        if not known:
            continue
        own, column = (np.array(side, dtype=np.int64) for side in zip(*known, strict=True))
        names = [rule.name for rule in model.rules]
        same = names == [rule.name for rule in rules]
        for heard in model.heard:
            row = heard.instant - grid.first
            if 0 <= row < grid.size:
                rows[row][:, column] = heard.row[:, own]
                if same:
                    scores[row][:, column] = heard.scores[:, own]
    return rows, scores


def _batches(
    state: ScoreState, key: TrackKey, columns: dict[tuple[int, int], int], frames: Sequence[Record]
) -> list[DataBatch]:
    """Return the decoded frames of a track, one batch per stream; `columns`: (IDCODE, block) to PMU."""
    area = key[0]
    mine = [r.value or b"" for r in frames if r.topic == TOPIC_FRAMES and r.key == area.encode()]
    decoded = decode(state.books.get(area, state.shared), mine)
    return [
        part
        for batch in by_track(area, decoded.batches).get(key, [])
        for part in batch.parts()
        if all((part.layout.idcode, block) in columns for block in range(part.layout.n_pmu))
    ]


def _closed(
    grid: Grid,
    site: SiteConfig,
    rate_hz: float,
    columns: dict[tuple[int, int], int],
    batches: Sequence[DataBatch],
) -> tuple[Aligned, Bool]:
    """Return the aligned values and flags, one row per instant of the grid, and which rows the frames reach over."""
    n_pmu = len(columns)
    value = np.full((grid.size, n_pmu, N_VALUE), np.nan)
    flags = np.full((grid.size, n_pmu), DISCARDED, dtype=np.uint32)
    wrong = np.zeros((grid.size, n_pmu), dtype=np.bool_)
    none = np.zeros(0, dtype=np.int64)
    rows = [none]
    if batches:
        wanted, table = site.quality, site.align
        limits = QualityLimits(wanted.freq_min_hz, wanted.freq_max_hz, wanted.angle_error_max_rad)
        settings = AlignSettings.of(rate_hz, table.wait_ms, table.lead_ms, table.reanchor_count)
        samples = samples_of(batches, columns, limits, rate_hz)
        for piece in align(AlignState.fresh(n_pmu), samples, settings)[1]:
            row, on = grid.place(piece.instant)
            value[row[on]], flags[row[on]] = piece.value[on], piece.quality[on]
            wrong[row[on]] = piece.wrong_clock[on]
            rows.append(row)
    instants = grid.first + np.arange(grid.size)
    reached = np.concatenate(rows)
    place = np.arange(grid.size)
    seen = (place >= reached.min(initial=grid.size)) & (place <= reached.max(initial=-1))
    return Aligned(instants, value, flags, none, none, missing=0, wrong_clock=wrong), np.asarray(seen)


def _merged(rules: tuple[Rule, ...], scores: F32) -> tuple[tuple[Rule, ...], F32]:
    """Return one row per name: a site's rule and the generic one of the same name judge different PMUs."""
    names = list(dict.fromkeys(rule.name for rule in rules))
    if len(names) == len(rules):
        return rules, scores
    rows = [[i for i, rule in enumerate(rules) if rule.name == name] for name in names]
    joined = [np.fmax.reduce(scores[:, own], axis=1) for own in rows]
    return tuple(rules[own[0]] for own in rows), np.stack(joined, axis=1)


def relative_angle(angle_rad: F64, deviation_hz: F32, rate_hz: float, before: Bool) -> F64:
    """Return each angle (n, n_pmu) in degrees against the area's median, less its own level before.

    Everything turns with the area's frequency; without that turn an angle moves slowly and can be unwrapped, also
    over a gap.
    """
    if not np.isfinite(angle_rad).any():
        return np.full(angle_rad.shape, np.nan)
    common = np.nan_to_num(middle(deviation_hz.astype(np.float64)))
    turn = 2.0 * np.pi * np.cumsum(common) / rate_hz
    still = unwrapped(angle_rad - turn[:, None])
    own = still - level_before(still, before)
    own = own - middle(own)[:, None]
    return np.asarray(np.degrees(own - level_before(own, before)))


def unwrapped(angle_rad: F64) -> F64:
    """Return the angles without jumps of whole turns, each against the last that is known."""
    known = np.isfinite(angle_rad)
    out = np.full(angle_rad.shape, np.nan)
    for pmu in np.flatnonzero(known.any(axis=0)).tolist():
        rows = known[:, pmu]
        out[rows, pmu] = np.unwrap(angle_rad[rows, pmu])
    return out


def level_before(values: F64, before: Bool) -> F64:
    """Return the median of each column before the onset; where that is not known, of all it has."""
    early = middle(values[before].T) if before.any() else np.full(values.shape[1], np.nan)
    return np.asarray(np.where(np.isfinite(early), early, middle(values.T)))
