"""Protects the decoder against a million damaged frames: a value or a named refusal, never an exception, never a lie.

Half of the damaged frames get their CRC repaired, so that the damage reaches the parsers and not only the CRC.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections import Counter

import numpy as np
import pytest
from c37118_cases import configuration, frames, pmu, stream

from streamproc.core.c37118 import CFG3, Book, Reason, decode, encode_configuration, encode_header
from streamproc.values import U8
from tests.command_frame import encode_command

DATA_COUNT, CONFIG_COUNT, OTHER_COUNT = 780_000, 60_000, 40_000  # x 1, 3, 1: a million


def damaged(originals: list[bytes], count: int, seed: int) -> list[bytes]:
    """Copies with one to four bytes changed; every second one with its CRC made right, every ninth one cut or longer."""
    rng = np.random.default_rng(seed)
    by_size: dict[int, list[bytes]] = {}
    for original in originals:
        by_size.setdefault(len(original), []).append(original)
    made: list[bytes] = []
    for size, same in sorted(by_size.items()):
        n = count * len(same) // len(originals)
        rows: U8 = (
            np.frombuffer(b"".join(same), np.uint8).reshape(-1, size)[rng.integers(0, len(same), n)].copy()
        )
        for _ in range(4):
            hit = rng.random(n) < 0.4
            # Heads and counts decide more than numbers do: half of the damage falls there.
            place = np.where(rng.random(n) < 0.5, rng.integers(0, min(size, 48), n), rng.integers(0, size, n))
            value = np.where(
                rng.random(n) < 0.3, rng.choice([0, 1, 0x7F, 0x80, 0xAA, 0xFF], n), rng.integers(0, 256, n)
            )
            rows[hit, place[hit]] = value[hit]
        packed = rows.tobytes()
        for i in range(n):
            frame = packed[i * size : (i + 1) * size]
            if i % 9 == 0:
                frame = frame[: i % size] if i % 2 else frame + frame[: i % 7]
            if i % 2 == 0 and len(frame) > 2:
                body = frame[:-2]
                frame = body + crc_hqx(body, 0xFFFF).to_bytes(2, "big")
            made.append(frame)
    return made


def run(book: Book, records: list[bytes]) -> Counter[str]:
    """Decode; check that every record is accounted for and every value is within its range."""
    result = decode(book, records)
    answered = np.zeros(len(records), dtype=bool)
    counts: Counter[str] = Counter()
    for batch in result.batches:
        answered[batch.record] = True
        counts["data"] += batch.record.size
        assert (batch.fracsec < batch.layout.time_base).all()
        assert (batch.t_ns >= 0).all()
        assert batch.stat.shape == batch.freq_hz.shape == (batch.record.size, batch.layout.n_pmu)
        sizes = np.array([len(records[i]) for i in batch.record])
        assert (sizes >= batch.layout.frame_size).all()
    for other in result.others:
        answered[other.record] = True
        counts["other"] += 1
        assert int.from_bytes(other.frame[2:4], "big") == len(other.frame)
        assert crc_hqx(other.frame, 0xFFFF) == 0
    for index, refusal in result.rejections:
        answered[index] = True
        counts[refusal.reason] += 1
        assert isinstance(refusal.reason, Reason)
        assert 0 <= refusal.start <= refusal.start + refusal.size <= max(len(records[index]), refusal.size)
    # A fragment that is only held says nothing yet.
    silent = [records[i] for i in np.flatnonzero(~answered)]
    assert all(frame[1] >> 4 & 7 == CFG3 for frame in silent)
    return counts


def test_damaged_data_frames() -> None:
    cases = [
        (pmu(form, n_phasor=1 + form % 3, n_analog=form % 2, n_word=form % 2),) for form in (0, 3, 11, 15)
    ]
    book, originals = Book(), []
    for idcode, pmus in enumerate(cases, 1):
        config, layout = stream(*pmus, idcode=idcode, time_base=50_000)
        book, _ = book.learn(config)
        originals += frames(layout, 50, seed=idcode)
    counts: Counter[str] = Counter()
    for seed in range(10):
        counts += run(book, damaged(originals, DATA_COUNT // 10, seed))
    assert {"data", "bad_crc", "unknown_configuration", "size_mismatch", "bad_fracsec"} <= set(counts)
    assert counts["data"] > DATA_COUNT // 4


@pytest.mark.parametrize("which", ["cfg2", "cfg3", "fragments"])
def test_damaged_configurations(which: str) -> None:
    one = pmu(11, n_phasor=2, n_analog=1, n_word=1)
    if which == "cfg2":
        originals = [stream(one)[0], stream(one, pmu(0), idcode=8)[0]]
    elif which == "cfg3":
        originals = [stream(one, kind=CFG3)[0], stream(pmu(), kind=CFG3, idcode=8)[0]]
    else:
        originals = encode_configuration(configuration(one, one, kind=CFG3), fragment_size=200)
    book, counts = Book(), Counter[str]()
    made = damaged(originals, CONFIG_COUNT, 1)
    for first in range(0, len(made), 2000):
        counts += run(book, made[first : first + 2000])
    assert counts["other"] > 0
    assert {"bad_crc", "bad_fragment" if which == "fragments" else "bad_config"} <= set(counts)


def test_damaged_headers_and_commands() -> None:
    originals = [encode_header(7, "a header"), encode_command(7, 2), encode_command(7, 8, bytes(range(64)))]
    counts = run(Book(), damaged(originals, OTHER_COUNT, 2))
    assert counts["other"] > OTHER_COUNT // 8


def test_damaged_frames_back_to_back() -> None:
    config, layout = stream(pmu(15, n_phasor=2))
    book, _ = Book().learn(config)
    made = damaged([config, *frames(layout, 40)], 20_000, 3)
    records = [b"".join(made[i : i + 50]) for i in range(0, len(made), 50)]
    counts = run(book, records)
    assert counts["data"] > 5_000
    assert decode(book, [b"".join(made)]).batches
