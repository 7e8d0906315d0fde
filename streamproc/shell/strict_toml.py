"""TOML files read strictly: refused with file, line, key, value and rule, or taken whole; nothing in between.

Three passes, each over the whole file: is every key known, has every value its type, does every rule hold. A pass that
finds something ends the reading, because the next one would only repeat it in other words.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from streamproc.errors import ConfigError
from streamproc.shell.site_breach import Breach
from streamproc.shell.site_lines import Path, key_lines, line_of

_TYPE_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
}
_TYPE_WORDS |= {"object": "a table", "array": "an array"}
_SENSITIVE = re.compile("pass|secret|token|pwd|credential", re.IGNORECASE)

FILE_SIZE_MAX = 4 * 1024 * 1024  # bytes; a catalogue of 20,000 points is about half of it
T = TypeVar("T")


def read_text(path: FilePath | str, what: str = "a site file") -> str:
    """Return the text of a file; raises ConfigError."""
    file = FilePath(path)
    try:
        if file.stat().st_size > FILE_SIZE_MAX:
            raise ConfigError(f"{file}: larger than {FILE_SIZE_MAX} bytes: this is not {what}")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {error.start})") from error


def parse_strict(
    text: str, name: str, kind: type[T], rules: Callable[[T, Mapping[str, Any]], Iterable[Breach]]
) -> T:
    """Return the value of a TOML text; raise ConfigError with one line for each mistake.

    `kind` is a msgspec struct of tables; `rules` get the value and what was really written, without defaults.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: is not TOML: {error}") from error
    lines = key_lines(text)

    def refuse(found: Iterable[Breach]) -> None:
        told = sorted({(line_of(lines, b.path), _sentence(b)) for b in found})
        if told:
            raise ConfigError("\n".join(f"{name}:{line}: {sentence}" for line, sentence in told))

    refuse(_unknown_keys((), given, kind))
    refuse(_wrong_types(given, kind))
    value = msgspec.convert(given, kind)
    refuse(rules(value, given))
    return value


def _sentence(breach: Breach) -> str:
    key = ".".join(f"[{part}]" if isinstance(part, int) else part for part in breach.path).replace(".[", "[")
    # Whatever is called a password is not shown, under whichever wrong key or type it was written.
    hidden = breach.value is not None and _SENSITIVE.search(str(breach.path[-1])) is not None
    return f"{key} = {'(not shown)' if hidden else _shown(breach.value)}: {breach.rule}"


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value if value.startswith("(") else f'"{value[:80]}"'
    if value is None:
        return "(nothing)"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)[:80]


def _unknown_keys(path: Path, given: object, kind: object) -> Iterator[Breach]:
    """Yield every key that its table does not have, with the nearest that it has."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(given, Mapping):
        hints = get_type_hints(kind)
        for key, value in given.items():
            if key in hints:
                yield from _unknown_keys((*path, key), value, hints[key])
            else:
                near = get_close_matches(key, hints, 1, cutoff=0.5)
                wish = f"did you mean {near[0]!r}? " if near else ""
                shown = "(table)" if isinstance(value, (Mapping, list)) else value
                yield Breach((*path, key), shown, f"unknown key; {wish}known: {', '.join(hints)}")
    elif get_origin(kind) is tuple and isinstance(given, list):
        for index, element in enumerate(given):
            yield from _unknown_keys((*path, index), element, get_args(kind)[0])


def _wrong_types(given: Mapping[str, Any], kind: type) -> Iterator[Breach]:
    """Yield every table and value that is not of its type, table by table."""
    for name, hint in get_type_hints(kind).items():
        if name not in given:
            continue
        elements = given[name] if get_origin(hint) is tuple else None
        if isinstance(elements, list):
            for index, element in enumerate(elements):
                yield from _wrong_values((name, index), element, get_args(hint)[0])
        else:
            yield from _wrong_values((name,), given[name], hint)


def _wrong_values(path: Path, given: object, kind: object) -> Iterator[Breach]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(given, Mapping):
        for key, hint in get_type_hints(kind).items():
            if key in given:
                yield from _wrong_values((*path, key), given[key], hint)
        missing = [f.name for f in msgspec.structs.fields(kind) if f.required and f.name not in given]
        for key in missing:
            yield Breach((*path, key), None, "is required")
        return
    try:
        msgspec.convert(given, kind, strict=True)
    except msgspec.ValidationError as error:
        shown = "(table)" if isinstance(given, (Mapping, list)) else given
        yield Breach(path, shown, _rule_of(kind, str(error)))


def _rule_of(kind: object, message: str) -> str:
    allowed = [a for option in (kind, *get_args(kind)) for a in get_args(option) if isinstance(a, (str, int))]
    allowed += [a for a in get_args(kind) if isinstance(a, (str, int))]
    choices = list(dict.fromkeys(allowed))
    if choices:
        return "must be one of " + ", ".join(_shown(a) for a in choices)
    wanted = re.match(r"Expected `([^`]+)`", message)
    if wanted is None:
        return message
    return "must be " + " or ".join(
        _TYPE_WORDS.get(word, word) for word in wanted[1].split(" | ") if word != "null"
    )
