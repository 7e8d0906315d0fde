"""`streamproc dlq ls|show`: the records that could not be evaluated, with reason and origin.

`ls` prints one line each and a count per reason; `show PLACE` prints one of them whole. Nothing is changed by
looking.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.errors import ShellError

if TYPE_CHECKING:
    from streamproc.shell.dead_letters import DeadLetter

Config = Annotated[Path | None, typer.Option("-c", "--config", help="Site file; without it, the defaults.")]
Bootstrap = Annotated[str | None, typer.Option(help="Broker address instead of the one in the site file.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON: an array for `ls`, an object for `show`.")]
VALUE_SHOWN_MAX = 4096  # bytes of a value that is printed for a person


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="List and show the records that could not be evaluated.", no_args_is_help=True)
    group.command("ls", help="List the newest dead letters, with a count per reason.")(ls)
    group.command("show", help="Show one dead letter whole: PLACE as printed by `ls`.")(show)
    app.add_typer(group, name="dlq")


def ls(
    config: Config = None,
    bootstrap: Bootstrap = None,
    topic: Annotated[str | None, typer.Option(help="Of this input topic only.")] = None,
    last: Annotated[
        int, typer.Option(help="At most this many of each partition.", min=1, max=1_000_000)
    ] = 1000,
    as_json: AsJson = False,
) -> None:
    """Print the newest dead letters, oldest first."""
    letters = _read(config, bootstrap, topic, last)
    if as_json:
        print(json.dumps([_object(letter, whole=False) for letter in letters]))
        return
    for x in letters:
        print(f"{x.time}  {x.reason:<22} {x.topic}/{x.partition}/{x.offset}  {x.detail}  [{x.place}]")
    for (name, reason), count in sorted(Counter((x.topic, x.reason) for x in letters).items()):
        print(f"{count:>8}  {reason:<22} {name}")
    if not letters:
        print("no dead letters")


def show(
    place: Annotated[
        str, typer.Argument(help="TOPIC/PARTITION/OFFSET of the dead letter, as printed by `ls`.")
    ],
    config: Config = None,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Print one dead letter with its bytes."""
    found = [x for x in _read(config, bootstrap, None, 1_000_000) if x.place == place]
    if not found:
        raise ShellError(f"there is no dead letter {place}: `streamproc dlq ls` prints the places")
    letter = found[0]
    if as_json:
        print(json.dumps(_object(letter, whole=True)))
        return
    print(f"reason   {letter.reason}")
    print(f"detail   {letter.detail}")
    print(f"origin   {letter.topic}/{letter.partition}/{letter.offset}")
    print(f"time     {letter.time}")
    print(f"key      {_text(letter.key or b'')}")
    print(f"value    {len(letter.value)} bytes")
    print(_text(letter.value[:VALUE_SHOWN_MAX]))
    if len(letter.value) > VALUE_SHOWN_MAX:
        print(f"... {len(letter.value) - VALUE_SHOWN_MAX} more bytes; all of them with --json")


def _read(config: Path | None, bootstrap: str | None, topic: str | None, last: int) -> list[DeadLetter]:
    from streamproc.cli.topics import site
    from streamproc.shell.dead_letters import read_dead_letters

    return asyncio.run(read_dead_letters(site(config, bootstrap), last_count=last, topic=topic))


def _object(letter: DeadLetter, *, whole: bool) -> dict[str, object]:
    row: dict[str, object] = {
        name: getattr(letter, name)
        for name in ("place", "reason", "detail", "topic", "partition", "offset", "time")
    }
    row["key"] = _text(letter.key or b"")
    row["size"] = len(letter.value)
    if whole:
        row["value_hex"] = letter.value.hex()
    return row


def _text(raw: bytes) -> str:
    """Return the bytes as text if that is printable, else as hexadecimal digits."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.hex(" ")
    return text if all(c.isprintable() or c in "\n\t" for c in text) else raw.hex(" ")
