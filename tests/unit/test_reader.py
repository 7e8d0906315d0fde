"""Protects the promise to neighbours: each (id, seq) once, never two versions of it, in bounded memory."""

from __future__ import annotations

import pytest

from streamproc.reader import ConflictError, Seen


def test_a_pair_is_new_once() -> None:
    seen = Seen()
    assert seen.is_new("a", 1, b"x")
    assert not seen.is_new("a", 1, b"x")
    assert seen.is_new("a", 2, b"x")
    assert seen.is_new("b", 1, b"x")


def test_the_same_pair_with_other_bytes_is_a_conflict() -> None:
    seen = Seen()
    seen.is_new("a", 1, b"x")
    with pytest.raises(ConflictError, match="a seq 1 came twice with different bytes"):
        seen.is_new("a", 1, b"y")


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    seen = Seen(memory_count=3)
    for n in range(10):
        assert seen.is_new("a", n, b"x")
    assert len(seen) == 3
    assert not seen.is_new("a", 9, b"x")
    assert seen.is_new("a", 0, b"x")
