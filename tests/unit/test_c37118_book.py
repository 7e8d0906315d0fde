"""Protects the life of a configuration: what is believed, when it changes, and what data are read with."""

from __future__ import annotations

import random
import struct
from dataclasses import replace

import numpy as np
import pytest
from c37118_cases import configuration, frames, pmu, stream

from streamproc.core.c37118 import (
    CFG1,
    CFG2,
    CFG3,
    Book,
    Configuration,
    Reason,
    Rejection,
    decode,
    encode_configuration,
    encode_header,
    parse_configuration,
)
from streamproc.core.c37118.frame import with_crc
from tests.command_frame import encode_command

RICH = pmu(15, n_phasor=3, n_analog=2, n_word=2)


def fixed(frame: bytes) -> bytes:
    """The frame with FRAMESIZE and CHK made right again."""
    body = frame[:2] + len(frame).to_bytes(2, "big") + frame[4:-2]
    return with_crc(body)


def refusal(frame: bytes) -> Reason:
    found = parse_configuration(frame)
    assert isinstance(found, Rejection)
    _, why = Book().learn(frame)
    assert why is not None
    assert why.reason == found.reason
    return found.reason


@pytest.mark.parametrize("kind", [CFG1, CFG2])
def test_cfg1_and_cfg2_come_back_as_sent(kind: int) -> None:
    config = configuration(RICH, pmu(0, stn="B", nominal_hz=60.0), kind=kind, soc=5, fracsec=6, data_rate=-10)
    (frame,) = encode_configuration(config)
    assert parse_configuration(frame) == config
    assert config.rate_hz == 0.1


def test_cfg3_comes_back_as_sent() -> None:
    one = replace(
        RICH,
        stn="Zürich Nord, a name longer than sixteen bytes",
        phasor_names=("Ua ⚡", "", "x" * 255),
        phasor_angle_rad=(0.5, 0.0, -1.25),
        phasor_component=(1, 4, 0),
        phasor_flags=(0x8002, 0, 0xFFFF),
        phasor_user=(7, 0, 255),
        analog_factor=(0.25, -2.0),
        analog_type=(0, 0),
        analog_offset=(10.0, 0.0),
        global_id=bytes(range(16)),
        latitude_deg=46.5,
        longitude_deg=float("inf"),
        elevation_m=-3.0,
        svc_class="P",
        window_us=80_000,
        grp_dly_us=-1,
    )
    config = configuration(one, one, kind=CFG3)
    (frame,) = encode_configuration(config)
    assert parse_configuration(frame) == config


def test_units_are_read_from_the_most_significant_byte() -> None:
    (frame,) = encode_configuration(configuration(pmu(0, n_phasor=2, n_analog=2, phasor_factor=(1.0, 1.0))))
    at = frame.index(struct.pack(">I", 100_000))
    units = struct.pack(">4I", 0x000DF847, 0x01000001, 0x01FFFFFF, 0x41000005)
    found = parse_configuration(with_crc(frame[:at] + units + frame[at + 16 : -2]))
    assert isinstance(found, Configuration)
    (one,) = found.pmus
    assert one.phasor_factor == pytest.approx((9.15527, 1e-5))
    assert one.phasor_is_current == (False, True)
    assert one.analog_factor == (-1.0, 5.0)
    assert one.analog_type == (1, 65)


def test_names_are_cut_at_padding_and_survive_wrong_bytes() -> None:
    (frame,) = encode_configuration(configuration(pmu(stn="NAME")))
    for raw, text in ((b"NAME\0\0\0\0", "NAME"), (b"N\xffME    ", "N\ufffdME"), (b"  N A   ", "  N A")):
        changed = with_crc(frame.replace(b"NAME    ", raw)[:-2])
        found = parse_configuration(changed)
        assert isinstance(found, Configuration)
        assert found.pmus[0].stn == text


@pytest.mark.parametrize("kind", [CFG2, CFG3])
def test_a_configuration_cut_anywhere_is_refused(kind: int) -> None:
    frame, _ = stream(RICH, RICH, kind=kind)
    for cut in range(16, len(frame)):
        assert refusal(fixed(frame[: cut - 2] + b"xx")) in {
            Reason.BAD_CONFIG,
            Reason.BAD_TIME_BASE,
            Reason.BAD_RATE,
        }


