"""Protects the two commands: their scripts are valid shell, and in CI nothing passes by being skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["run", "tests", "tools", "venv"])
def test_a_script_is_valid_shell_and_may_be_run(name: str) -> None:
    script = ROOT / ".ci" / name
    shell = script.read_text().splitlines()[0].removeprefix("#!")
    assert subprocess.run([shell, "-n", str(script)], check=False).returncode == 0
    assert os.access(script, os.X_OK)


def test_make_names_its_targets() -> None:
    make = shutil.which("make")
    assert make, "make is missing: apt-get install make"
    done = subprocess.run([make, "help"], capture_output=True, text=True, cwd=ROOT, check=True)
    for target in ("help", "demo", "test", "lint", "venv", "bench", "evaluate", "clean"):
        assert f"  make {target} " in done.stdout


def test_a_tool_that_cannot_be_installed_is_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    for name in ("dirname", "mkdir", "id", "sh", "sed", "head", "cat"):
        found = shutil.which(name)
        assert found, name
        (tmp_path / name).symlink_to(found)
    home = tmp_path / "home"
    (home / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "tools", home / ".ci" / "tools")
    done = subprocess.run(
        [str(tmp_path / "sh"), str(home / ".ci" / "tools"), "java", "tshark", "promtool"],
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "missing on this machine, please install: "
        "apt-get install --no-install-recommends openjdk-17-jre-headless tshark prometheus\n"
    )


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_a_skipped_test_fails_the_run_in_ci_only(tmp_path: Path, ci: str, code: int) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    lines = [
        "import pytest",
        "def test_fine(): pass",
        "def test_absent(): pytest.importorskip('no_such_module')",
    ]
    (tmp_path / "test_it.py").write_text("\n".join(lines))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "CI": ci},
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert ("CI: 1 skipped test(s) count as failures" in done.stdout) == bool(ci)
