"""The configuration that lies beside a capture of the Grid Protection Alliance's tools.

A `.PmuCapture` often holds data frames only. Its configuration stands in `<stem>.config.xml` (a .NET SOAP serialisation of
a ConfigurationFrame2), or as the hexadecimal image of a configuration frame in `sampleframes.txt`, the tool's own log. Or
the user names a file: raw frames, or one of these two. A file that lies there by chance must not be believed: of the
siblings the first is taken that makes data frames of the size seen.

The XML is foreign input: a document with a DTD is refused, so no entity is ever expanded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from xml.etree import ElementTree as Xml  # a document with a DTD is refused before it is parsed

from streamproc.core.c37118 import (
    CFG1,
    CFG2,
    CFG3,
    Book,
    Configuration,
    PmuInfo,
    Rejection,
    encode_configuration,
    parse_configuration,
    split,
)
from streamproc.errors import RecordingError

_XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
_FORMAT_FLAGS = {"Coordinates": 1, "Phasors": 2, "Analog": 4, "Frequency": 8}
_SIZE_MAX = 16 << 20  # bytes
_IMAGE = re.compile(rb">> Hexadecimal Image:\s*((?:[0-9A-Fa-f]{2}\s+)+)")
Note = Callable[[str], None]


def read_configurations(path: Path) -> list[bytes]:
    """Return the configuration frames of a file: raw frames, a `.config.xml`, or a log with hexadecimal images."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or error}") from error
    if len(content) > _SIZE_MAX:
        raise RecordingError(f"{path}: {len(content)} bytes are no configuration")
    if content.lstrip()[:1] == b"<":
        return encode_configuration(soap_configuration(content, str(path)))
    if b"Hexadecimal Image:" in content:
        images = [
            bytes.fromhex("".join(m.group(1).decode("ascii").split())) for m in _IMAGE.finditer(content)
        ]
        frames = [image for image in images if image[:1] == b"\xaa"]
    else:
        frames = [content]
    found = [frame for image in frames for frame in _configurations(image)]
    if not found:
        raise RecordingError(f"{path}: no configuration frame (CFG-2 or CFG-3 with a good CRC) is in it")
    return found


def sibling_book(path: Path, size: int | None, note: Note = lambda _: None) -> Book:
    """Return what the files beside a capture say about data frames of `size` bytes; an empty book if nothing fits.

    `note` hears in one sentence which file was taken, and which was not and why.
    """
    stem = path.name.split(".")[0]
    names = (f"{stem}.config.xml", f"{stem}.cfg", "sampleframes.txt")
    for sibling in (path.parent / name for name in names):
        if not sibling.is_file():
            continue
        try:
            book = book_of(read_configurations(sibling))
        except RecordingError as error:
            note(f"{error}; not used")
            continue
        sizes = sorted({layout.frame_size for layout in book.layouts.values()})
        if size is None or size in sizes:
            note(f"the capture has no configuration of its own: {sibling.name} is used")
            return book
        note(f"{sibling.name} makes data frames of {sizes} bytes, the capture has {size}: not used")
    return Book()


def book_of(frames: Iterable[bytes]) -> Book:
    """Return the book that has learnt these configuration frames."""
    book = Book()
    for frame in frames:
        book, refusal = book.learn(frame)
        if refusal is not None:
            raise RecordingError(f"the configuration is refused: {refusal.detail}")
    return book


def _configurations(content: bytes) -> list[bytes]:
    found = [content[start : start + size] for start, size in split(content).frames.tolist()]
    return [frame for frame in found if frame[1] >> 4 & 7 in {CFG1, CFG2, CFG3}]


