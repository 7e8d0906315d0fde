"""The decoder's benchmark measures what it says, and the fast way to a phasor is as exact as the plain one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from c37118_cases import pmu, stream

from streamproc.core.c37118 import Book, decode, encode_data
from streamproc.shell.bench import decode as bench_decode


def test_the_benchmark_reports_every_case_beside_a_plain_frombuffer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = bench_decode.main(json=True, seconds=0.2)
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["speeds"]) == 12
    assert {row["way"] for row in shown["speeds"]} == {"decode", "frombuffer", "frombuffer + crc_hqx"}
    assert all(row["values_per_s"] > row["frames_per_s"] > 0 for row in shown["speeds"])
    assert code == (1 if shown["missed"] else 0)


def test_the_benchmark_prints_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    bench_decode.main(json=False, seconds=0.1)
    lines = capsys.readouterr().out.splitlines()
    assert "M PMU-frames/s" in lines[0]
    assert lines[1].startswith("one PMU")


def test_polar_phasors_are_as_exact_as_sine_and_cosine() -> None:
    config, layout = stream(pmu(0b1011))
    book, _ = Book().learn(config)
    angle_rad = np.concatenate([np.linspace(-np.pi, np.pi, 2001), [np.pi / 2, -np.pi / 2, 0.0, -0.0]])
    sent = encode_data(
        layout,
        np.arange(angle_rad.size),
        np.full((angle_rad.size, 1), 50.0),
        phasor=np.exp(1j * angle_rad)[:, None],
    )
    rows = np.frombuffer(b"".join(sent), layout.dtype)["pmu0"]["phasor"][:, 0]
    magnitude, angle = rows[:, 0].astype(np.float64), rows[:, 1].astype(np.float64)
    (batch,) = decode(book, sent).batches
    np.testing.assert_allclose(batch.phasor[:, 0].real, magnitude * np.cos(angle), rtol=0, atol=5e-16)
    np.testing.assert_allclose(batch.phasor[:, 0].imag, magnitude * np.sin(angle), rtol=0, atol=5e-16)
