"""Protects `streamproc exogenous`: records as the schema has them, the right days, errors that say where and what to do."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import jsonschema
import numpy as np
import pytest
from series_cases import typed

from streamproc.core.ahead.days import N_LEAD, N_ROW, PER_DAY, STEP_NS, STEP_S
from streamproc.core.ahead.issue import HOLIDAY
from streamproc.core.ahead.known import Known, Told, known_at, on_grid, told
from streamproc.evaluation.series.holiday_course import holiday_course
from streamproc.evaluation.series.known_file import Columns, read_known

SCHEMA = json.loads(Path(__file__).parents[2].joinpath("schemas/exogenous.v1.schema.json").read_text())
BERLIN = ZoneInfo("Europe/Berlin")
HEAD = "name,valid,known_at,value"
GOOD = """name,valid,known_at,value
temperature_degc,2026-01-02T01:00Z,2026-01-01T06:00Z,2.5
price,2026-01-02T00:00+01:00,2026-01-01T13:00+01:00,80
temperature_degc,2026-01-02T00:00Z,2026-01-01T06:00Z,3.5
temperature_degc,2026-01-02T00:00Z,2026-01-01T12:00Z,
"""


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def printed(capfd: pytest.CaptureFixture[str], *words: object) -> list[dict]:
    """The records of a dry run, each checked against the schema."""
    assert typed("exogenous", *words, "--area", "north", "--dry-run") == 0
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    for record in records:
        jsonschema.validate(record, SCHEMA)
        assert record["area"] == "north"
        assert len(record["values"]) == len(record["valid_ts_us"])
    return records


def test_each_name_and_known_at_is_one_record_in_the_order_of_knowledge(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "known.csv"
    path.write_text(GOOD)
    records = printed(capfd, path, "--unit", "price=EUR/MWh")
    assert [(r["name"], r["known_at_us"]) for r in records] == [
        ("temperature_degc", us("2026-01-01T06:00Z")),
        ("price", us("2026-01-01T12:00Z")),
        ("temperature_degc", us("2026-01-01T12:00Z")),
    ]
    assert records[0]["valid_ts_us"] == [us("2026-01-02T00:00Z"), us("2026-01-02T01:00Z")]
    assert [r["values"] for r in records] == [[3.5, 2.5], [80.0], [None]]
    assert [r["unit"] for r in records] == ["", "EUR/MWh", ""]


def test_columns_have_any_name_and_times_any_zone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "known.csv"
    path.write_text("was;wann;seit;wert\nt;2026-07-02 00:00;2026-07-01 12:00;20,5\n")
    words = (
        "--name-column",
        "was",
        "--valid-column",
        "wann",
        "--known-at-column",
        "seit",
        "--value-column",
        "wert",
    )
    (record,) = printed(capfd, path, *words, "--zone", "Europe/Berlin")
    assert record["valid_ts_us"] == [us("2026-07-01T22:00Z")]
    assert record["known_at_us"] == us("2026-07-01T10:00Z")
    assert record["values"] == [20.5]


def test_an_hour_that_the_clock_shows_twice_is_told_apart_and_knowledge_counts_as_the_later(
    tmp_path: Path,
) -> None:
    path = tmp_path / "known.csv"
    hours = ["01:00", "02:00", "02:00", "03:00"]
    rows = [
        f"t,2025-10-26T{hour},2025-10-26T{known},{n}"
        for known in ("00:30", "02:30")
        for n, hour in enumerate(hours)
    ]
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    sheet = read_known(path, BERLIN)
    assert [one.known_ns // 10**3 for one in sheet.told] == [us("2025-10-25T22:30Z"), us("2025-10-26T01:30Z")]
    for one in sheet.told:
        assert np.diff(one.t_ns).tolist() == [3600 * 10**9] * 3
        assert one.value.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_part_of_a_second_is_never_known_too_early(tmp_path: Path) -> None:
    path = tmp_path / "known.csv"
    path.write_text(f"{HEAD}\nt,2026-01-02T00:00:00.9Z,2026-01-01T00:00:00.1Z,1\n")
    (one,) = read_known(path, ZoneInfo("UTC"), Columns()).told
    assert (one.t_ns[0] // 1000, one.known_ns // 1000) == (
        us("2026-01-02T00:00Z"),
        us("2026-01-01T00:00:01Z"),
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("t,2026-01-02T00:00Z,2026-01-01T06:00Z,warm", "row 3, column 'value': 'warm' is no number; write a number"),
        ("t,soon,2026-01-01T06:00Z,1", "row 3, column 'valid': 'soon' is no ISO 8601 time"),
        ("t,2026-01-02T00:00Z,,1", "row 3, column 'known_at': is empty; each value needs its time"),
        ("t,,2026-01-02T00:00Z,1", "row 3, column 'valid': is empty"),
        (",2026-01-02T00:00Z,2026-01-01T06:00Z,1", "row 3, column 'name': is empty; write what the value is of"),
        ("t,2026-01-01T00:00Z,2026-01-01T00:00Z,8", "row 3, column 'value': 8, but row 2 says 7"),
        ("t,2026-01-02T00:00Z,2026-01-01T06:00Z", "row 3: 3 cells, but the header has 4 columns"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_row_column_value_and_what_to_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], row: str, words: str
) -> None:
    path = tmp_path / "known.csv"
    path.write_text(f"{HEAD}\nt,2026-01-01T00:00Z,2026-01-01T00:00Z,7\n{row}\n")
    assert typed("exogenous", path, "--area", "north", "--dry-run") == 1
    told_ = capfd.readouterr()
    assert (told_.out, told_.err.count("\n")) == ("", 1)
    assert str(path) in told_.err
    assert words in told_.err


def test_a_local_time_that_never_was_is_no_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "known.csv"
    path.write_text(f"{HEAD}\nt,2026-03-29T02:30,2026-03-28T00:00,1\n")
    assert typed("exogenous", path, "--area", "a", "--zone", "Europe/Berlin", "--dry-run") == 1
    assert "row 2, column 'valid': '2026-03-29T02:30': Europe/Berlin skipped" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told_"),
    [
        ((), 2, "give a FILE or --holidays"),
        (("--holidays", "DE-BY"), 2, "--from DAY and --to DAY"),
        (("--holidays", "DE-XX", "--from", "2026-01-01", "--to", "2026-02-01"), 1, "DE has no such part"),
        (("--holidays", "DE", "--from", "2026-01-01", "--to", "2026-01-01"), 1, "must be after --from"),
        (("--holidays", "DE", "--from", "1 Jan", "--to", "2026-01-01"), 1, "--from '1 Jan': a local date"),
        (("--holidays", "DE", "--from", "2000-01-01", "--to", "2030-01-01"), 1, "send a shorter time"),
        (("--holidays", "DE", "--from", "2026-01-01", "--to", "2026-01-03", "--unit", "a=b"), 1, "--unit a: there is no"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_said(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, told_: str
) -> None:
    assert typed("exogenous", *words, "--area", "north", "--dry-run") == code
    assert re.search(re.escape(told_), " ".join(capfd.readouterr().err.split()))


def whole_day(course: Told, day: date) -> np.ndarray:
    """What the stream sees on all quarter hours of a local day of Berlin, at an issue at its midnight."""
    start, stop = (
        int(datetime(d.year, d.month, d.day, tzinfo=BERLIN).timestamp()) for d in (day, day + timedelta(1))
    )
    seen = on_grid(course, start // STEP_S)[N_ROW:]
    return seen[: (stop - start) // STEP_S]


def test_every_quarter_of_every_day_of_a_year_is_told_also_where_the_clocks_change() -> None:
    days = [date(2026, 1, 1) + timedelta(n) for n in range(365)]
    course = holiday_course("DE-BY", "2026-01-01", "2027-01-01", BERLIN, 0)
    free = {day for day in days if (whole_day(course, day) == 1.0).all()}
    ordinary = {day for day in days if (whole_day(course, day) == 0.0).all()}
    assert free | ordinary == set(days)
    assert {
        date(2026, 1, 1),
        date(2026, 1, 6),
        date(2026, 4, 6),
        date(2026, 10, 3),
        date(2026, 12, 26),
    } <= free
    assert {date(2026, 3, 29), date(2026, 10, 25), date(2026, 12, 24)} <= ordinary
    assert whole_day(course, date(2026, 3, 29)).size == 92
    assert whole_day(course, date(2026, 10, 25)).size == 100
    after = int(datetime(2027, 1, 1, tzinfo=BERLIN).timestamp()) // STEP_S
    assert np.isnan(on_grid(course, after)[N_ROW:]).all()  # nothing is said of the day --to


@pytest.mark.parametrize(("day", "code"), [("2024-03-31", "DE"), ("2024-10-27", "DE")])
def test_a_holiday_beside_or_on_a_day_with_a_clock_change_is_that_day_and_no_other(
    day: str, code: str
) -> None:
    # Easter Sunday 2024 was the day of the change; it is a holiday in Brandenburg, Easter Monday in all of Germany.
    at = date.fromisoformat(day)
    course = holiday_course("DE-BB", str(at - timedelta(3)), str(at + timedelta(4)), BERLIN, 0)
    seen = {at + timedelta(n): whole_day(course, at + timedelta(n)) for n in range(-2, 3)}
    assert all(np.unique(values).size == 1 for values in seen.values())
    free = {d for d, values in seen.items() if values[0] == 1.0}
    assert free == ({date(2024, 3, 29), date(2024, 3, 31), date(2024, 4, 1)} if "-03-" in day else set())
    assert code == "DE"


def test_the_stream_knows_the_holidays_of_a_year_as_long_as_it_lasts() -> None:
    course = holiday_course("DE-BY", "2026-01-01", "2027-01-01", BERLIN, 0)
    start = int(datetime(2026, 1, 2, tzinfo=BERLIN).timestamp()) // STEP_S
    known = told(Known(), course)
    for issue in range(start, start + 360 * PER_DAY, PER_DAY):
        known = known_at(known, issue)
        assert np.isfinite(known.course[HOLIDAY][N_ROW:]).all()
        assert np.array_equal(known.course[HOLIDAY][N_ROW:], on_grid(course, issue)[N_ROW:])


def test_of_what_reaches_far_only_the_newest_waits_for_later_issues() -> None:
    def forecast(known_day: int) -> Told:
        t_ns = (np.arange(10 * PER_DAY) + known_day * PER_DAY) * STEP_NS
        return Told("t", known_day * PER_DAY * STEP_NS, t_ns, np.full(t_ns.size, float(known_day)))

    known = Known()
    for day in range(100, 105):
        known = known_at(told(known, forecast(day)), day * PER_DAY)
        assert len(known.pending) == 1
        assert (known.course["t"][N_ROW:] == day).all()
    known = known_at(known, 109 * PER_DAY)  # nothing came for days: the last one is still good
    assert (known.course["t"][N_ROW:] == 104.0).all()
    assert known_at(known, 113 * PER_DAY).pending == ()
    assert N_LEAD == 2 * PER_DAY


def test_the_command_tells_holidays_as_one_record(capfd: pytest.CaptureFixture[str]) -> None:
    words = (
        "--from",
        "2026-12-24",
        "--to",
        "2026-12-28",
        "--zone",
        "Europe/Berlin",
        "--known-at",
        "2025-12-01",
    )
    (record,) = printed(capfd, "--holidays", "DE-BY", *words)
    assert record["name"] == HOLIDAY
    assert record["known_at_us"] == us("2025-12-01T00:00+01:00")
    assert record["valid_ts_us"][0] == us("2026-12-24T00:00+01:00")
    assert sum(record["values"]) == 2 * 24 + 1
