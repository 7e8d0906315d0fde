"""What a JSON parser lets pass and a control room must not: NaN, bottomless nesting, a key that comes twice."""

from __future__ import annotations

import json
from typing import Any


def all_finite(tree: Any) -> bool:  # noqa: ANN401 - it is JSON: anything
    """Return whether no number in a tree is NaN or infinite."""
    if isinstance(tree, float):
        return tree - tree == 0.0  # False for NaN and both infinities
    if isinstance(tree, dict):
        return all(map(all_finite, tree.values()))
    if isinstance(tree, list | tuple):
        return all(map(all_finite, tree))
    return True


def depth(tree: Any) -> int:  # noqa: ANN401
    """Return how deep objects and arrays are nested."""
    deepest, level = 0, [tree]
    while level:
        deepest += 1
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return deepest


class _TwiceError(Exception): ...


def duplicate_key(value: bytes) -> str | None:
    """Return a key that occurs twice in one object, None if none does (or the text is no JSON)."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) == len(pairs):
            return
        # One pass: a million keys of which the last comes twice must not cost a million squared.
        known: set[str] = set()
        for name, _ in pairs:
            if name in known:
                raise _TwiceError(name)
            known.add(name)

    try:
        json.loads(value, object_pairs_hook=check)
    except _TwiceError as error:
        return str(error)
    except (ValueError, RecursionError):
        return None  # orjson has already taken it: a nuance of the two parsers, not a duplicate
    return None
