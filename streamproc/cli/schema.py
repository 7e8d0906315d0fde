"""`streamproc schema`: the published contract.

`check` is for an application that keeps a copy of the schemas: it tells whether this version still says the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Directory = Annotated[Path, typer.Argument(help="Where the files are.")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(help="The schemas of every message.", no_args_is_help=True)
    app.add_typer(group, name="schema")
    for name, command in (("ls", ls), ("show", show), ("asyncapi", asyncapi), ("write", write)):
        group.command(name)(command)
    group.command("check")(check)


def ls() -> None:
    """List the messages."""
    from streamproc.core.messages import MESSAGES

    for name in MESSAGES:
        print(name)


def show(
    name: Annotated[str, typer.Argument(help="A message, or asyncapi.")],
    example: Annotated[bool, typer.Option(help="Print the example instead.")] = False,
) -> None:
    """Print the JSON Schema of a message."""
    from streamproc.errors import StreamprocError
    from streamproc.shell.schema_files import files

    path = {"asyncapi": "asyncapi.json"}.get(
        name, f"examples/{name}.v1.json" if example else f"{name}.v1.schema.json"
    )
    known = files()
    if path not in known:
        raise StreamprocError(f"no message {name!r}; `streamproc schema ls` lists them")
    print(known[path], end="")


def asyncapi() -> None:
    """Print the AsyncAPI 3 document: every topic, its key, policy and message."""
    show("asyncapi")


def write(directory: Directory) -> None:
    """Write all schema files."""
    from streamproc.shell.schema_files import files

    for path, text in files().items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text, encoding="utf-8")
        print(directory / path)


def check(directory: Directory) -> None:
    """Compare schema files with this version of the service."""
    from streamproc.errors import StreamprocError
    from streamproc.shell.schema_files import files

    wanted = files()
    paths = {path: directory / path for path in wanted}
    found = {path: file.read_text(encoding="utf-8") for path, file in paths.items() if file.is_file()}
    differing = sorted(path for path, text in wanted.items() if found.get(path) != text)
    if differing:
        raise StreamprocError(
            f"{directory}: missing or different: {', '.join(differing)}; "
            f"`streamproc schema write {directory}` makes them"
        )
    print(f"{directory}: {len(wanted)} files, all as this version makes them")
