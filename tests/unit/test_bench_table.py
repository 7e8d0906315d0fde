"""Protects what a benchmark says: a missed target is never told as met, and what was not measured is not met."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from streamproc.cli import bench as command
from streamproc.errors import ShellError
from streamproc.shell.bench.table import (
    Result,
    Table,
    Target,
    encode,
    markdown,
    middle,
    number,
    ratio,
    read_result,
    report,
    result_of,
    spread_ratio,
    target_line,
    text,
)

GOOD = Target(name="fast", sign=">=", goal=2.0, measured=2.0, unit="x")
BAD = Target(name="quick", sign="<", goal=100.0, measured=100.0, unit="ms")
UNKNOWN = Target(name="flat", sign="<=", goal=1.25, measured=None)
TABLE = Table(
    title="Ways", head=("way", "records/s"), rows=(("a | b", 12345.6), ("none", None)), note="A note."
)


def result(*targets: Target, kind: str = "path", date: str | None = None) -> Result:
    made = result_of(kind, {"records": 10}, [TABLE], targets)
    return made if date is None else msgspec.structs.replace(made, date=date)


def test_a_target_is_met_by_its_own_sign_and_not_when_nothing_was_measured() -> None:
    assert GOOD.met
    assert not BAD.met
    assert not UNKNOWN.met
    assert Target(name="", sign="<=", goal=1.0, measured=1.0).met
    assert not Target(name="", sign=">=", goal=1.0, measured=math.nan).met


def test_every_view_of_a_result_tells_what_was_missed() -> None:
    told = result(GOOD, BAD, UNKNOWN)
    assert target_line(BAD) == "NOT MET  quick: 100 ms (target < 100 ms)"
    assert target_line(UNKNOWN).startswith("NOT MET  flat: not measured")
    lines = text(told).splitlines()
    assert "met      fast: 2.00 x (target >= 2.00 x)" in lines
    assert "NOT MET  quick: 100 ms (target < 100 ms)" in lines
    assert "| quick | < 100 ms | 100 ms | **not met** |" in markdown(told)
    assert [target["met"] for target in json.loads(encode(told))["targets"]] == [True, False, False]


def test_a_table_has_its_rows_its_note_and_a_dash_for_what_is_not_known() -> None:
    shown = text(result())
    assert "a | b     12,346" in shown
    assert "none           -" in shown
    assert "A note." in shown
    assert "| a \\| b | 12,346 |" in markdown(result())


@pytest.mark.parametrize(
    ("cell", "shown"),
    [(None, "-"), ("x", "x"), (3, "3"), (12345, "12,345"), (0.123, "0.12"), (12.34, "12.3"), (123.4, "123")],
)
def test_numbers_are_told_in_three_figures(cell: str | float | None, shown: str) -> None:
    assert number(cell) == shown


@given(st.lists(st.floats(0.1, 1e6), min_size=1))
def test_the_spread_is_one_for_equal_costs_and_more_otherwise(values: list[float]) -> None:
    spread = spread_ratio(values)
    assert spread is not None
    assert spread >= 1.0
    assert spread == pytest.approx(max(values) / min(values))
    assert middle(values) is not None


def test_what_is_missing_stays_missing() -> None:
    assert ratio(None, 1.0) is None
    assert ratio(1.0, None) is None
    assert ratio(1.0, 0.0) is None
    assert ratio(3.0, 2.0) == 1.5
    assert middle([None, 3.0, 1.0]) == 2.0
    assert middle([]) is None
    assert spread_ratio([None]) is None


def test_the_report_holds_the_newest_run_of_each_kind_and_all_targets_first() -> None:
    old = result(GOOD, date="2026-01-01 00:00 UTC")
    new = result(BAD, date="2026-01-02 00:00 UTC")
    other = result(UNKNOWN, kind="latency", date="2026-01-01 00:00 UTC")
    told = report([new, other, old])
    assert "| path | quick | < 100 ms | 100 ms | **not met** |" in told
    assert "| latency | flat | <= 1.25 | - | **not met** |" in told
    assert "fast" not in told
    assert told.index("bench path") < told.index("bench latency")
    assert "2026-01-02 00:00 UTC. Machine: cpu" in told


def test_a_result_comes_back_from_its_json_also_behind_other_lines(tmp_path: Path) -> None:
    told = result(GOOD, UNKNOWN)
    path = tmp_path / "path.json"
    path.write_text("starting Apache Kafka\n" + encode(told) + "\n")
    assert read_result(path) == told


def test_a_file_that_holds_no_result_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(ShellError, match="No such file"):
        read_result(path)
    path.write_text('{"format": "other"}')
    with pytest.raises(ShellError, match="not a result"):
        read_result(path)


def test_the_command_leaves_with_one_when_a_target_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    for targets, code in (((GOOD,), 0), ((GOOD, BAD), 1), ((UNKNOWN,), 1)):
        with pytest.raises(typer.Exit) as end:
            command.show(result(*targets), json=True)
        assert end.value.exit_code == code
        assert json.loads(capsys.readouterr().out)["format"] == "streamproc-bench/1"


def test_the_report_command_writes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "path.json", tmp_path / "BENCHMARKS.md"
    path.write_text(encode(result(GOOD)))
    command.report([path], None, out)
    told = out.read_text()
    assert told.startswith("# Benchmarks")
    assert "What was looked at" in told
    notes = tmp_path / "notes.md"
    notes.write_text("## Tried\n")
    printed = tmp_path / "unseen_networks.txt"
    printed.write_text("corpus  noise\nx       T2\n")
    command.report([path], None, out, [printed])
    section = (
        "## Evaluation: unseen networks (`streamproc evaluate`)\n\n```text\ncorpus  noise\nx       T2\n```"
    )
    assert section in out.read_text()
    command.report([path], notes, None)
    assert capsys.readouterr().out == told[: told.index("## What was looked at")] + "## Tried\n"
    with pytest.raises(ShellError, match="No such file"):
        command.report([path], tmp_path / "none.md", None)


def test_numbers_with_commas() -> None:
    assert command._numbers("10, 40") == (10, 40)
    assert command._numbers("") == ()
    for wrong in ("x", "0", "-1"):
        with pytest.raises(typer.BadParameter):
            command._numbers(wrong)