@pytest.mark.parametrize("kind", [CFG2, CFG3])
def test_bytes_left_behind_the_rate_are_refused(kind: int) -> None:
    frame, _ = stream(RICH, kind=kind)
    assert refusal(fixed(frame[:-2] + b"\0" + frame[-2:])) == Reason.BAD_CONFIG


@pytest.mark.parametrize(
    ("place", "word", "reason"),
    [
        (15, b"\0\0\0", Reason.BAD_TIME_BASE),
        (18, b"\0\0", Reason.BAD_CONFIG),  # NUM_PMU
        (18, b"\xff\xff", Reason.BAD_CONFIG),
        (40, b"\xff\xff", Reason.BAD_CONFIG),  # PHNMR
        (42, b"\xff\xff", Reason.BAD_CONFIG),  # ANNMR
        (44, b"\xff\xff", Reason.BAD_CONFIG),  # DGNMR
        (-4, b"\0\0", Reason.BAD_RATE),
    ],
)
def test_impossible_numbers_are_refused_by_name(place: int, word: bytes, reason: Reason) -> None:
    frame, _ = stream(RICH)
    changed = bytearray(frame)
    changed[place : place + len(word) or None] = word
    assert len(changed) == len(frame)
    assert refusal(with_crc(bytes(changed[:-2]))) == reason


def test_flags_above_the_time_base_are_ignored() -> None:
    frame, _ = stream(pmu())
    found = parse_configuration(with_crc(frame[:14] + b"\xff" + frame[15:-2]))
    assert isinstance(found, Configuration)
    assert found.time_base == 1_000_000


def test_a_configuration_whose_data_do_not_fit_a_frame_is_refused() -> None:
    frame, _ = stream(*[pmu(15, n_phasor=50, stn="")] * 200, kind=CFG3)
    _, why = Book().learn(frame)
    assert why is not None
    assert why.reason == Reason.BAD_CONFIG


def test_the_same_configuration_at_another_time_changes_nothing() -> None:
    book, _ = Book().learn(encode_configuration(configuration(RICH, soc=1))[0])
    again, why = book.learn(encode_configuration(configuration(RICH, soc=2))[0])
    assert why is None
    assert again.lookup(7) is book.lookup(7)


def test_a_change_that_is_counted_comes_into_force_where_it_stands() -> None:
    one, layout_one = stream(pmu())
    two, layout_two = stream(pmu(n_phasor=3, cfgcnt=2))
    result = decode(
        Book(), [one, *frames(layout_one, 3), two, *frames(layout_two, 2), *frames(layout_one, 1)]
    )
    assert [b.t_ns.size for b in result.batches] == [3, 2]
    assert [b.phasor.shape[1] for b in result.batches] == [1, 3]
    assert [(i, r.reason) for i, r in result.rejections] == [(7, Reason.SIZE_MISMATCH)]


def test_a_change_of_names_or_units_alone_is_no_conflict() -> None:
    book, _ = Book().learn(stream(pmu(1))[0])
    book, why = book.learn(stream(pmu(1, phasor_factor=(2.0,), stn="NEW"))[0])
    assert why is None
    layout = book.lookup(7)
    assert layout is not None
    assert (layout.pmus[0].stn, layout.pmus[0].phasor_factor) == ("NEW", (2.0,))


def test_a_configuration_that_contradicts_the_one_in_force_is_refused() -> None:
    one, layout_one = stream(pmu())
    two, _ = stream(pmu(n_phasor=3))
    result = decode(Book(), [one, two, *frames(layout_one, 3)])
    assert [(i, r.reason) for i, r in result.rejections] == [(1, Reason.CONFIG_CONFLICT)]
    assert result.batches[0].t_ns.size == 3


@pytest.mark.parametrize("together", [True, False])
def test_data_that_fit_only_the_refused_configuration_prove_it_right(together: bool) -> None:
    one, layout_one = stream(pmu())
    two, layout_two = stream(pmu(n_phasor=3))
    records = [
        one,
        *frames(layout_one, 2),
        two,
        *frames(layout_one, 1),
        *frames(layout_two, 4),
        *frames(layout_one, 1),
    ]
    book, sizes, refused = Book(), [], []
    for part in [records] if together else [[record] for record in records]:
        result = decode(book, part)
        book = result.book
        sizes += [(b.phasor.shape[1], b.t_ns.size) for b in result.batches]
        refused += [r.reason for _, r in result.rejections]
    assert refused == [Reason.CONFIG_CONFLICT, Reason.SIZE_MISMATCH]
    assert sum(n for columns, n in sizes if columns == 1) == 3
    assert sum(n for columns, n in sizes if columns == 3) == 4


