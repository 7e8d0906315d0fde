"""What every benchmark hands over, and how it is shown: one result, as JSON, as text, as Markdown.

A result says what was measured, where, with which versions, and beside each target what came out. Nothing is
judged anywhere else: `met` is computed here, from the numbers of the run, and a target that was not measured
is not met.

    path, peers, latency, ... ───── Result ──┬── text(result)                     the terminal
                                             ├── encode(result)                   --json, a file
                                             └── report([result, ...])            BENCHMARKS.md
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

import msgspec

from streamproc import __version__
from streamproc.errors import ShellError
from streamproc.shell.clock import SYSTEM

FORMAT = "streamproc-bench/1"
Cell: TypeAlias = str | float | int | None
KIND_TITLES: Mapping[str, str] = {
    "path": "The path beside the bare client, stock Faust and Quix Streams (`streamproc bench path`)",
    "latency": "Latency under full load (`streamproc bench latency`)",
    "peers": "The same job on other stream processors (`streamproc bench peers`)",
    "scale": "What a site costs (`streamproc bench scale`)",
    "ahead": "48-hour forecasts of many series (`streamproc bench ahead`)",
    "detect": "A site's model and deciding (`streamproc bench detect`)",
    "profile": "Where the time goes (`streamproc bench profile`)",
}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What was wanted, and what came out; None: not measured."""

    name: str
    sign: Literal[">=", "<=", "<"]
    goal: float
    measured: float | None
    unit: str = ""

    @property
    def met(self) -> bool:
        """Return whether the measured number keeps the goal; what was not measured does not."""
        if self.measured is None:
            return False
        if self.sign == ">=":
            return self.measured >= self.goal
        return self.measured <= self.goal if self.sign == "<=" else self.measured < self.goal


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of cells under a head."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one benchmark."""

    format: Literal["streamproc-bench/1"] = "streamproc-bench/1"
    kind: str
    date: str
    machine: Mapping[str, Cell]
    versions: Mapping[str, str]
    settings: Mapping[str, Cell]
    tables: tuple[Table, ...]
    targets: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()


def result_of(
    kind: str,
    settings: Mapping[str, Cell],
    tables: Sequence[Table],
    targets: Sequence[Target] = (),
    *,
    versions: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Result:
    """Return a result of this moment on this machine."""
    now = datetime.fromtimestamp(SYSTEM.wall_ns() / 1e9, UTC)
    return Result(
        kind=kind,
        date=now.strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine(),
        versions=own_versions() | dict(versions or {}),
        settings=settings,
        tables=tuple(tables),
        targets=tuple(targets),
        notes=tuple(notes),
    )


def machine() -> dict[str, Cell]:
    """Return what this machine is, as far as it tells."""
    model = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", _read("/proc/meminfo"), re.MULTILINE)
    return {
        "cpu": model.group(1).strip() if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(memory.group(1)) / 1e6, 1) if memory else None,
        "os": f"{platform.system()} {platform.release()}",
        "load_1min": round(os.getloadavg()[0], 2),
    }


