"""Protects the air-gapped site: from the wheelhouse alone, without any network, it installs and it runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deploy_rig import clean_environment, install_words, offline, run, wheelhouse

DEMO_S = 30

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an environment that was made and filled in a network of loopback only."""
    home = tmp_path_factory.mktemp("airgap") / "venv"
    # `venv` alone: not every Debian has ensurepip, and pip can work on another environment from outside.
    run([sys.executable, "-m", "venv", "--without-pip", home])
    run(offline(install_words(home / "bin" / "python", wheelhouse())), clean_environment())
    return home


def test_the_network_of_these_tests_reaches_nobody() -> None:
    ask = "import socket; socket.create_connection(('192.0.2.1', 443), 3)"
    done = subprocess.run(
        [str(word) for word in offline([sys.executable, "-c", ask])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Network is unreachable" in done.stderr


def test_the_demo_runs_and_alerts_without_a_network(environment: Path, tmp_path: Path) -> None:
    program = environment / "bin" / "streamproc"
    words = [program, "demo", "--plain", "--seconds", DEMO_S]
    said = run(offline(words), clean_environment() | {"HOME": str(tmp_path)}, tmp_path)
    assert "generator trip" in said, said
    assert "alerted as" in said, said
    assert "no alert" not in said, said


def test_what_is_installed_is_not_this_tree(environment: Path, tmp_path: Path) -> None:
    ask = "import streamproc; print(streamproc.__file__)"
    said = run([environment / "bin" / "python", "-c", ask], clean_environment(), tmp_path)
    assert Path(said.strip()).is_relative_to(environment)


def test_a_wheel_that_was_changed_is_refused(environment: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheelhouse"
    shutil.copytree(wheelhouse(), wheels)
    victim = next(wheels.glob("tomli_w-*.whl"))
    victim.write_bytes(victim.read_bytes() + b"\0")
    words = [*install_words(environment / "bin" / "python", wheels), "--force-reinstall", "--dry-run"]
    done = subprocess.run(
        [str(word) for word in offline(words)],
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=False,
    )
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr, done.stderr
