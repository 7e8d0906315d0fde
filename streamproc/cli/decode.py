"""`streamproc decode`: the C37.118 frames of a capture, one a line, for a person or as JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streamproc.core.c37118 import Book
    from streamproc.core.capture import CapturedFrame


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "decode", help="Print the C37.118 frames of a capture: pcap, pcapng, .PmuCapture, raw frames."
    )(decode)


def decode(
    file: Annotated[Path, typer.Argument(help="The capture.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per frame, with everything in it.")
    ] = False,
    config_file: Annotated[
        Path | None,
        typer.Option(help="Configuration frames for data without: raw, .config.xml or a log with images."),
    ] = None,
) -> None:
    """Print every frame and every refused piece, in the order of the capture."""
    import orjson

    from streamproc.core.capture import read_capture
    from streamproc.core.listing import list_frames

    captured = list(read_capture(_content(file)))
    base = _base_book(file, config_file, captured)
    count, refusal = 0, "no C37.118 frame is in it"
    for plain in list_frames(captured, base):
        if as_json:
            sys.stdout.buffer.write(orjson.dumps(plain, option=orjson.OPT_APPEND_NEWLINE))
        else:
            sys.stdout.write(_line(plain) + "\n")
        if plain["type"] == "rejected":
            refusal = plain["detail"]
        else:
            count += 1
    sys.stdout.flush()
    if not count:
        sys.stderr.write(f"streamproc: {file}: {refusal}\n")
        raise typer.Exit(1)


def _content(file: Path) -> bytes:
    from streamproc.errors import RecordingError

    try:
        return file.read_bytes()
    except OSError as error:
        raise RecordingError(f"{file}: {error.strerror or error}") from error


def _base_book(file: Path, config_file: Path | None, captured: list[CapturedFrame]) -> Book:
    from streamproc.core.c37118 import CFG2, CFG3, DATA, Book
    from streamproc.shell.gsf_capture import book_of, read_configurations, sibling_book

    if config_file is not None:
        return book_of(read_configurations(config_file))
    good = [c.frame for c in captured if c.rejection is None]
    data = next((frame for frame in good if frame[1] >> 4 & 7 == DATA), None)
    if data is None or any(frame[1] >> 4 & 7 in {CFG2, CFG3} for frame in good):
        return Book()
    return sibling_book(file, len(data), lambda text: print(f"streamproc: {text}", file=sys.stderr))


def _line(plain: dict[str, Any]) -> str:
    at = plain.get("ts") or plain.get("capture_ts") or "-"
    if plain["type"] == "rejected":
        return _printable(f"{at}  rejected  {plain['reason']}: {plain['detail']}  [{plain['stream']}]")
    words = f"{at}  {plain['type']:<8} IDCODE {plain['idcode']} {plain['size']} bytes  "
    match plain["type"]:
        case "data":
            words += "; ".join(map(_pmu_words, plain["pmus"]))
        case "command":
            words += f"{plain['command']} {plain['command_text']}"
        case "header":
            words += plain["text"]
        case _ if "pmus" in plain:
            words += f"{plain['rate_hz']:g} frames/s: " + ", ".join(
                f"{p['stn']} ({p['idcode']}) {len(p['phasors'])} phasors" for p in plain["pmus"]
            )
        case _:
            words += f"fragment {plain.get('cont_idx')}"
    return _printable(words)


def _pmu_words(pmu: dict[str, Any]) -> str:
    freq_hz, rocof_hz_s = pmu["freq_hz"], pmu["rocof_hz_s"]
    words = [
        pmu["stn"],
        "- Hz" if freq_hz is None else f"{freq_hz:.4f} Hz",
        "- Hz/s" if rocof_hz_s is None else f"{rocof_hz_s:+.3f} Hz/s",
    ]
    for phasor in pmu["phasors"]:
        unit = "A" if phasor["type"] == "current" else "V"
        if phasor["magnitude"] is None or phasor["angle_deg"] is None:
            words.append(f"{phasor['name']} -")
        else:
            words.append(f"{phasor['name']} {phasor['magnitude']:.5g} {unit} {phasor['angle_deg']:.2f}°")
    if pmu["stat"]:
        words.append(f"STAT 0x{pmu['stat']:04x}")
    return " ".join(words)


def _printable(text: str) -> str:
    # Names come from the wire: no control code of theirs may reach a terminal.
    return "".join(c if c.isprintable() else "?" for c in text)
