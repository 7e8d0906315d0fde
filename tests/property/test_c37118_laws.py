"""Protects three laws of the codec: no byte is lost between findings, batching never matters, what is encoded comes back."""

from __future__ import annotations

import numpy as np
from c37118_cases import configuration, frames, instants, pmu, stream
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.c37118 import (
    CFG2,
    CFG3,
    Book,
    Configuration,
    PmuInfo,
    compile_layout,
    decode,
    encode_configuration,
    encode_data,
    encode_header,
    parse_configuration,
    split,
)
from tests.command_frame import encode_command

CONFIG, LAYOUT = stream(pmu(11, n_phasor=2), pmu(0, n_analog=1, n_word=1))
OTHER_CONFIG, OTHER_LAYOUT = stream(pmu(11, cfgcnt=2))
DATA = [*frames(LAYOUT, 12), *frames(OTHER_LAYOUT, 3)]
WRONG_BYTE = st.tuples(st.sampled_from(DATA), st.integers(0, 10**6)).map(
    lambda pair: bytes(b ^ (i == pair[1] % len(pair[0])) for i, b in enumerate(pair[0]))
)
CUT = st.tuples(st.sampled_from(DATA), st.integers(0, 10**6)).map(
    lambda pair: pair[0][: pair[1] % len(pair[0])]
)
PIECES = st.one_of(
    st.sampled_from([CONFIG, OTHER_CONFIG, *DATA, encode_header(7, "text"), encode_command(7, 2)]),
    WRONG_BYTE,
    CUT,
    st.binary(max_size=30),
    st.sampled_from([b"\xaa", b"\xaa\x01", b"\xaa\x01\xff\xff", b"\xaa\x31\x00\x20", b"\xaa\xaa\x01\x00"]),
)
STEPS = st.lists(st.integers(1, 9), min_size=1, max_size=9)


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=30).map(b"".join))
def test_frames_and_rejections_tile_the_buffer(buffer: bytes) -> None:
    parts = split(buffer)
    spans = sorted([(s, n) for s, n in parts.frames.tolist()] + [(r.start, r.size) for r in parts.rejections])
    at = 0
    for start, size in spans:
        assert (start, size > 0) == (at, True)
        at += size
    assert at == len(buffer) == parts.consumed


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=40), STEPS)
def test_any_batching_of_records_gives_the_same_values(records: list[bytes], steps: list[int]) -> None:
    def values(parts: list[list[bytes]]) -> tuple[list[tuple[object, ...]], list[str]]:
        book, rows, refused = Book(), [], []
        for part in parts:
            result = decode(book, part)
            book = result.book
            found = [
                (
                    order,
                    batch.t_ns[i],
                    batch.stat[i].tobytes(),
                    batch.freq_hz[i].tobytes(),
                    batch.phasor[i].tobytes(),
                )
                for batch in result.batches
                for i, order in enumerate(batch.order.tolist())
            ]
            rows += [row[1:] for row in sorted(found, key=lambda row: row[0])]
            refused += [f"{r.reason} {r.detail} {r.start} {r.size}" for _, r in result.rejections]
        return rows, refused

    parts, at, turn = [], 0, 0
    while at < len(records):
        step = steps[turn % len(steps)]
        parts.append(records[at : at + step])
        at, turn = at + step, turn + 1
    assert values(parts) == values([records])


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60).map(
    lambda text: text.rstrip(" ")
)
ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=16)
WORDS = st.integers(0, 0xFFFF)
FLOATS = st.floats(width=32, allow_nan=False)


