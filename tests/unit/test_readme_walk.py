"""Protects the README: the walk from a file to a compared model runs as it is written there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
MARK = "<!-- run as written by tests/unit/test_readme_walk.py -->"


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(re.escape(MARK) + r"\s*```\n(.*?)```", text, re.DOTALL)
    assert found, "the walk-through is gone from the README"
    return found.group(1).strip().splitlines()


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    room = tmp_path_factory.mktemp("walk")
    (room / "tests").symlink_to(ROOT / "tests")
    said = []
    for line in commands():
        assert line.startswith("streamproc ")
        words = line.removeprefix("streamproc ")
        done = subprocess.run(  # the redirections of the page want a shell
            f"{sys.executable} -m streamproc {words}",
            shell=True,
            cwd=room,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        said.append(done.stdout)
    return room, said


def test_the_bundles_hold_what_the_page_says(walked: tuple[Path, list[str]]) -> None:
    room, said = walked
    for name in ("candidate", "champion"):
        assert {path.name for path in (room / name).iterdir()} == {
            "model.onnx",
            "manifest.toml",
            "card.md",
            "arrays.npz",
            "golden.npz",
        }
        manifest = (room / name / "manifest.toml").read_text()
        assert "streamproc train forecast buildings.csv" in manifest
        assert 'trained_until = "2013-10-27T23:00+10:00"' in manifest
    assert "forecast_bundle" in said[0]


def test_the_candidate_is_compared_and_better_than_what_everybody_can_do(
    walked: tuple[Path, list[str]],
) -> None:
    room, said = walked
    result = orjson.loads((room / "result.json").read_bytes())
    figures = {one["name"].split()[0]: one["figures"] for one in result["methods"]}
    naive = min(of["mape"] for name, of in figures.items() if name in ("persistence", "seasonal"))
    assert figures["candidate"]["mape"] < 0.9 * naive
    assert figures["champion"]["mape"] < 0.9 * naive
    assert all(leak["moved"] == 0 for leak in result["leak"].values())
    assert "candidate" in said[3]
    assert "champion" in said[3]
    page = (room / "page.html").read_text()
    assert "<svg" in page
    assert "http" not in re.sub(r"http://www\.w3\.org/\S*", "", page)