def own_versions() -> dict[str, str]:
    """Return the versions of Python and of what the worker stands on."""
    found = {"streamproc": __version__, "python": platform.python_version()}
    for name in ("faust-streaming", "aiokafka", "numpy", "onnxruntime", "uvloop"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def ratio(above: float | None, below: float | None) -> float | None:
    """Return above / below; None where one is missing or the divisor is zero."""
    if above is None or below is None or below == 0:
        return None
    return above / below


def middle(values: Iterable[float | None]) -> float | None:
    """Return the median of what is there, None without any."""
    there = [value for value in values if value is not None]
    return median(there) if there else None


def spread_ratio(values: Iterable[float | None]) -> float | None:
    """Return largest / smallest of what is there: 1 is flat."""
    there = [value for value in values if value is not None]
    return ratio(max(there), min(there)) if there else None


def number(cell: Cell) -> str:
    """Return a cell for a person: three figures for small numbers, thousands apart for large ones."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or abs(cell) >= 1000:
        return f"{cell:,.0f}"
    if abs(cell) >= 100:
        return f"{cell:.0f}"
    return f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"


def target_line(target: Target) -> str:
    """Return one target in words."""
    unit = f" {target.unit}" if target.unit else ""
    got = "not measured" if target.measured is None else number(target.measured) + unit
    verdict = "met" if target.met else "NOT MET"
    return f"{verdict:<8} {target.name}: {got} (target {target.sign} {number(target.goal)}{unit})"


def text(result: Result) -> str:
    """Return a result for a terminal."""
    parts = [_settings_line(result.settings)] if result.settings else []
    parts += [_text_table(table) for table in result.tables]
    parts += [*result.notes]
    parts += ["\n".join(map(target_line, result.targets))] if result.targets else []
    return "\n\n".join(parts) + "\n"


def _text_table(table: Table) -> str:
    cells = [table.head, *(tuple(map(number, row)) for row in table.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.head))]
    lines = [table.title]
    for row in cells:
        padded = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(padded).rstrip())
    return "\n".join([*lines, table.note] if table.note else lines)


def markdown(result: Result) -> str:
    """Return a result as a section of BENCHMARKS.md."""
    parts = [f"## {KIND_TITLES.get(result.kind, result.kind)}"]
    where = ", ".join(f"{key} {number(value)}" for key, value in result.machine.items())
    parts.append(f"{result.date}. Machine: {where}.")
    parts.append("Versions: " + ", ".join(f"{k} {v}" for k, v in result.versions.items()) + ".")
    if result.settings:
        parts.append("Settings: " + _settings_line(result.settings) + ".")
    if result.targets:
        parts.append(_markdown_targets(result.targets))
    parts += [_markdown_table(table) for table in result.tables]
    parts += result.notes
    return "\n\n".join(parts) + "\n"


def _settings_line(settings: Mapping[str, Cell]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {number(value)}" for key, value in settings.items())


def _markdown_targets(targets: Sequence[Target]) -> str:
    rows: list[tuple[Cell, ...]] = [
        (
            target.name,
            f"{target.sign} {number(target.goal)} {target.unit}".strip(),
            None if target.measured is None else f"{number(target.measured)} {target.unit}".strip(),
            "met" if target.met else "**not met**",
        )
        for target in targets
    ]
    return _markdown_table(Table(title="", head=("target", "wanted", "measured", ""), rows=tuple(rows)))


def _markdown_table(table: Table) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    lines = [f"**{table.title}**", ""] if table.title else []
    lines += [line(table.head), line("---" if i == 0 else "--:" for i in range(len(table.head)))]
    lines += [line(map(number, row)) for row in table.rows]
    return "\n".join([*lines, "", table.note] if table.note else lines)


HEAD = """\
# Benchmarks

Made by `streamproc bench report RESULTS.json...` from what the commands printed with `--json`; only the last
section is written by hand. Every target stands beside what was measured, whether it was met or not. Broker, load
generator and the process under test share the machine unless said otherwise.
"""


def report(results: Sequence[Result]) -> str:
    """Return BENCHMARKS.md: what was wanted and measured first, then each run; the newest of a kind counts."""
    newest = {result.kind: result for result in sorted(results, key=lambda result: result.date)}
    order = [kind for kind in KIND_TITLES if kind in newest] + sorted(newest.keys() - KIND_TITLES.keys())
    rows: list[tuple[Cell, ...]] = []
    for kind in order:
        for target in newest[kind].targets:
            got = None if target.measured is None else f"{number(target.measured)} {target.unit}".strip()
            wanted = f"{target.sign} {number(target.goal)} {target.unit}".strip()
            rows.append((kind, target.name, wanted, got, "met" if target.met else "**not met**"))
    parts = [HEAD]
    if rows:
        head = ("bench", "target", "wanted", "measured", "")
        parts.append(_markdown_table(Table(title="", head=head, rows=tuple(rows))) + "\n")
    return "\n".join([*parts, *(markdown(newest[kind]) for kind in order)])


def verbatim(name: str, told: str) -> str:
    """Return what `streamproc evaluate` printed as a section."""
    return (
        f"## Evaluation: {name.replace('_', ' ')} (`streamproc evaluate`)\n\n```text\n{told.rstrip()}\n```\n"
    )


def encode(result: Result) -> str:
    """Return a result as one line of JSON; each target tells whether it was met."""
    tree = msgspec.to_builtins(result)
    for target, plain in zip(result.targets, tree["targets"], strict=True):
        plain["met"] = target.met
    return msgspec.json.encode(tree).decode()


def read_result(path: Path) -> Result:
    """Return the result in a file: the whole file, or its last line; raise ShellError if there is none."""
    try:
        content = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ShellError(f"{path}: {error.strerror}") from error
    try:
        return msgspec.json.decode(content.rsplit("\n", 1)[-1], type=Result)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ShellError(f"{path}: not a result of `streamproc bench ... --json`: {error}") from error


def read_notes(path: Path | None = None) -> str:
    """Return the notes at the end of BENCHMARKS.md: those in a file, or the package's."""
    source = resources.files("streamproc") / "shell" / "bench" / "notes.md" if path is None else path
    try:
        return source.read_text(encoding="utf-8")
    except OSError as error:
        raise ShellError(f"{source}: {error.strerror}") from error


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