@st.composite
def pmus(draw: st.DrawFn, kind: int) -> PmuInfo:
    n_phasor, n_analog, n_word = draw(st.integers(0, 4)), draw(st.integers(0, 3)), draw(st.integers(0, 2))
    name = NAMES if kind == CFG3 else ASCII

    def several(count: int, values: st.SearchStrategy[object]) -> tuple[object, ...]:
        return tuple(draw(st.lists(values, min_size=count, max_size=count)))

    if kind == CFG3:
        more: dict[str, object] = {
            "phasor_factor": several(n_phasor, FLOATS),
            "phasor_angle_rad": several(n_phasor, FLOATS),
            "phasor_component": several(n_phasor, st.integers(0, 7)),
            "phasor_flags": several(n_phasor, WORDS),
            "phasor_user": several(n_phasor, st.integers(0, 255)),
            "analog_type": (0,) * n_analog,
            "analog_factor": several(n_analog, FLOATS),
            "analog_offset": several(n_analog, FLOATS),
            "global_id": draw(st.binary(min_size=16, max_size=16)),
            "latitude_deg": draw(FLOATS),
            "longitude_deg": draw(FLOATS),
            "elevation_m": draw(FLOATS),
            "svc_class": draw(st.sampled_from("MP")),
            "window_us": draw(st.integers(-(2**31), 2**31 - 1)),
            "grp_dly_us": draw(st.integers(-(2**31), 2**31 - 1)),
        }
    else:
        more = {
            "phasor_factor": several(n_phasor, st.integers(0, 0xFFFFFF).map(lambda n: n / 1e5)),
            "analog_type": several(n_analog, st.integers(0, 255)),
            "analog_factor": several(n_analog, st.integers(-(2**23), 2**23 - 1).map(float)),
        }
    more |= {
        "stn": draw(name),
        "idcode": draw(WORDS),
        "phasor_names": several(n_phasor, name),
        "phasor_is_current": several(n_phasor, st.booleans()),
        "analog_names": several(n_analog, name),
        "digital_names": tuple(f"{draw(name)}"[:12] + f"{i}" for i in range(16 * n_word)),
        "digital_normal": several(n_word, WORDS),
        "digital_valid": several(n_word, WORDS),
        "nominal_hz": draw(st.sampled_from([50.0, 60.0])),
        "cfgcnt": draw(WORDS),
    }
    return pmu(draw(st.integers(0, 15)), n_phasor=n_phasor, n_analog=n_analog, n_word=n_word, **more)


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    kind = draw(st.sampled_from([CFG2, CFG3]))
    rate = draw(st.integers(-32768, 32767).filter(bool))
    base, idcode, soc = draw(st.integers(1, 0xFFFFFF)), draw(WORDS), draw(st.integers(0, 2**32 - 1))
    members = draw(st.lists(pmus(kind), min_size=1, max_size=3))
    return configuration(*members, kind=kind, idcode=idcode, time_base=base, data_rate=rate, soc=soc)


@settings(max_examples=60, deadline=None)
@given(configurations(), st.integers(40, 400))
def test_a_configuration_comes_back_whole_or_in_fragments(config: Configuration, fragment_size: int) -> None:
    (frame,) = encode_configuration(config)
    assert parse_configuration(frame) == config
    book = Book()
    for part in encode_configuration(config, fragment_size=fragment_size):
        assert not book.layouts
        book, why = book.learn(part)
        assert why is None
    assert book.layouts[config.idcode].pmus == config.pmus


@settings(max_examples=60, deadline=None)
@given(configurations(), st.integers(0, 2**32 - 1), st.integers(0, 255))
def test_data_of_any_configuration_come_back(config: Configuration, seed: int, quality: int) -> None:
    layout = compile_layout(config, encode_configuration(config)[0])
    rng = np.random.default_rng(seed)
    count = 3
    stat = rng.integers(0, 65536, (count, layout.n_pmu)).astype(np.uint16)
    digital = rng.integers(0, 65536, (count, layout.digital_pmu.size)).astype(np.uint16)
    freq_hz = layout.nominal_hz + rng.uniform(-5, 5, stat.shape)
    freq_hz[rng.random(stat.shape) < 0.2] = np.nan
    sent = encode_data(layout, instants(count), freq_hz, digital=digital, stat=stat, time_quality=quality)
    result = decode(Book.of([layout.config]), sent)
    assert result.rejections == ()
    (batch,) = result.batches
    assert (batch.stat == stat).all()
    assert (batch.digital == digital).all()
    assert (batch.time_quality == quality).all()
    assert np.allclose(batch.freq_hz, freq_hz, rtol=0, atol=0.00051, equal_nan=True)
    assert np.abs(batch.t_ns - instants(count)).max() <= 500_000_000 // config.time_base + 1
