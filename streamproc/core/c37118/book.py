"""Which configuration is in force for which stream.

A `Book` is a value: learning a frame gives a new one. The key is the stream's IDCODE. A CFG-2 or CFG-3
replaces the one before it. The same content again (only its time differs) changes nothing: the layout stays
the very same object.

A configuration that makes another shape of data (FORMAT, channel counts, PMUs) while every CFGCNT stays the
same contradicts the one in force: it is refused (`config_conflict`) and remembered. It comes into force when
a data frame arrives that fits it and not the old one: then the source has really changed, it only did not
count it.

A CFG-1 tells what a PMU could send; it is checked and never decodes data. A CFG-3 may come in fragments
(CONT_IDX 1, 2, ... 65535), each with its own good CRC; they are held until the last one, within limits.

One real source sends its configuration under IDCODE 0 and its data under IDCODE 1. IDCODE 0 is reserved, so
with `pair_single` a configuration of IDCODE 0 that is the only one known serves every IDCODE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from streamproc.core.c37118.configuration import FORMAT_BITS, Configuration, PmuInfo, parse_configuration
from streamproc.core.c37118.data import Layout, compile_layout, frame_size
from streamproc.core.c37118.frame import (
    CFG1,
    CFG3,
    FRAME_SIZE_MAX,
    FRAME_SIZE_MIN,
    HEADER_SIZE,
    Reason,
    Rejection,
)

STREAMS_MAX = 4096  # IDCODEs in one book
FRAGMENTS_MAX = 4096  # of one configuration
FRAGMENT_BYTES_MAX = 4 << 20  # of all streams together
LAST_FRAGMENT = 65535


@dataclass(frozen=True, slots=True)
class Book:
    """The configurations in force, and what is pending."""

    layouts: Mapping[int, Layout] = field(default_factory=dict)
    fragments: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict)
    contested: Mapping[int, Layout] = field(
        default_factory=dict
    )  # refused, but the data may prove them right
    pair_single: bool = True

    @classmethod
    def of(cls, frames: Iterable[bytes], *, pair_single: bool = True) -> Book:
        """Return the book that has learnt these frames, for example those of `frames()` of another book."""
        book = cls(pair_single=pair_single)
        for frame in frames:
            book, _ = book.learn(frame)
        return book

    def frames(self) -> tuple[bytes, ...]:
        """Return the frames from which `of` makes this book again."""
        known = [layout.config for layout in (*self.layouts.values(), *self.contested.values())]
        return (*known, *(part for parts in self.fragments.values() for part in parts))

    def lookup(self, idcode: int) -> Layout | None:
        """Return the layout of a stream, or None."""
        found = self.layouts.get(idcode)
        if found is None and self.pair_single and len(self.layouts) == 1:
            return self.layouts.get(0)
        return found

    def learn(self, frame: bytes, start: int = 0) -> tuple[Book, Rejection | None]:
        """Return the book that knows this configuration, or why it is refused. The CRC is checked by the
        caller.

        `frame` may also be all fragments of one configuration back to back, as in `Layout.config`.
        """
        book, refusal = self, None
        for part in _parts(frame):
            mark = _mark(part)
            book, refusal = (
                book._learn_whole(part, start) if mark == 0 else book._learn_part(part, mark, start)
            )
            if refusal is not None:
                break
        return book, refusal

    def adopt(self, idcode: int) -> Book:
        """Return the book in which the contested configuration of a stream is in force."""
        contested = dict(self.contested)
        return replace(self, layouts={**self.layouts, idcode: contested.pop(idcode)}, contested=contested)

    def _learn_whole(
        self, frame: bytes, start: int, body: bytes | None = None
    ) -> tuple[Book, Rejection | None]:
        """Learn a configuration; `body` is given when `frame` is its fragments back to back."""
        config = parse_configuration(frame, start, body=body)
        if isinstance(config, Rejection):
            return self, config
        known = self.layouts.get(config.idcode)
        refusal = self._refusal(
            config, known, Rejection(Reason.BAD_CONFIG, "", start, len(frame), config.idcode)
        )
        if refusal is not None and refusal.reason != Reason.CONFIG_CONFLICT:
            return self, refusal
        if config.kind == CFG1:
            return self, None
        if refusal is not None:
            layout = compile_layout(config, frame)
            return replace(self, contested={**self.contested, config.idcode: layout}), refusal
        contested = {k: v for k, v in self.contested.items() if k != config.idcode}
        if known is not None and _same(known, config):
            return (replace(self, contested=contested) if self.contested else self), None
        layouts = {**self.layouts, config.idcode: compile_layout(config, frame)}
        return replace(self, layouts=dict(sorted(layouts.items())), contested=contested), None

    def _refusal(self, config: Configuration, known: Layout | None, blank: Rejection) -> Rejection | None:
        size = frame_size(config.pmus)
        if size > FRAME_SIZE_MAX:
            return replace(blank, detail=f"its data frames would have {size} bytes: FRAMESIZE has 16 bits")
        if config.kind == CFG1:
            return None
        if known is None:
            full = len(self.layouts) >= STREAMS_MAX
            return replace(blank, detail=f"more than {STREAMS_MAX} streams") if full else None
        counts = [pmu.cfgcnt for pmu in config.pmus]
        if counts == [pmu.cfgcnt for pmu in known.pmus] and _shape(config.pmus) != _shape(known.pmus):
            detail = (
                f"CFGCNT {counts[:8]} as before, but other channels or formats: "
                f"data frames of {size} bytes, {known.frame_size} before"
            )
            return replace(blank, reason=Reason.CONFIG_CONFLICT, detail=detail)
        return None

    def _learn_part(self, frame: bytes, mark: int, start: int) -> tuple[Book, Rejection | None]:
        """Hold a fragment, or learn the configuration that the last one completes."""
        idcode = int.from_bytes(frame[4:6], "big")
        others = {k: v for k, v in self.fragments.items() if k != idcode}
        before = self.fragments.get(idcode, ())
        if before and before[-1] == frame:
            return self, None  # sent twice
        parts = (frame,) if mark == 1 else (*before, frame)

        def refuse(detail: str) -> tuple[Book, Rejection]:
            refusal = Rejection(Reason.BAD_FRAGMENT, f"CONT_IDX: {detail}", start, len(frame), idcode)
            return replace(self, fragments=others), refusal

        if mark == LAST_FRAGMENT:
            if len(parts) == 1:
                return refuse("the last fragment came without the ones before it")
            body = b"".join(part[HEADER_SIZE + 2 : -2] for part in parts)
            return replace(self, fragments=others)._learn_whole(b"".join(parts), start, body)
        if mark != len(parts):
            return refuse(f"fragment {mark} came as number {len(parts)}")
        held = sum(map(len, parts))
        if len(parts) > FRAGMENTS_MAX or held > FRAGMENT_BYTES_MAX:
            return refuse(f"more than {FRAGMENTS_MAX} fragments")
        # Streams that never finish must not keep others from finishing.
        room = held + sum(len(part) for pending in others.values() for part in pending) <= FRAGMENT_BYTES_MAX
        return replace(self, fragments={**(others if room else {}), idcode: parts}), None


def _parts(frames: bytes) -> list[bytes]:
    """Return the frames back to back, one by one; the last one as it is when its size does not fit."""
    parts, at = [], 0
    while at < len(frames):
        size = int.from_bytes(frames[at + 2 : at + 4], "big")
        end = at + size if size >= FRAME_SIZE_MIN else len(frames)
        parts.append(frames[at:end])
        at = end
    return parts


def _mark(frame: bytes) -> int:
    """Return CONT_IDX of a CFG-3, 0 for a frame of another kind."""
    is_cfg3 = len(frame) >= HEADER_SIZE + 4 and frame[1] >> 4 & 7 == CFG3
    return int.from_bytes(frame[HEADER_SIZE : HEADER_SIZE + 2], "big") if is_cfg3 else 0


def _same(layout: Layout, config: Configuration) -> bool:
    return (layout.kind, layout.time_base, layout.data_rate, layout.pmus) == (
        (config.kind, config.time_base, config.data_rate, config.pmus)
    )


def _shape(pmus: tuple[PmuInfo, ...]) -> list[tuple[int, int, int, int, int]]:
    return [
        (p.idcode, p.format & FORMAT_BITS, len(p.phasor_names), len(p.analog_names), len(p.digital_names))
        for p in pmus
    ]
