"""Protects what demos and studies rest on: a simulation that is the same every time, physical, and true to its truth."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.c37118 import Book, decode
from streamproc.simulate.events import EventKind, GridEvent
from streamproc.simulate.fleet import Fleet, FleetSettings, fleet_records
from streamproc.simulate.scada import (
    RELIEF,
    RISING_FEEDER,
    RISING_LIMIT_MW,
    ScadaPoints,
    catalogue,
    members,
    resources,
)

QUIET = FleetSettings(n_pmu=8)
NOW_NS = 1_700_000_000_000_000_000


def freq_of(settings: FleetSettings, seconds: int) -> np.ndarray:
    return np.concatenate([second.freq_hz for second in Fleet(settings).seconds(seconds)])


def with_event(kind: EventKind, **more: float) -> FleetSettings:
    return FleetSettings(n_pmu=8, events=(GridEvent(kind, 10.0, **more),))  # type: ignore[arg-type]


def test_the_same_fleet_gives_the_same_bytes_however_it_is_asked() -> None:
    once = [frames for _, frames in Fleet(QUIET).instants(4)]
    fleet = Fleet(QUIET)
    in_parts = [frames for count in (1, 2, 1) for _, frames in fleet.instants(count)]
    assert once == in_parts
    assert once != [frames for _, frames in Fleet(FleetSettings(n_pmu=8, seed=2)).instants(4)]


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("integer_format", [False, True])
def test_the_frames_decode_to_what_was_simulated(separate: bool, integer_format: bool) -> None:
    settings = FleetSettings(n_pmu=5, separate=separate, integer_format=integer_format)
    (second,) = Fleet(settings).seconds(1)
    records = list(fleet_records(Fleet(settings), "north", 1))
    result = decode(Book(), [r.value or b"" for r in records])
    assert not result.rejections
    parts = [part for batch in result.batches for part in batch.parts()]
    freq = np.concatenate([part.freq_hz for part in parts], axis=1)
    volt = np.concatenate([np.abs(part.phasor[:, 0::2]) for part in parts], axis=1)
    base_v = settings.nominal_kv * 1e3 / np.sqrt(3)
    np.testing.assert_allclose(freq, second.freq_hz, atol=6e-4 if integer_format else 4e-6)
    np.testing.assert_allclose(volt / base_v, second.voltage_pu, atol=5e-5 if integer_format else 1e-6)
    assert np.abs(parts[0].t_ns - second.t_ns).max() <= 500  # TIME_BASE is a microsecond


def test_without_events_the_grid_is_quiet() -> None:
    freq = freq_of(QUIET, 120)
    assert np.abs(freq - 60.0).max() < 0.05
    assert np.abs(np.diff(freq.mean(axis=1))).max() * 30 < 0.1  # Hz/s


def test_the_angle_is_the_integral_of_the_frequency() -> None:
    seconds = list(Fleet(with_event("generator_trip")).seconds(30))
    angle = np.concatenate([s.angle_rad for s in seconds])
    turned = np.cumsum(2 * np.pi * (np.concatenate([s.freq_hz for s in seconds]) - 60.0) / 30, axis=0)
    drift = (angle - angle[0]) - (turned - turned[0])
    assert np.abs(drift).max() < 0.02  # only measurement noise of the frequency adds up


def test_a_generator_trip_pulls_every_frequency_down_to_its_nadir_and_lets_it_recover() -> None:
    freq = freq_of(with_event("generator_trip", size=0.3), 60)
    nadir = freq.min(axis=0)
    assert ((nadir > 59.6) & (nadir < 59.8)).all()
    assert 12.0 < freq.mean(axis=1).argmin() / 30 < 16.0
    assert (freq[-30:].mean(axis=0) > nadir + 0.05).all()


def test_a_line_trip_moves_voltages_and_angles_but_not_the_frequency_for_good() -> None:
    seconds = list(Fleet(with_event("line_trip", at=0.5, size=0.3)).seconds(60))
    volt = np.concatenate([s.voltage_pu for s in seconds])
    freq = np.concatenate([s.freq_hz for s in seconds])
    assert volt[300:303].min() < 0.85
    assert volt[:299].min() > 0.95
    assert abs(freq[-90:].mean() - 60.0) < 0.03


def test_a_drop_out_takes_one_pmu_away_and_nothing_from_the_others() -> None:
    event = GridEvent("drop_out", 2.0, duration_s=2.0, pmu=3)
    settings = FleetSettings(n_pmu=8, events=(event,))
    freq = freq_of(settings, 6)
    assert np.isnan(freq[60:120, 3]).all()
    assert np.isnan(freq).sum() == 60
    calm = freq_of(QUIET, 6)
    np.testing.assert_array_equal(np.delete(freq, 3, axis=1), np.delete(calm, 3, axis=1))
    separate = Fleet(FleetSettings(n_pmu=8, separate=True, events=(event,)))
    assert [len(frames) for _, frames in separate.instants(6)] == [8] * 60 + [7] * 60 + [8] * 60


def test_the_truth_names_time_end_and_the_nearest_pmu() -> None:
    events = (GridEvent("line_trip", 10.0, at=0.5), GridEvent("drop_out", 20.0, duration_s=8.0, pmu=2))
    trip, drop = Fleet(FleetSettings(n_pmu=9, events=events)).truths()
    assert (trip.family, trip.source, trip.until_ns) == ("grid", "STATION 05", None)
    assert trip.start_ns == FleetSettings().start_ns + 10_000_000_000
    assert (drop.family, drop.source) == ("quality", "STATION 03")
    assert drop.until_ns == drop.start_ns + 8_000_000_000


def test_there_are_sixty_points_with_a_catalogue_and_units_in_their_names() -> None:
    points = catalogue("north")
    assert len(points) == len({point.id for point in points}) == 60
    suffix = {"MW": "_mw", "kV": "_kv", "A": "_a", "degC": "_degc", "W/m2": "_w_m2"}
    assert all(point.id.endswith(suffix[point.unit]) for point in points)
    assert [point.id for point in points] == [member.id for member in members()]
    (storage,) = resources()
    assert storage.point == RELIEF
    assert storage.effect == {RISING_FEEDER: -1.0}


def test_the_rising_feeder_is_below_its_limit_now_and_above_it_within_the_hour() -> None:
    index = [member.id for member in members()].index(RISING_FEEDER)
    points = ScadaPoints("north", 1, NOW_NS)
    minutes = range(-240, 61)
    values = np.array([points.values(NOW_NS + minute * 60_000_000_000)[index] for minute in minutes])
    assert values[: 240 + 2].max() < RISING_LIMIT_MW
    assert values[-1] > RISING_LIMIT_MW
    others = np.array([points.values(NOW_NS + 7200_000_000_000)])
    assert np.isfinite(others).all()


def test_no_other_point_leaves_its_limits_by_day_or_night() -> None:
    points = ScadaPoints("north", 3, NOW_NS)
    table = np.array([points.values(NOW_NS + step * 300_000_000_000) for step in range(288)])
    for column, point in enumerate(catalogue("north")):
        if point.id != RISING_FEEDER:
            assert point.limit_high is None or table[:, column].max() < point.limit_high
            assert point.limit_low is None or table[:, column].min() > point.limit_low
