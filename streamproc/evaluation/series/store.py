"""The directory with the results of many series: what is in it, what is missing, and how an answer gets into it.

    NAME.json         a result, the bytes of `backtest --json`
    NAME.error.json   why there is none
    questions.ndjson  one line per result: what was asked, of which data, by which version, and the digest of the result

A result is moved into place whole and its line comes after it. So whenever the process is killed, a result is kept only if
its line says that it answers this question on this data, and if it is still what was written then.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from streamproc import __version__
from streamproc.errors import DataError
from streamproc.evaluation.series.many import Answer, Task
from streamproc.evaluation.series.read import digest_of
from streamproc.evaluation.series.result import FORMAT, Result, json_of, read_result

JOURNAL = "questions.ndjson"


class Entry(msgspec.Struct, frozen=True):
    """One line of the journal."""

    name: str
    asked: dict[str, Any]
    result: str  # SHA-256 of the result file


class Store:
    """The results of one directory, for one process at a time."""

    def __init__(self, room: Path) -> None:
        """Make the directory and take it; raises DataError if it cannot be written, or if somebody else has it."""
        self.room = room
        try:
            room.mkdir(parents=True, exist_ok=True)
            self._journal = (room / JOURNAL).open("a+b", buffering=0)
        except OSError as error:
            raise DataError(f"--out {room}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(
                self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # the system lets go of it after a kill, too
        except OSError as error:
            self._journal.close()
            words = "another backtest-many writes there; wait for its end, or choose another directory"
            raise DataError(f"--out {room}: {words}") from error
        self._entries = self._read()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()

    def _read(self) -> dict[str, Entry]:
        self._journal.seek(0)
        raw = self._journal.read()
        if raw and not raw.endswith(b"\n"):
            self._journal.write(b"\n")  # a line that a kill cut short: the next one must not be glued to it
        entries: dict[str, Entry] = {}
        for line in raw.splitlines():
            with suppress(msgspec.DecodeError):  # then it is missing, and computed again
                entry = msgspec.json.decode(line, type=Entry)
                entries[entry.name] = entry
        return entries

    def path_of(self, name: str) -> Path:
        """Return where a result is."""
        return self.room / f"{name}.json"

    def missing(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks without a result of the same question, data, models and version."""
        digest = cache(digest_of)  # a file with many targets is read once
        return [task for task in tasks if not self._has(task, digest)]

    def _has(self, task: Task, digest: Any) -> bool:  # noqa: ANN401 - digest_of, remembered
        entry = self._entries.get(task.name)
        if entry is None:
            return False
        try:
            same = entry.asked == asked_of(task, digest(task.question.path))
            return same and entry.result == sha256(self.path_of(task.name).read_bytes()).hexdigest()
        except (DataError, OSError):
            return False

    def result(self, task: Task) -> Result:
        """Return a result that is there; raises DataError."""
        return read_result(self.path_of(task.name))

    def put(self, task: Task, answer: Answer) -> Result | None:
        """Write an answer and return its result, None for an error; raises DataError if the disk refuses."""
        good, bad = self.path_of(task.name), self.room / f"{task.name}.error.json"
        if answer.error:
            told = {
                "file": str(task.question.path),
                "target": task.question.wanted.target,
                "error": answer.error,
                **({"trace": answer.trace} if answer.trace else {}),
            }
            self._write(bad, json_of(told) + b"\n", good)
            return None
        result = msgspec.json.decode(answer.result, type=Result)
        self._write(good, answer.result, bad)
        # The digest of what the worker read, not of what the file holds by now.
        asked = asked_of(task, result.asked.sha256)
        entry = Entry(task.name, asked, sha256(answer.result).hexdigest())
        try:
            self._journal.write(json_of(entry) + b"\n")
        except OSError as error:
            raise DataError(f"cannot write {self.room / JOURNAL}: {error.strerror}") from error
        self._entries[task.name] = entry
        return result

    def _write(self, path: Path, content: bytes, other: Path) -> None:
        """Put a file into place whole, and remove what an earlier run said instead."""
        part = path.with_name(path.name + ".part")
        try:
            part.write_bytes(content)
            os.replace(part, path)
            other.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}") from error


def asked_of(task: Task, digest: str) -> dict[str, Any]:
    """Return all that a result depends on, as JSON has it: question, data (SHA-256), models, version."""
    asked = asdict(task.question)
    file: Path = asked.pop("path")
    assert asked.pop("known_file") is None  # of single backtests only
    facts = {
        "format": FORMAT,
        "version": __version__,
        "models": task.models,
        "file": file.name,
        "data": digest,
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({**facts, **asked}))
    return plain
