"""The card of a 48-hour bundle: what a person should know before they trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamproc.core.ahead.model import MEMBERS
from streamproc.training.ahead.bundle import Trained, names_of


def card_of(
    trained: Trained,
    about: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, float]],
    notes: Sequence[str],
) -> str:
    """Return the card as Markdown."""
    fleet = trained.fleet
    blend = trained.full.weights.blend[-1]
    lines = [
        f"# {about['name']}",
        "",
        f"48 hours ahead in quarter hours, for {len(fleet.names)} series ({names_of(fleet.names)}); others use "
        "the shared part.",
        f"Trained on {about['data']} (sha256 {about['data_digest'][:16]}), {about['trained_from']} to "
        f"{about['trained_until']}.",
        f"Made by `{about['command']}`, seed {about['seed']}: the same command on the same data gives the same bytes.",
        "",
        "| ahead | skill over persistence | over seasonal naive 1 d | over seasonal naive 7 d |",
        "|---|--:|--:|--:|",
    ]
    for words, of in metrics.items():
        cells = [of.get(f"skill_{base}") for base in ("persistence", "seasonal_1d", "seasonal_7d")]
        told = " | ".join("unknown" if cell is None else f"{cell:.1%}" for cell in cells)
        lines.append(f"| {words} | {told} |")
    lines += [
        "",
        "Skill is of the held-out folds: the newest part of the past, forecast by models that had not seen it.",
        "",
        "Whom the blend believes (share at 15 min, 4 h, 48 h): "
        + ", ".join(
            f"{name} {row[0]:.2f}, {row[4]:.2f}, {row[-1]:.2f}"
            for name, row in zip(MEMBERS, blend, strict=True)
        )
        + ".",
        "Known ahead: "
        + (", ".join(fleet.known_names) or "nothing")
        + "; where it is missing the model without it speaks, and says so.",
        "Outside the range that a series had in training its forecast carries the flag `outside_training`.",
    ]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"
