"""Protects legibility: functions and files stay within their budgets, and no file is unreached."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(p for room in ("streamproc", "tools") for p in (ROOT / room).rglob("*.py"))
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50


def body_lines(node: ast.AST) -> int:
    """Lines of a function without its docstring: the docstring is there to be read, not to be counted."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    doc = node.body[0] if ast.get_docstring(node) else None
    doc_lines = (doc.end_lineno or 0) - doc.lineno + 1 if doc else 0
    return (node.end_lineno or 0) - node.lineno + 1 - doc_lines


def test_there_are_sources_to_look_at() -> None:
    assert len(SOURCES) > 30


def test_every_file_is_within_its_budget() -> None:
    long = {
        str(p.relative_to(ROOT)): n
        for p in SOURCES
        if (n := len(p.read_text().splitlines())) > FILE_LINES_MAX
    }
    assert not long, (
        f"files over {FILE_LINES_MAX} lines, each a place to look for two jobs in one room: {long}"
    )


def test_every_function_is_within_its_budget() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {body_lines(node)}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > FUNCTION_LINES_MAX
    ]
    assert not long, f"functions over {FUNCTION_LINES_MAX} lines: {long}"


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(p.relative_to(ROOT))
        for p in SOURCES
        if p.read_text().strip() and not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert not silent, f"modules without a docstring: {silent}"


def test_nothing_is_left_unfinished_or_skipped() -> None:
    marks = (
        "TO" + "DO",
        "FIX" + "ME",
        "NotImplemented" + "Error",
        "pytest." + "skip",
        "mark." + "skip",
        "mark." + "xfail",
    )
    files = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]
    left = [f"{p.relative_to(ROOT)}: {mark}" for p in files for mark in marks if mark in p.read_text()]
    assert not left, left
