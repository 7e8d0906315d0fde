"""Protects the command line: the help is instant, errors are one sentence, exit codes are 0, 1 and 2."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest
import typer

from streamproc import __version__
from streamproc.cli import root
from streamproc.errors import ShellError

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        root.app(words)
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails in the way its argument says."""

    def command(how: str) -> None:
        if how == "ours":
            raise ShellError("the broker has gone")
        if how == "theirs":
            raise ValueError("a mistake of ours")
        if how == "exit":
            raise typer.Exit(1)

    module = types.ModuleType("streamproc.cli.probe")
    module.register = lambda app: app.command("probe")(command)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "streamproc.cli.probe", module)
    monkeypatch.setitem(root.COMMANDS, "probe", ("streamproc.cli.probe", "fail"))


def test_help_names_every_command_and_imports_none_of_them() -> None:
    code = (
        "import sys; from streamproc.cli.root import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = set('numpy faust onnxruntime aiokafka typer msgspec'.split()) & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for name, (_, line) in root.COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert line in done.stdout


def test_every_command_of_the_table_can_be_asked_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in root.COMMANDS:
        assert run(name, "--help") == 0, name
        assert f"streamproc {name}" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"streamproc {__version__}\n"


def test_an_unknown_command_is_a_usage_error_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("replai") == 2
    assert capsys.readouterr().err == "streamproc: no command 'replai'; did you mean 'replay'?\n"


def test_a_wrong_option_is_a_usage_error() -> None:
    assert run("check", "--banana") == 2


@pytest.mark.usefixtures("probe")
def test_an_error_of_ours_is_one_sentence_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("probe", "ours") == 1
    assert capsys.readouterr().err == "streamproc: the broker has gone\n"


@pytest.mark.usefixtures("probe")
def test_a_mistake_in_the_code_is_seen_whole() -> None:
    with pytest.raises(ValueError, match="a mistake of ours"):
        root.app(["probe", "theirs"])


@pytest.mark.usefixtures("probe")
def test_exit_codes_of_commands_are_passed_on() -> None:
    assert run("probe", "exit") == 1
    assert run("probe", "fine") == 0