def test_data_before_their_configuration_are_refused_and_nothing_is_kept() -> None:
    one, layout = stream(pmu())
    result = decode(Book(), [*frames(layout, 2), one, *frames(layout, 1)])
    assert [(i, r.reason, r.idcode) for i, r in result.rejections] == [
        (0, Reason.UNKNOWN_CONFIGURATION, 7),
        (1, Reason.UNKNOWN_CONFIGURATION, 7),
    ]
    assert result.batches[0].record.tolist() == [3]


def test_streams_do_not_touch_one_another() -> None:
    one, layout_one = stream(pmu(), idcode=1)
    two, layout_two = stream(pmu(n_phasor=2), idcode=2)
    mixed = [f for pair in zip(frames(layout_one, 20), frames(layout_two, 20), strict=True) for f in pair]
    result = decode(Book(), [one, two, *mixed])
    assert [(b.layout.idcode, b.t_ns.size) for b in result.batches] == [(1, 20), (2, 20)]
    assert result.batches[1].order.tolist() == [3 + 2 * i for i in range(20)]
    assert result.rejections == ()


def test_streams_that_are_built_alike_are_read_together_each_with_its_own_factors() -> None:
    made = [stream(pmu(1, phasor_factor=(0.01 + i / 1000,)), idcode=i) for i in range(1, 41)]
    mixed = [f for turn in zip(*(frames(layout, 5) for _, layout in made), strict=True) for f in turn]
    together = decode(Book(), [*(config for config, _ in made), *mixed])
    (batch,) = together.batches
    parts = {part.layout.idcode: part for part in batch.parts()}
    assert len(parts) == 40
    for config, layout in made:
        (alone,) = decode(Book(), [config, *(f for f in mixed if f[4:6] == config[4:6])]).batches
        part = parts[layout.idcode]
        assert part.phasor.tobytes() == alone.phasor.tobytes()
        assert (part.t_ns.tobytes(), part.freq_hz.tobytes()) == (
            alone.t_ns.tobytes(),
            alone.freq_hz.tobytes(),
        )
        assert part.record.tolist() == [i + 40 for i, f in enumerate(mixed) if f[4:6] == config[4:6]]
    assert len({abs(part.phasor[0, 0]) for part in parts.values()}) > 1


def test_a_single_configuration_of_idcode_0_serves_every_idcode_only_when_paired() -> None:
    config, _ = stream(pmu(), idcode=0)
    _, layout = stream(pmu(), idcode=1)
    sent = [config, *frames(layout, 2)]
    assert decode(Book(), sent).batches[0].t_ns.size == 2
    assert len(decode(Book(pair_single=False), sent).rejections) == 2
    other, _ = stream(pmu(), idcode=3)
    assert len(decode(Book(), [other, *sent]).rejections) == 2


def fragments(size: int = 120, **more: object) -> list[bytes]:
    config = configuration(RICH, pmu(cfgcnt=2, **more), kind=CFG3)  # type: ignore[arg-type]
    parts = encode_configuration(config, fragment_size=size)
    assert len(parts) > 3
    return parts


def test_fragments_make_the_configuration_that_one_frame_makes() -> None:
    whole, _ = stream(RICH, pmu(cfgcnt=2), kind=CFG3)
    for size in (20, 33, 120):
        book = Book()
        for part in fragments(size) if size > 20 else fragments(33):
            assert book.lookup(7) is None
            book, why = book.learn(part)
            assert why is None
        layout = book.lookup(7)
        assert layout is not None
        expected = parse_configuration(whole)
        assert isinstance(expected, Configuration)
        assert layout.pmus == expected.pmus
        assert not book.fragments


def test_fragments_of_two_streams_may_be_mixed() -> None:
    one = fragments()
    two = encode_configuration(configuration(RICH, kind=CFG3, idcode=8), fragment_size=150)
    book = Book()
    order = random.Random(0).sample([0] * len(one) + [1] * len(two), len(one) + len(two))
    left = [list(one), list(two)]
    for which in order:
        book, why = book.learn(left[which].pop(0))
        assert why is None
    assert sorted(book.layouts) == [7, 8]


