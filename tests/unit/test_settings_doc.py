"""Protects docs/CONFIGURATION.md: every setting with its meaning, and what the code says today."""

from __future__ import annotations

from pathlib import Path

from streamproc.shell.settings_doc import markdown, settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "CONFIGURATION.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "streamproc check --settings > docs/CONFIGURATION.md"
    )


def test_every_setting_of_a_table_has_a_meaning_a_type_and_a_default() -> None:
    tables = list(settings())
    assert {header for header, _, _ in tables} >= {
        "[site]",
        "[broker]",
        "[align]",
        "[[area]]",
        "[[point]]",
        "[[resource]]",
    }
    for header, about, rows in tables:
        assert about.endswith("."), header
        for row in rows:
            assert row.type, (header, row)
            assert row.default, (header, row)
            assert row.meaning or header.startswith("[detector."), (header, row)
