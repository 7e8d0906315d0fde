"""The explanation as one JSON object, for programs. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from streamproc.shell.explain.facts import facts_of, forecasts_of
from streamproc.shell.explain.hint import replay_hint
from streamproc.shell.explain.sources import Explained


def as_json(explained: Explained, page: str | None) -> bytes:
    """Return the bytes of the object, keys sorted; `page` is the file that was written."""
    alert, told = explained.alert, explained.story.told
    tree: dict[str, Any] = {
        "alert": alert,
        "told": [
            {"seq": a.seq, "state": a.state, "ts_us": a.ts_us, "score": a.score, "message": a.message}
            for a in told
        ],
        "forecasts": forecasts_of(told),
        "replay": replay_hint(alert),
        "commands": explained.commands,
        "notes": explained.notes,
        "page": page,
        "facts": None,
    }
    evidence = explained.evidence
    if evidence is not None:
        tree["facts"] = facts_of(alert, evidence)
        tree["scores_of"] = {
            "model_digest": evidence.digest,
            "rate_hz": evidence.rate_hz,
            "pmus": evidence.labels,
        }
    return orjson.dumps(msgspec.to_builtins(tree), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