def test_a_fragment_missing_twice_or_out_of_order_never_makes_a_configuration() -> None:
    parts = fragments()
    for bad in (parts[1:], parts[:1] + parts[2:], parts[:-1][::-1] + parts[-1:], parts[-1:]):
        book, whys = Book(), []
        for part in bad:
            book, why = book.learn(part)
            whys.append(why)
        assert book.lookup(7) is None
        assert Reason.BAD_FRAGMENT in {why.reason for why in whys if why is not None}


def test_a_fragment_sent_twice_is_taken_once_and_a_new_start_drops_the_old_one() -> None:
    parts = fragments()
    book = Book()
    for part in [parts[0], parts[1], *[p for p in parts for _ in range(2)][:-1]]:
        book, why = book.learn(part)
        assert why is None
    assert book.lookup(7) is not None


def test_a_fragment_with_a_bad_crc_is_not_taken() -> None:
    parts = fragments()
    damaged = bytearray(parts[1])
    damaged[40] ^= 4
    result = decode(Book(), [parts[0], bytes(damaged), *parts[2:]])
    assert [r.reason for _, r in result.rejections][:2] == [Reason.BAD_CRC, Reason.BAD_FRAGMENT]
    assert not result.batches
    assert result.book.lookup(7) is None


def test_fragments_that_never_end_are_bounded() -> None:
    book = Book()
    for idcode in range(300):
        part = encode_configuration(
            configuration(*[pmu(stn="x" * 200, idcode=idcode)] * 300, kind=CFG3, idcode=idcode),
            fragment_size=60_000,
        )[0]
        book, _ = book.learn(part)
    assert sum(len(p) for parts in book.fragments.values() for p in parts) <= 4 << 20


def test_a_book_can_be_packed_into_frames_and_read_again() -> None:
    book = Book()
    contested, _ = stream(pmu(n_phasor=3), idcode=1)
    for frame in (stream(pmu(), idcode=1)[0], stream(RICH, idcode=2)[0], contested, *fragments()[:2]):
        book, _ = book.learn(frame)
    for part in encode_configuration(configuration(RICH, RICH, kind=CFG3, idcode=5), fragment_size=200):
        book, _ = book.learn(part)
    again = Book.of(book.frames())
    assert again.frames() == book.frames()
    assert {k: v.pmus for k, v in again.layouts.items()} == {k: v.pmus for k, v in book.layouts.items()}
    assert sorted(again.contested) == [1]
    assert again.fragments == book.fragments


def test_headers_and_commands_are_handed_on() -> None:
    sent = [encode_header(3, "Bahnhof Süd"), encode_command(3, 2), encode_command(3, 8, b"abcd")]
    result = decode(Book(), sent)
    assert [(o.record, o.kind, o.idcode, o.frame) for o in result.others] == [
        (0, 1, 3, sent[0]),
        (1, 4, 3, sent[1]),
        (2, 4, 3, sent[2]),
    ]


def test_a_command_without_a_command_is_refused() -> None:
    result = decode(Book(), [encode_command(3, 2)[:2] + b"\0\x10" + encode_command(3, 2)[4:14] + b"\0\0"])
    assert [r.reason for _, r in result.rejections] == [Reason.BAD_CRC]
    empty = with_crc(encode_command(3, 2)[:2] + b"\0\x10" + encode_command(3, 2)[4:14])
    result = decode(Book(), [empty])
    assert [r.reason for _, r in result.rejections] == [Reason.BAD_COMMAND]
    assert result.others == ()


def test_bad_records_leave_the_good_ones_beside_them() -> None:
    config, layout = stream(pmu())
    good = frames(layout, 30)
    bad = bytearray(good[4])
    bad[20] ^= 1
    records = [config, *good[:4], bytes(bad), b"", b"no frame at all", good[5] + b"\0\0" + good[6], *good[7:]]
    result = decode(Book(), records)
    assert [(i, str(r.reason)) for i, r in result.rejections] == [
        (5, "bad_crc"),
        (6, "empty"),
        (7, "bad_sync"),
        (8, "garbage"),
    ]
    assert np.concatenate([b.t_ns for b in result.batches]).size == 29
    (batch,) = result.batches
    assert batch.record.tolist() == [1, 2, 3, 4, 8, 8, *range(9, 32)]
    assert batch.order.tolist() == sorted(batch.order.tolist())


def test_nothing_at_all_is_decoded_to_nothing() -> None:
    result = decode(Book(), [])
    assert (result.batches, result.rejections, result.others) == ((), (), ())
