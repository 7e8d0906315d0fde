"""Protects `backtest-many`: the same bytes whoever computes, restarts that compute what is missing, bad series told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from series_cases import load, rows_of, typed, write

from streamproc.errors import DataError
from streamproc.evaluation.series.many import Answer, Task, answer_of, one_by_one, safe_name, tasks_of
from streamproc.evaluation.series.read import Wanted
from streamproc.evaluation.series.run import Question
from streamproc.evaluation.series.store import JOURNAL, Store
from streamproc.shell import dask_runner as runner

ROOT = Path(__file__).resolve().parents[2]
DAYS = 45
WORDS = ("--time", "time", "--model", "weekly mean")


def series(room: Path, count: int) -> list[Path]:
    """Write small series."""
    return [write(room / f"s{seed}.csv", rows_of(load(24 * DAYS, seed=seed))) for seed in range(count)]


def many(
    capfd: pytest.CaptureFixture[str], paths: list[Path], out: Path, *more: object, code: int = 0
) -> dict:
    """Return the JSON of `backtest-many`."""
    target = () if "--all-targets" in more else ("--target", "load")
    assert typed("backtest-many", *paths, "--out", out, *WORDS, *target, *more, "--json") == code
    return json.loads(capfd.readouterr().out)


def counts(summary: dict) -> tuple[int, int, int]:
    return summary["kept"], summary["computed"], summary["failed"]


def results(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.json")}


def moments(out: Path) -> dict[str, int]:
    """When each result was written."""
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}


def tasks(paths: list[Path]) -> list[Task]:
    question = Question(Path(), Wanted("time", ""), "UTC", "PT24H", "PT24H", "00:00", None, "P7D")
    found, bad = tasks_of(paths, ["load"], question, ["weekly mean"])
    assert not bad
    return found


def test_a_series_has_the_same_bytes_alone_among_many_and_on_dask(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from distributed import LocalCluster

    paths = series(tmp_path, 3)
    alone = []
    for path in paths:
        assert typed("backtest", path, *WORDS, "--target", "load", "--json") == 0
        alone.append(capfd.readouterr().out.encode())
    summary = many(capfd, paths, tmp_path / "none")
    assert counts(summary) == (0, 3, 0)
    here = results(tmp_path / "none")
    assert [here[f"{row['series']}.json"] for row in summary["rows"]] == alone
    local = many(capfd, paths, tmp_path / "local", "--scheduler", "local", "--workers", 1)
    assert (local["scheduler"], local["workers"]) == ("local", 1)
    assert results(tmp_path / "local") == here
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        there = many(capfd, paths, tmp_path / "tcp", "--scheduler", cluster.scheduler_address)
    assert counts(there) == (0, 3, 0)
    assert results(tmp_path / "tcp") == here
    assert there["rows"] == local["rows"] == summary["rows"]


def test_a_restart_computes_only_what_is_missing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    paths, out = series(tmp_path, 4), tmp_path / "out"
    first = many(capfd, paths, out)
    before, bytes_before = moments(out), results(out)
    assert counts(many(capfd, paths, out)) == (4, 0, 0)
    assert moments(out) == before
    names = [f"{row['series']}.json" for row in first["rows"]]
    (out / names[1]).unlink()
    again = many(capfd, paths, out)
    assert counts(again) == (3, 1, 0)
    assert again["rows"] == first["rows"]
    assert results(out) == bytes_before
    assert {name for name, moment in moments(out).items() if moment != before[name]} == {names[1]}

    (out / names[0]).write_bytes(bytes_before[names[0]][:1000])  # cut short by somebody else
    with paths[2].open("a") as file:
        file.write("2023-02-16T00:00Z,100\n")
    with (out / JOURNAL).open("a") as file:
        file.write('{"name": "cut sho')
    assert counts(many(capfd, paths, out)) == (2, 2, 0)
    assert counts(many(capfd, paths, out)) == (4, 0, 0)
    assert (out / names[0]).read_bytes() == bytes_before[names[0]]
    assert counts(many(capfd, paths, out, "--horizon", "PT12H")) == (0, 4, 0)
    assert counts(many(capfd, paths, out, "--horizon", "PT12H", "--model", "ridge")) == (0, 4, 0)


def test_another_version_of_the_service_computes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = tasks(series(tmp_path, 1))
    with Store(tmp_path / "out") as store:
        for answer in one_by_one(todo, answer_of):
            store.put(todo[0], answer)
        assert store.missing(todo) == []
        monkeypatch.setattr("streamproc.evaluation.series.store.__version__", "0.0")
        assert store.missing(todo) == todo


def test_two_runs_do_not_write_into_one_directory(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(DataError, match="another backtest-many writes there"):
        Store(tmp_path)
    with Store(tmp_path):
        pass


def stuck_once(room: Path, task: Task) -> Answer:
    """Answer a task and log it; the first worker that gets the first series never ends."""
    name = task.question.path.stem
    log(room, f"begin {name}")
    if name == "s0" and not (room / "stuck").exists():
        (room / "stuck.part").write_text(str(os.getpid()))
        (room / "stuck.part").rename(room / "stuck")
        time.sleep(120.0)
    if name == "s1":
        raise OSError("no room for that")
    answer = answer_of(task)
    log(room, f"end {name}")
    return answer


def log(room: Path, words: str) -> None:
    with (room / "log").open("a") as file:  # one write each: lines of two processes do not mix
        file.write(words + "\n")


def test_a_killed_worker_costs_what_it_was_at_and_nothing_else(tmp_path: Path) -> None:
    todo = tasks(series(tmp_path, 8))
    answers = []
    with runner.dask_runner("local", 2) as (run, count):
        assert count == 2
        for answer in run(todo, partial(stuck_once, tmp_path)):
            answers.append(answer)
            if len(answers) == 3:
                os.kill(int(wait_for(tmp_path / "stuck").read_text()), signal.SIGKILL)
    assert sorted(answer.name for answer in answers) == sorted(task.name for task in todo)
    assert {answer.name: answer for answer in answers if not answer.error} == {
        task.name: answer_of(task) for task in todo if task.question.path.stem != "s1"
    }
    lines = (tmp_path / "log").read_text().splitlines()
    names = [task.question.path.stem for task in todo]
    assert {name: lines.count(f"end {name}") for name in names} == {**dict.fromkeys(names, 1), "s1": 0}
    begun = {name: lines.count(f"begin {name}") for name in names}
    assert begun == {**dict.fromkeys(names, 1), "s0": 2, "s1": 1 + runner.RETRIES_PER_SERIES}
    (mistake,) = [answer for answer in answers if answer.error]
    assert (
        "s1.csv: target 'load': a mistake in streamproc, please report it (OSError: no room" in mistake.error
    )
    assert "in stuck_once" in mistake.trace


def wait_for(path: Path, seconds: float = 60.0) -> Path:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.02)
    return path


def deadly(task: Task) -> Answer:
    """Kill the worker with one series, answer all others."""
    if task.question.path.stem == "s0":
        os.kill(os.getpid(), signal.SIGKILL)
    return answer_of(task)


def test_a_series_that_kills_its_workers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runner.LOCAL_SETTINGS, "distributed.scheduler.allowed-failures", 1)
    todo = tasks(series(tmp_path, 1))
    with runner.dask_runner("local", 1) as (run, _):
        (answer,) = run(todo, deadly)
    assert "s0.csv: target 'load': its worker died again and again; is there enough memory?" in answer.error


def test_after_a_kill_of_the_whole_run_the_next_one_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths, out = series(tmp_path, 8), tmp_path / "out"
    words = ["backtest-many", *paths, "--out", out, *WORDS, "--target", "load", "--refit", "P1D"]
    command = [sys.executable, "-m", "streamproc", *map(str, words), "--scheduler", "local", "--workers", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60.0
        while not (journal := out / JOURNAL).exists() or journal.read_bytes().count(b"\n") < 2:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    there = journal.read_bytes().count(b"\n")
    assert 2 <= there < 8
    before = moments(out)
    summary = many(capfd, paths, out, "--refit", "P1D")
    assert counts(summary) == (there, 8 - there, 0)
    after = moments(out)
    assert len(after) == 8
    assert sum(after[name] == moment for name, moment in before.items()) == there
    assert not list(out.glob("*.part"))


def test_bad_files_among_good_ones_are_told_and_stop_nobody(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths, out = series(tmp_path, 3), tmp_path / "out"
    good = paths[1].read_text()
    paths[1].write_text(good.replace(good.splitlines()[9].split(",")[1], "n.v."))
    asked = [*paths, tmp_path / "absent.csv"]
    assert typed("backtest-many", *asked, "--out", out, *WORDS, "--target", "load", "--json") == 1
    told = capfd.readouterr()
    assert told.err.count("\n") == 1
    assert "2 of 4 series could not be evaluated; the reason of each is in" in told.err
    summary = json.loads(told.out)
    assert counts(summary) == (0, 2, 2)
    assert [Path(error["file"]).name for error in summary["errors"]] == ["s1.csv", "absent.csv"]
    error = json.loads((out / f"{summary['errors'][0]['series']}.error.json").read_text())
    assert "s1.csv: row 10, column 'load': 'n.v.' is no number" in error["error"]
    assert "No such file" in summary["errors"][1]["error"]

    paths[1].write_text(good)
    assert counts(many(capfd, paths, out)) == (2, 1, 0)
    assert not (out / f"{summary['errors'][0]['series']}.error.json").exists()
    paths[0].write_text("time,load\n")
    assert counts(many(capfd, paths, out, code=1)) == (2, 0, 1)
    assert len(results(out)) == 3 + 1  # two results, two reasons: no result of data that is gone


def test_every_column_of_every_file_of_a_directory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    room = tmp_path / "in"
    room.mkdir()
    rows = [[*row, f"{v:.3f}", "7"] for row, v in zip(rows_of(load(24 * DAYS)), load(24 * DAYS), strict=True)]
    write(room / "a.csv", rows, "time,load,größe (MW),known")
    write(room / "b.csv", [row[:2] for row in rows])
    (room / "remarks.txt").write_text("no series")
    summary = many(capfd, [room], tmp_path / "out", "--all-targets", "--known", "known", code=1)
    assert [(Path(row["file"]).name, row["target"]) for row in summary["rows"]] == [
        ("a.csv", "load"),
        ("a.csv", "größe (MW)"),
    ]
    (error,) = summary["errors"]
    assert "b.csv: --known 'known': there is no such column" in error["error"]
    (room / "c.csv").write_text("")
    empty = many(capfd, [room / "c.csv"], tmp_path / "out", "--all-targets", code=1)
    assert "a header with column names is expected" in empty["errors"][0]["error"]


def test_names_of_results_are_plain_and_never_the_same(tmp_path: Path) -> None:
    names = [
        safe_name(tmp_path / file, target)
        for file, target in (
            ("a/load.csv", "MW"),
            ("b/load.csv", "MW"),
            ("a/load.csv", "M/W"),
            ("ä", "x" * 400),
        )
    ]
    assert len({name.lower() for name in names}) == 4
    assert names[2].startswith("load-M_W-")
    assert all(name.isascii() and len(name) < 120 and "/" not in name for name in names)


def test_the_summary_has_medians_and_the_worst(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    paths, out = series(tmp_path, 3), tmp_path / "out"
    summary = many(capfd, paths, out, "--model", "ridge")
    rows = [row for row in summary["rows"] if row["model"] == "ridge"]
    medians = {one["model"]: one for one in summary["medians"]}
    assert list(medians) == ["weekly mean", "ridge"]
    assert medians["ridge"]["mape"] == sorted(row["mape"] for row in rows)[1]
    assert [row["skill"] for row in summary["worst"]] == sorted(row["skill"] for row in summary["worst"])
    result = json.loads((out / f"{rows[0]['series']}.json").read_text())
    mae = {method["name"]: method["figures"]["mae"] for method in result["methods"]}
    naive = min(mae[name] for name in mae if name not in {"ridge", "weekly mean"})
    assert rows[0]["skill"] == pytest.approx(1.0 - mae["ridge"] / naive)
    words = ("--target", "load", "--model", "ridge")
    assert typed("backtest-many", *paths, "--out", out, *WORDS, *words) == 0
    told = capfd.readouterr().out
    assert "3 series: 3 kept, 0 computed, 0 could not be evaluated" in told
    assert "median of 3" in told
    assert "worst: s" in told


def test_a_scheduler_that_is_not_there_or_has_no_worker_is_one_sentence_soon(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(runner, "CONNECT_S", 1.0)
    monkeypatch.setattr(runner, "WORKERS_S", 1.0)
    words = ("backtest-many", *series(tmp_path, 1), "--out", tmp_path / "out", *WORDS, "--target", "load")
    begun = time.monotonic()
    assert typed(*words, "--scheduler", "tcp://127.0.0.1:9") == 1
    assert time.monotonic() - begun < 10.0
    told = capfd.readouterr()
    assert told.err.count("\n") == 1
    assert "--scheduler tcp://127.0.0.1:9: no Dask scheduler answers there within 1 s; start one" in told.err
    with LocalCluster(n_workers=0, processes=False, dashboard_address=None, protocol="tcp") as cluster:
        assert typed(*words, "--scheduler", cluster.scheduler_address) == 1
    told = capfd.readouterr()
    assert told.err.count("\n") == 1
    assert "no worker came within 1 s; start some with `dask worker tcp://" in told.err


def test_a_scheduler_that_goes_away_ends_the_run_and_says_how_to_go_on(tmp_path: Path) -> None:
    from distributed import LocalCluster

    todo = tasks(series(tmp_path, 8))
    answers = []
    cluster = LocalCluster(n_workers=1, processes=False, dashboard_address=None, protocol="tcp")

    def run_on() -> None:
        with runner.dask_runner(cluster.scheduler_address, 0) as (run, _):
            for answer in run(todo, answer_of):
                answers.append(answer)
                cluster.close()

    with pytest.raises(DataError, match=r"it went away while \d series were missing; start again with"):
        run_on()
    assert 1 <= len(answers) < 8


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ((), 2, "--all-targets"),
        (("--target", "load", "--all-targets"), 2, "not both"),
        (("--target", "load", "--scheduler", "spark"), 2, "none of none, local, tcp://host:port"),
        (("--target", "load", "--workers", "2"), 2, "--workers is for --scheduler local"),
        (("--target", "load", "--model", "oracle"), 1, "--model 'oracle'"),
        (("--target", "load", "--zone", "Nowhere"), 1, "no such time zone"),
        (("--target", "load", "--horizon", "day"), 1, "--horizon 'day'"),
        (("--target", "load", "--train-until", "soon"), 1, "--train-until 'soon'"),
        (("--target", "load", "--holidays", "XX"), 1, "no such country"),
    ],
)
def test_options_that_are_wrong_for_all_are_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], more: tuple[str, ...], code: int, words: str
) -> None:
    paths = series(tmp_path, 2)
    assert typed("backtest-many", *paths, "--out", tmp_path / "out", *WORDS, *more) == code
    told = " ".join(capfd.readouterr().err.replace("│", " ").split())
    assert words in told
    assert not (tmp_path / "out").exists()
