"""Protects `evaluate forecast`, `backtest`, `compare` and `report` as strangers type them, on good files and bad ones."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from series_cases import Row, asked, load, refused, rows_of, spoilt, typed, write

from streamproc.evaluation.series.baselines import BASELINES

DAYS = 60


def found(result: dict, kind: str) -> dict:
    """The finding of a kind; there must be exactly one."""
    (one,) = [finding for finding in result["quality"] if finding["kind"] == kind]
    return one


def figures(result: dict, name: str = "weekly mean") -> dict:
    return next(method["figures"] for method in result["methods"] if method["name"] == name)


def untouched(rows: list[Row]) -> None:
    """Leave the file as it is."""


def test_the_figures_stand_beside_those_of_everybody(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "load.csv", rows_of(load(24 * 120)))
    result = asked(capfd, path, "--train-until", "2023-03-01", "--unit", "MW")
    assert [method["name"] for method in result["methods"]] == ["weekly mean", *BASELINES]
    mean, week = figures(result), figures(result, "seasonal naive 7 d")
    assert mean["mae"] < week["mae"]
    assert mean["rows"] == week["rows"] == result["asked"]["origins"] * 24
    assert mean["rmae"] == pytest.approx(mean["mae"] / result["span"])
    assert mean["mase"] == pytest.approx(mean["mae"] / result["mase_scale"])
    assert mean["pinball"] < 0.5 * mean["mae"]
    method = result["methods"][0]
    edge = method["edges"]["seasonal naive 7 d"]
    assert edge["skill"] == pytest.approx(1.0 - mean["mae"] / week["mae"])
    assert edge["skill_low"] < edge["skill"] < edge["skill_high"]
    assert 0.85 < mean["coverage"] < 0.95
    assert method["worst_30_days"] <= mean["coverage"]
    assert sum(part["figures"]["rows"] for part in method["by_lead"]) == mean["rows"]
    assert sum(part["figures"]["rows"] for part in method["by_hour"]) == mean["rows"]
    assert result["asked"]["first_origin"] == "2023-03-01T00:00+00:00"
    assert result["asked"]["refit"] == "P7D"
    assert result["leak"] == {"weekly mean": {"origins": 20, "moved": 0}}
    assert any("fitted anew every P7D" in note for note in result["notes"])


def test_the_same_file_gives_the_same_bytes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = spoilt(tmp_path / "load.csv", untouched)
    assert json.dumps(asked(capfd, path)) == json.dumps(asked(capfd, path))


def test_no_forecast_of_the_command_moves_with_the_load_after_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def later(rows: list[Row]) -> None:
        for row in rows[24 * 50 :]:
            row[1] = f"{3.0 * float(row[1]) - 400.0:.4f}"

    words = ("--train-until", "2023-02-16", "--model", "ridge", "--holidays", "AU-VIC")
    told = []
    for name, change in (("a", untouched), ("b", later)):
        path = spoilt(tmp_path / f"{name}.csv", change)
        asked(capfd, path, *words, "--forecasts", tmp_path / f"{name}.out")
        rows = [line.split(",") for line in (tmp_path / f"{name}.out").read_text().splitlines()[1:]]
        told.append([row[:-1] for row in rows if row[1] <= "2023-02-21T00:00+00:00"])  # without what came
        assert len(rows) == 4 * 15 * 24
    assert len(told[0]) == 4 * 6 * 24
    assert told[0] == told[1]  # all methods, all quantiles, to the last digit
    assert (tmp_path / "a.out").read_text() != (tmp_path / "b.out").read_text()


def test_parquet_gzip_semicolons_and_epochs_are_the_same_series(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    value = np.round(load(24 * DAYS), 4)
    rows = rows_of(value)
    expected = figures(asked(capfd, write(tmp_path / "a.csv", rows)))
    times = [datetime.fromisoformat(row[0]) for row in rows]
    parquet.write_table(pyarrow.table({"time": times, "load": value}), tmp_path / "b.parquet")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    comma = [f"{row[0]};{row[1].replace('.', ',')}" for row in rows]
    (tmp_path / "d.csv").write_text("\n".join(["time;load", *comma]))
    write(tmp_path / "e.csv", [[str(int(t.timestamp())), row[1]] for t, row in zip(times, rows, strict=True)])
    german = [[f"{t:%d.%m.%Y %H:%M}", row[1]] for t, row in zip(times, rows, strict=True)]
    write(tmp_path / "f.csv", german)
    more = {"f.csv": ("--time-format", "%d.%m.%Y %H:%M")}
    for name in ("b.parquet", "c.csv.gz", "d.csv", "e.csv", "f.csv"):
        assert figures(asked(capfd, tmp_path / name, *more.get(name, ()))) == expected, name


def local_rows(zone: str, days: int) -> list[Row]:
    """Local times without an offset, as a meter with that clock writes them."""
    start = datetime(2024, 2, 12, tzinfo=ZoneInfo(zone)).timestamp()
    value = load(24 * days)
    local = (datetime.fromtimestamp(start + 3600 * i, ZoneInfo(zone)) for i in range(value.size))
    return [[f"{t:%Y-%m-%d %H:%M}", f"{v:.4f}"] for t, v in zip(local, value, strict=True)]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Melbourne"])
def test_local_times_without_offset_survive_the_clock_changes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], zone: str
) -> None:
    rows = local_rows(zone, DAYS + 20)
    result = asked(capfd, write(tmp_path / "a.csv", rows), "--zone", zone, "--train-until", "2024-03-20")
    assert found(result, "clock_change")["count"] == 1
    assert not [f for f in result["quality"] if f["kind"] in {"gap", "duplicate", "time_never_was"}]
    offset = "+01:00" if zone == "Europe/Berlin" else "+11:00"
    assert result["asked"]["first_origin"] == f"2024-03-20T00:00{offset}"
    days = {row[0][:10] for row in rows if row[0] >= "2024-03-20"}
    assert result["asked"]["origins"] == len(days) - 1  # the last one is not whole


def test_a_meter_that_keeps_standard_time_is_told_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    start = datetime(2024, 2, 12, tzinfo=UTC)
    value = load(24 * DAYS)
    rows = [[f"{start + timedelta(hours=i):%Y-%m-%d %H:%M}", f"{v:.4f}"] for i, v in enumerate(value)]
    result = asked(capfd, write(tmp_path / "a.csv", rows), "--zone", "Europe/Berlin")
    assert found(result, "time_never_was")["count"] == 1
    assert "--zone Etc/GMT-10" in found(result, "time_never_was")["words"]


def test_known_columns_are_named_as_an_upper_bound(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    value = load(24 * DAYS)
    rows = [[*row, f"{v / 5:.3f}"] for row, v in zip(rows_of(value), value, strict=True)]
    rows[30][2] = ""
    path = write(tmp_path / "a.csv", rows, "time,load,temperature")
    plain = asked(capfd, path, "--model", "ridge")
    known = asked(capfd, path, "--model", "ridge", "--known", "temperature")
    assert any("upper bound" in note for note in known["notes"])
    assert not any("upper bound" in note for note in plain["notes"])
    assert found(known, "known_gap")["count"] == 1
    assert figures(known, "ridge")["mae"] < 0.7 * figures(plain, "ridge")["mae"]


def delete(rows: list[Row]) -> None:
    del rows[200:230]


def twins(rows: list[Row]) -> None:
    rows.insert(100, list(rows[100]))
    rows.insert(300, [rows[300][0], "55.0"])


def shuffle(rows: list[Row]) -> None:
    rows[100:200] = rows[100:200][::-1]


def kilo(rows: list[Row]) -> None:
    for row in rows[900:]:
        row[1] = f"{float(row[1]) * 1000:.1f}"


def freeze(rows: list[Row]) -> None:
    for row in rows[900:930]:
        row[1] = rows[900][1]


def drop_out(rows: list[Row]) -> None:
    for row in rows[900:912]:
        row[1] = "0"


def sentinel(rows: list[Row]) -> None:
    rows[900][1] = "99999"


def blank(rows: list[Row]) -> None:
    rows[77][1], rows[78][1] = "", "NaN"


def jitter(rows: list[Row]) -> None:
    rows[77][0] = rows[77][0].replace(":00Z", ":07Z")


def no_time(rows: list[Row]) -> None:
    rows[77][0] = ""


@pytest.mark.parametrize(
    ("change", "kind", "count", "first"),
    [
        (delete, "gap", 30, "2023-01-10T08:00+00:00"),
        (twins, "duplicate", 2, "2023-01-06T04:00+00:00"),
        (shuffle, "unsorted", 99, ""),
        (kilo, "unit", 540, "2023-02-08T12:00+00:00"),
        (freeze, "stuck", 25, "2023-02-08T17:00+00:00"),
        (drop_out, "zero", 12, "2023-02-08T12:00+00:00"),
        (sentinel, "spike", 1, "2023-02-08T12:00+00:00"),
        (blank, "gap", 2, "2023-01-05T05:00+00:00"),
        (jitter, "beside_grid", 1, ""),
        (no_time, "no_time", 1, ""),
    ],
)
def test_what_is_wrong_in_a_file_is_said_and_hardly_hurts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change, kind: str, count: int, first: str
) -> None:
    good = figures(asked(capfd, spoilt(tmp_path / "good.csv", untouched)))["mae"]
    result = asked(capfd, spoilt(tmp_path / "bad.csv", change))
    assert found(result, kind)["count"] == count
    assert found(result, kind)["first"] == first
    assert figures(result)["mae"] == pytest.approx(good, rel=0.1)


def test_a_test_beyond_the_range_of_training_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def hot(rows: list[Row]) -> None:
        for row in rows[1380:1385]:
            row[1] = "170.0"

    usual = found(asked(capfd, spoilt(tmp_path / "usual.csv", untouched)), "outside_training")
    result = found(asked(capfd, spoilt(tmp_path / "hot.csv", hot)), "outside_training")
    assert result["count"] == usual["count"] + 5  # noise alone goes beyond now and then
    assert "'load' in the test outside of those before it" in result["words"]


def test_two_values_of_one_time_are_unknown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = asked(capfd, spoilt(tmp_path / "bad.csv", twins))
    assert found(result, "gap")["count"] == 1  # the one whose twins differ


def test_a_wild_value_in_the_test_is_scored_and_told_apart(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def wild(rows: list[Row]) -> None:
        rows[1400][1] = "99999"

    good = figures(asked(capfd, spoilt(tmp_path / "good.csv", untouched)))
    result = asked(capfd, spoilt(tmp_path / "bad.csv", wild))
    assert figures(result)["mae"] > 10 * good["mae"]
    assert result["methods"][0]["mae_not_suspect"] == pytest.approx(good["mae"], rel=0.05)
    assert figures(result)["winkler"] is not None


def test_constant_negative_and_short_series_have_figures(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def constant(rows: list[Row]) -> None:
        for row in rows:
            row[1] = "5.0"

    def negative(rows: list[Row]) -> None:
        for row in rows:
            row[1] = f"{float(row[1]) - 200.0:.3f}"

    flat = asked(capfd, spoilt(tmp_path / "a.csv", constant), "--model", "ridge")
    assert found(flat, "constant")["count"] == 24 * DAYS
    assert figures(flat, "ridge")["mae"] == pytest.approx(0.0, abs=1e-9)
    assert figures(flat, "ridge")["rmae"] is None
    below = asked(capfd, spoilt(tmp_path / "b.csv", negative))
    above = asked(capfd, spoilt(tmp_path / "c.csv", untouched))
    assert found(below, "negative")["count"] == 24 * DAYS
    assert figures(below)["mae"] == pytest.approx(figures(above)["mae"], rel=1e-3)
    week = asked(
        capfd,
        spoilt(tmp_path / "d.csv", untouched, days=12),
        "--train-until",
        "2023-01-09",
        "--model",
        "ridge",
    )
    assert found(week, "short_history")["count"] == 7
    assert found(week, "fallback")["count"] == 5 * 24
    assert figures(week, "ridge")["mae"] == figures(week, "seasonal naive 7 d")["mae"]
    assert any("refused" in note for note in week["notes"])


def cell(row: int, column: int, text: str):
    def change(rows: list[Row]) -> None:
        rows[row][column] = text

    return change


def longer(rows: list[Row]) -> None:
    rows[50].append("7")


def empty(rows: list[Row]) -> None:
    for row in rows:
        row[1] = ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cell(77, 1, "n.v."), ("row 79", "'load'", "'n.v.'", "is no number", "leave the cell empty")),
        (cell(50, 0, "yesterday"), ("row 52", "'time'", "'yesterday'", "ISO 8601", "--time-format")),
        (cell(50, 0, "2023-01-04T02:00"), ("row 52", "'time'", "offset", "alike")),
        (cell(50, 0, "2203-01-04T02:00Z"), ("rows 1441 and 52", "days apart", "correct the time")),
        (cell(50, 1, "inf"), ("row 52", "'load'", "infinity", "leave the cell empty")),
        (longer, ("row 52", "3 cells", "2 columns")),
        (empty, ("'load'", "holds no number")),
        (lambda rows: rows.clear(), ("there is a header but no row",)),
        (lambda rows: rows.__delitem__(slice(3, None)), ("nothing to learn from",)),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change, words: tuple[str, ...]
) -> None:
    said = refused(capfd, spoilt(tmp_path / "bad.csv", change))
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--target", "laod"), ("--target 'laod'", "did you mean 'load'?", "'time', 'load'")),
        (("--known", "wind"), ("--known 'wind'", "'time', 'load'")),
        (("--holiday-column", "free"), ("--holiday-column 'free'",)),
        (("--holidays", "XX"), ("no such country", "AU-VIC")),
        (("--holidays", "AU-XX"), ("AU has no such part", "VIC")),
        (("--model", "oracle"), ("--model 'oracle'", "weekly mean")),
        (("--step", "PT7H"), ("does not divide a day",)),
    ],
)
def test_a_wrong_option_says_what_there_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], more: tuple[str, ...], words: tuple[str, ...]
) -> None:
    said = refused(capfd, spoilt(tmp_path / "a.csv", untouched), *more)
    for word in words:
        assert word in said


def test_files_that_are_none_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "No such file" in refused(capfd, tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"time,load\n2023-01-01T00:00Z,\xff\xfe\n")
    assert "UTF-8" in refused(capfd, tmp_path / "a.csv")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    assert "cannot be read as Parquet" in refused(capfd, tmp_path / "b.parquet")
    (tmp_path / "c.csv").write_text("")
    assert "header" in refused(capfd, tmp_path / "c.csv")
    (tmp_path / "d.json").write_text("{}")
    assert typed("report", tmp_path / "d.json", "--out", tmp_path / "d.html") == 1
    assert "is no result of a backtest" in capfd.readouterr().err


def test_means_over_longer_intervals(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.csv", rows_of(load(24 * 4 * DAYS, 0.25), 0.25))
    result = asked(capfd, path, "--step", "PT1H")
    assert result["asked"]["step"] == "PT1H"
    assert figures(result)["rows"] == result["asked"]["origins"] * 24


def test_several_models_their_difference_and_the_page(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.csv", rows_of(load(24 * 120)))
    words = ("backtest", path, "--time", "time", "--target", "load", "--train-until", "2023-03-25", "--json")
    assert typed(*words, "--model", "ridge", "--model", "weekly mean", "--report", tmp_path / "a.html") == 0
    both = capfd.readouterr().out
    (tmp_path / "both.json").write_text(both)
    assert [m["name"] for m in json.loads(both)["methods"]][:2] == ["ridge", "weekly mean"]
    assert typed("compare", tmp_path / "both.json", "--json") == 0
    (pair,) = json.loads(capfd.readouterr().out)["differences"]
    assert pair["first"] == "ridge"
    assert pair["mae"] == pytest.approx(pair["mae_first"] - pair["mae_second"])
    assert pair["mae_low"] < pair["mae"] < pair["mae_high"]
    assert typed("compare", tmp_path / "both.json") == 0
    apart = pair["mae_high"] < 0.0
    assert ("ridge is better" if apart else "cannot be told apart") in capfd.readouterr().out
    assert typed("report", tmp_path / "both.json", "--out", tmp_path / "b.html") == 0
    page = (tmp_path / "a.html").read_text()
    assert page == (tmp_path / "b.html").read_text()
    assert page.count("<svg") > 8
    assert "src=" not in page
    assert "href=" not in page


def test_results_of_other_questions_are_not_compared(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = spoilt(tmp_path / "a.csv", untouched)
    for name, more in (("a", ()), ("b", ("--horizon", "PT6H"))):
        (tmp_path / f"{name}.json").write_text(json.dumps(asked(capfd, path, *more)))
    assert typed("compare", tmp_path / "a.json", tmp_path / "b.json") == 1
    assert "horizon is 'PT24H' in the first result and 'PT6H'" in capfd.readouterr().err


def test_the_text_says_the_protocol_and_the_figures(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = spoilt(tmp_path / "a.csv", freeze, days=120)
    assert (
        typed("evaluate", "forecast", path, "--time", "time", "--target", "load", "--model", "weekly mean")
        == 0
    )
    told = capfd.readouterr().out
    for words in (
        "each from values before its origin only",
        "0 moved",
        "stood still",
        "seasonal naive 7 d",
        "to 24 h",
        "Winkler",
    ):
        assert words in told