def soap_configuration(content: bytes, name: str) -> Configuration:
    """Return the ConfigurationFrame2 of a .NET SOAP document; raises RecordingError, naming the file and what is wrong."""
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content:  # NUL: UTF-16 would hide them
        raise RecordingError(f"{name}: an XML document with a DTD is refused")
    try:
        root = Xml.fromstring(content)  # noqa: S314 - see above
    except Xml.ParseError as error:
        raise RecordingError(f"{name}: this is not XML: {error}") from error
    parts = {node.get("id", ""): node for node in root.iter() if node.get("id")}
    top = next((node for node in parts.values() if _tag(node) == "ConfigurationFrame2"), None)
    if top is None:
        raise RecordingError(f"{name}: no ConfigurationFrame2 is in it")
    try:
        pmus = tuple(_pmu(cell, parts) for cell in _members(top, "cells", parts))
        config = Configuration(
            kind=CFG2,
            idcode=_integer(top, "idCode"),
            time_base=_integer(top, "timebase"),
            data_rate=_integer(top, "frameRate"),
            pmus=pmus,
        )
        frame = encode_configuration(config)[0]
    except (KeyError, ValueError, AttributeError, OverflowError, IndexError) as error:
        raise RecordingError(f"{name}: the configuration is incomplete: {error!r}") from error
    checked = parse_configuration(frame)
    if isinstance(checked, Rejection):
        raise RecordingError(f"{name}: {checked.detail}")
    return config


def _tag(node: Xml.Element) -> str:
    return node.tag.rpartition("}")[2]


def _child(node: Xml.Element, name: str) -> Xml.Element:
    for child in node:
        if _tag(child) == name:
            return child
    raise KeyError(name)


def _text(node: Xml.Element, name: str) -> str:
    child = _child(node, name)
    return "" if child.get(f"{_XSI}null") == "1" else child.text or ""


def _integer(node: Xml.Element, name: str) -> int:
    return int(_text(node, name))


def _members(node: Xml.Element, name: str, parts: dict[str, Xml.Element]) -> list[Xml.Element]:
    """Return the members of a collection that a child refers to: `<cells href="#ref-3"/>`, there `item0`, `item1`, ..."""
    collection = _target(_child(node, name), parts)
    return [
        _target(_child(collection, f"item{i}"), parts)
        for i in range(min(_integer(collection, "count"), 65535))
    ]


def _target(node: Xml.Element, parts: dict[str, Xml.Element]) -> Xml.Element:
    return parts[node.get("href", "").removeprefix("#")]


def _pmu(cell: Xml.Element, parts: dict[str, Xml.Element]) -> PmuInfo:
    phasors = _members(cell, "phasorDefinitions", parts)
    analogs = _members(cell, "analogDefinitions", parts)
    digitals = _members(cell, "digitalDefinitions", parts)
    flags = [flag.strip() for flag in _text(cell, "formatFlags").split(",")]
    return PmuInfo(
        stn=_text(cell, "stationName").strip(),
        idcode=_integer(cell, "id"),
        format=sum(_FORMAT_FLAGS.get(flag, 0) for flag in flags),
        phasor_names=tuple(_text(p, "label").strip() for p in phasors),
        phasor_is_current=tuple(_text(p, "type") == "Current" for p in phasors),
        phasor_factor=tuple(_integer(p, "scale") * 1e-5 for p in phasors),
        analog_names=tuple(_text(a, "label").strip() for a in analogs),
        digital_names=tuple(label for d in digitals for label in _labels(d)),
        nominal_hz=50.0 if _text(cell, "nominalFrequency") == "Hz50" else 60.0,
        cfgcnt=_integer(cell, "revisionCount"),
        analog_factor=tuple(float(_text(a, "scale")) for a in analogs),
        analog_type=(0,) * len(analogs),
        analog_offset=(0.0,) * len(analogs),
        digital_normal=tuple(_integer(d, "normalStatus") for d in digitals),
        digital_valid=tuple(_integer(d, "validInputs") for d in digitals),
    )


def _labels(digital: Xml.Element) -> list[str]:
    """Return 16 labels: they stand in one text, 16 characters each, the last one not padded."""
    text = _text(digital, "digitalLabels").ljust(256)
    return [text[i : i + 16].strip() for i in range(0, 256, 16)]
