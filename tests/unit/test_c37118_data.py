"""Protects the numbers: what a PMU sent comes out in SI, absent values as NaN, and every bit of STAT and FRACSEC as sent."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from c37118_cases import START_NS, frames, instants, pmu, stream

from streamproc.core.c37118 import (
    CFG1,
    CFG2,
    CFG3,
    Book,
    DataBatch,
    Layout,
    Reason,
    compile_layout,
    decode,
    encode_configuration,
    encode_data,
)
from streamproc.core.c37118.frame import header_bytes, with_crc


def decoded(config: bytes, data: list[bytes]) -> DataBatch:
    result = decode(Book(), [config, *data])
    assert result.rejections == ()
    (batch,) = result.batches
    return batch


def data_frame(layout: Layout, body: bytes, *, fracsec: int = 0, soc: int = 1_700_000_000) -> bytes:
    size = 16 + len(body)
    assert size == layout.frame_size
    return with_crc(header_bytes(0, size, layout.idcode, soc, fracsec) + body)


@pytest.mark.parametrize("form", range(16))
@pytest.mark.parametrize("kind", [CFG2, CFG3])
def test_every_format_comes_back_as_sent(form: int, kind: int) -> None:
    config, layout = stream(
        pmu(form, n_phasor=3, n_analog=2, n_word=2, phasor_angle_rad=(0.1, 0.2, 0.3) if kind == CFG3 else ()),
        pmu(form ^ 5, n_phasor=1),
        pmu(form, n_phasor=3, n_analog=2, n_word=2),
        kind=kind,
    )
    rng = np.random.default_rng(form)
    count = 7
    phasor = rng.uniform(50, 1000, (count, 7)) * np.exp(1j * rng.uniform(-3.1, 3.1, (count, 7)))
    freq_hz, rocof = 50 + rng.uniform(-0.5, 0.5, (count, 3)), rng.uniform(-3, 3, (count, 3))
    analog = rng.integers(-1000, 1000, (count, 4)).astype(np.float64)
    digital = rng.integers(0, 65536, (count, 4)).astype(np.uint16)
    stat = rng.integers(0, 65536, (count, 3)).astype(np.uint16)
    sent = encode_data(
        layout,
        instants(count),
        freq_hz,
        rocof_hz_s=rocof,
        phasor=phasor,
        analog=analog,
        digital=digital,
        stat=stat,
    )
    batch = decoded(config, sent)
    assert (batch.stat == stat).all()
    assert (batch.digital == digital).all()
    assert np.abs(batch.freq_hz - freq_hz).max() <= 0.00051
    assert np.abs(batch.rocof_hz_s - rocof).max() <= 0.0051
    assert np.abs(batch.analog - analog).max() == 0
    assert (
        np.abs(batch.phasor - phasor) <= 2.0 + 1e-4 * np.abs(phasor)
    ).all()  # half a bit of 2.5 V either way
    assert (batch.t_ns == instants(count)).all()


def test_integer_fields_are_read_as_the_standard_says() -> None:
    config, layout = stream(
        pmu(0, n_phasor=1, n_analog=1, phasor_factor=(9.15527,)), pmu(1, phasor_factor=(9.15527,))
    )
    rectangular = struct.pack(">HhhhhH", 0, 1000, -2000, 10, 50, 0xFFFE)
    polar = struct.pack(">HHhhh", 0, 40000, 31416, -32767, -32767)
    batch = decoded(config, [data_frame(layout, rectangular + polar)])
    assert batch.phasor[0, 0] == pytest.approx(9155.27 - 18310.54j)
    assert abs(batch.phasor[0, 1]) == pytest.approx(366210.8)  # 40000 is no negative number
    assert np.degrees(np.angle(batch.phasor[0, 1])) % 360 == pytest.approx(180.0, abs=0.001)
    assert batch.freq_hz[0].tolist() == pytest.approx([50.010, 17.233])
    assert batch.rocof_hz_s[0].tolist() == pytest.approx([0.5, -327.67])
    assert batch.analog[0].tolist() == [-2.0]


def test_a_float_frequency_is_the_frequency_itself() -> None:
    config, layout = stream(pmu(8), pmu(8, nominal_hz=60.0))
    body = struct.pack(">Hhhff", 0, 1, 1, 50.01, 0.5) + struct.pack(">Hhhff", 0, 1, 1, 60.0, -0.25)
    batch = decoded(config, [data_frame(layout, body)])
    assert batch.freq_hz[0].tolist() == pytest.approx([50.01, 60.0], abs=1e-5)
    assert batch.rocof_hz_s[0].tolist() == [0.5, -0.25]


def test_integer_and_float_sources_give_the_same_engineering_value() -> None:
    values = []
    for form in (0, 15):
        config, layout = stream(pmu(form))
        sent = encode_data(layout, instants(1), np.array([[50.02]]), rocof_hz_s=np.array([[0.25]]))
        batch = decoded(config, sent)
        values.append((batch.freq_hz[0, 0], batch.rocof_hz_s[0, 0]))
    assert values[0] == pytest.approx(values[1], abs=1e-5)


@pytest.mark.parametrize("form", range(16))
def test_what_is_absent_is_nan_and_goes_out_as_absent(form: int) -> None:
    config, layout = stream(pmu(form, n_phasor=2, n_analog=1))
    nan = np.full((1, 1), np.nan)
    phasor = np.array([[complex(np.nan, 0.0), 100 + 0j]])
    sent = encode_data(layout, instants(1), nan, rocof_hz_s=nan, phasor=phasor, analog=nan)
    batch = decoded(config, sent)
    assert np.isnan(batch.freq_hz).all()
    assert np.isnan(batch.rocof_hz_s).all()
    assert np.isnan(batch.analog).all()
    assert np.isnan(batch.phasor[0, 0].real)
    assert np.isnan(batch.phasor[0, 0].imag)
    assert abs(batch.phasor[0, 1]) == pytest.approx(100, abs=1)


def test_half_of_an_absence_mark_is_a_value() -> None:
    config, layout = stream(pmu(1), pmu(0))
    body = struct.pack(">HHhhh", 0, 0x8000, 0, 0, 0) + struct.pack(">Hhhhh", 0, -32768, 5, 0, 0)
    batch = decoded(config, [data_frame(layout, body)])
    assert batch.phasor[0].tolist() == [16384.0, complex(-16384.0, 2.5)]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e-40, -0.0, 3.4e38])
def test_any_float_is_handed_on_without_a_complaint(value: float) -> None:
    config, layout = stream(pmu(15, n_phasor=1, n_analog=1), pmu(14, n_analog=1))
    sent = encode_data(
        layout,
        instants(1),
        np.full((1, 2), value),
        rocof_hz_s=np.full((1, 2), value),
        phasor=np.full((1, 2), complex(value, value)),
        analog=np.full((1, 2), value),
    )
    batch = decoded(config, sent)
    assert np.allclose(batch.freq_hz, np.float32(value), equal_nan=True)
    assert np.allclose(batch.analog, np.float32(value), equal_nan=True)


def test_all_stat_words_come_out_bit_by_bit() -> None:
    config, layout = stream(pmu(), pmu())
    words = np.arange(65536, dtype=np.uint16)
    stat = np.stack([words, words[::-1]], axis=1)
    count = words.size
    sent = encode_data(layout, instants(count), np.full((count, 2), 50.0), stat=stat)
    assert (decoded(config, sent).stat == stat).all()


def test_all_time_quality_bytes_come_out_beside_the_fraction() -> None:
    config, layout = stream(pmu())
    quality = np.arange(256, dtype=np.uint8)
    sent = encode_data(layout, instants(256), np.full((256, 1), 50.0), time_quality=quality)
    batch = decoded(config, sent)
    assert (batch.time_quality == quality).all()
    assert (batch.fracsec == np.arange(256) % 50 * 20_000).all()
    assert (batch.soc == 1_700_000_000 + np.arange(256) // 50).all()


@pytest.mark.parametrize("time_base", [1, 30, 1_000_000, 0xFFFFFF])
def test_time_is_the_nearest_nanosecond_of_any_time_base(time_base: int) -> None:
    config, layout = stream(pmu(), time_base=time_base)
    fractions = sorted({0, 1 % time_base, time_base // 3, time_base - 1})
    body = bytes(layout.frame_size - 16)
    batch = decoded(config, [data_frame(layout, body, fracsec=f) for f in fractions])
    expected = [1_700_000_000 * 10**9 + round(f * 10**9 / time_base) for f in fractions]
    assert np.abs(batch.t_ns - expected).max() <= 1


@pytest.mark.parametrize("soc", [0, 2**31 - 1, 2**31, 2**32 - 1])
def test_seconds_are_unsigned(soc: int) -> None:
    config, layout = stream(pmu())
    batch = decoded(config, [data_frame(layout, bytes(layout.frame_size - 16), soc=soc)])
    assert batch.t_ns.tolist() == [soc * 10**9]


def test_a_fraction_that_reaches_the_time_base_is_refused() -> None:
    config, layout = stream(pmu(), time_base=1000)
    body = bytes(layout.frame_size - 16)
    sent = [data_frame(layout, body, fracsec=f) for f in (999, 1000, 0xFFFFFF, 5 | 0x0F << 24)]
    result = decode(Book(), [config, *sent])
    assert [(i, r.reason) for i, r in result.rejections] == [(2, Reason.BAD_FRACSEC), (3, Reason.BAD_FRACSEC)]
    assert result.batches[0].record.tolist() == [1, 4]


def test_rounding_up_a_time_can_end_in_the_next_second() -> None:
    _, layout = stream(pmu(), time_base=1000)
    (sent,) = encode_data(layout, np.array([START_NS + 999_999_999]), np.array([[50.0]]))
    assert int.from_bytes(sent[6:10], "big") == 1_700_000_001
    assert sent[10:14] == bytes(4)


def test_vectors_equal_the_scalar_reading_of_the_standard() -> None:
    config, layout = stream(
        *(pmu(f, n_phasor=2, n_analog=1, n_word=1) for f in (0, 1, 2, 3, 4, 8, 12, 15, 15))
    )
    rng = np.random.default_rng(3)
    sent = [data_frame(layout, rng.bytes(layout.frame_size - 16)) for _ in range(200)]
    batch = decoded(config, sent)
    for row, raw in enumerate(sent):
        expected = scalar_reading(layout, raw)
        for name, values in expected.items():
            found = getattr(batch, name)[row]
            assert np.allclose(found, values, rtol=1e-12, atol=0, equal_nan=True), (row, name)


def scalar_reading(layout: Layout, raw: bytes) -> dict[str, list[float]]:
    """One field after the other, as a person would read the frame."""
    at = 14
    found: dict[str, list[float]] = {
        k: [] for k in ("stat", "phasor", "freq_hz", "rocof_hz_s", "analog", "digital")
    }

    def take(code: str) -> float:
        nonlocal at
        (value,) = struct.unpack_from(">" + code, raw, at)
        at += struct.calcsize(code)
        return value

    def number(is_float: bool, per_bit: float, offset: float = 0.0) -> float:
        value = take("f" if is_float else "h")
        return value if is_float else np.nan if value == -32768 else value * per_bit + offset

    for one in layout.pmus:
        found["stat"].append(take("H"))
        for factor in one.phasor_factor:
            code = ("ff" if one.phasor_float else "Hh") if one.polar else ("ff" if one.phasor_float else "hh")
            first, second = take(code[0]), take(code[1])
            if not one.phasor_float and (int(first) & 0xFFFF, second) == (0x8000, -32768):
                found["phasor"].append(complex(np.nan, np.nan))
                continue
            scale, turn = (1.0, 1.0) if one.phasor_float else (factor, 1e-4)
            with np.errstate(all="ignore"):
                if one.polar:
                    angle = np.float64(second * turn)
                    found["phasor"].append(
                        complex(first * scale * np.cos(angle), first * scale * np.sin(angle))
                    )
                else:
                    found["phasor"].append(complex(first * scale, second * scale))
        found["freq_hz"].append(number(one.freq_float, 1e-3, one.nominal_hz))
        found["rocof_hz_s"].append(number(one.freq_float, 1e-2))
        found["analog"] += [number(one.analog_float, 1.0) for _ in one.analog_names]
        found["digital"] += [take("H") for _ in range(len(one.digital_names) // 16)]
    return found


def test_integer_analogs_of_a_cfg3_are_scaled_and_those_of_a_cfg2_are_as_sent() -> None:
    one = pmu(0, n_analog=1, analog_factor=(0.5,), analog_offset=(100.0,))
    for kind, expected in ((CFG3, 105.0), (CFG2, 10.0)):
        config, layout = stream(one, kind=kind)
        batch = decoded(config, [data_frame(layout, struct.pack(">Hhhhhh", 0, 0, 0, 0, 0, 10))])
        assert batch.analog[0, 0] == expected


def test_the_angle_offset_of_a_cfg3_is_taken_from_integer_phasors_only() -> None:
    for form, expected in ((1, 0.25), (3, 1.0)):
        config, layout = stream(pmu(form, phasor_angle_rad=(0.75,)), kind=CFG3)
        words = struct.pack(">Hh", 100, 10000) if form == 1 else struct.pack(">ff", 100.0, 1.0)
        batch = decoded(config, [data_frame(layout, b"\0\0" + words + bytes(4))])
        assert np.angle(batch.phasor[0, 0]) == pytest.approx(expected, abs=1e-6)


def test_columns_know_their_pmu_whatever_the_order_of_formats() -> None:
    pmus = [pmu(15, n_phasor=2, n_word=1), pmu(0, n_phasor=1, n_analog=2), pmu(15, n_phasor=2, n_word=1)]
    config, layout = stream(*pmus)
    assert layout.phasor_pmu.tolist() == [0, 0, 1, 2, 2]
    assert layout.analog_pmu.tolist() == [1, 1]
    assert layout.digital_pmu.tolist() == [0, 2]
    phasor = np.array([[10, 20, 30, 40, 50]], dtype=np.complex128)
    sent = encode_data(layout, instants(1), np.full((1, 3), 50.0), phasor=phasor)
    assert np.abs(decoded(config, sent).phasor).tolist() == [[10, 20, 30, 40, 50]]


def test_a_phasor_that_cannot_be_sent_is_sent_as_zero() -> None:
    config, layout = stream(pmu(0, phasor_factor=(0.0,)))
    sent = encode_data(layout, instants(1), np.array([[50.0]]), phasor=np.array([[5 + 5j]]))
    assert decoded(config, sent).phasor.tolist() == [[0j]]


def test_unused_format_bits_are_ignored() -> None:
    config = encode_configuration(_with_format(0xFFF0 | 11))[0]
    layout = compile_layout(_with_format(11), config)
    assert decoded(config, frames(layout, 3)).freq_hz.shape == (3, 1)


def _with_format(form: int):
    from c37118_cases import configuration

    return configuration(pmu(form))


def test_a_cfg1_never_decodes_data() -> None:
    config, layout = stream(pmu(), kind=CFG1)
    result = decode(Book(), [config, *frames(layout, 2)])
    assert [r.reason for _, r in result.rejections] == [Reason.UNKNOWN_CONFIGURATION] * 2
    assert result.others[0].kind == CFG1


def test_frames_of_one_call_or_many_give_the_same_arrays() -> None:
    config, layout = stream(pmu(15, n_phasor=3), pmu(0))
    sent = frames(layout, 60)
    whole = decoded(config, sent)
    book, _ = Book().learn(config)
    parts = [decode(book, sent[i : i + 7]).batches[0] for i in range(0, 60, 7)]
    for name in ("t_ns", "stat", "freq_hz", "rocof_hz_s", "phasor", "soc", "fracsec"):
        assert (np.concatenate([getattr(p, name) for p in parts]) == getattr(whole, name)).all()
    merged = decode(book, [b"".join(sent[:10]), b"".join(sent[10:])])
    assert merged.batches[0].record.tolist() == [0] * 10 + [1] * 50
    assert (merged.batches[0].phasor == whole.phasor).all()


def test_nothing_of_a_batch_depends_on_pmu_names() -> None:
    one, layout_one = stream(pmu())
    two, layout_two = stream(replace(pmu(), stn="OTHER"))
    assert (decoded(one, frames(layout_one, 3)).phasor == decoded(two, frames(layout_two, 3)).phasor).all()
