"""Which alert is meant: a whole id, the beginning of one, or "latest". What is not there is named with what is. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from streamproc.core.iso_time import iso_time
from streamproc.core.messages import Alert
from streamproc.errors import StreamprocError

LATEST = "latest"
LISTED_MAX = 12


def chosen(wanted: str, found: list[str], seen: Mapping[str, Alert], where: str) -> str:
    """Return the one id of those `found` that is meant; raises StreamprocError with the ids that are there."""
    if wanted in found:
        return wanted
    if len(found) == 1:
        return found[0]
    if found:
        raise StreamprocError(
            f"{wanted!r} begins the ids of {len(found)} alerts of {where}; give more of it:\n"
            + listed([seen[known] for known in found if known in seen])
        )
    if not seen:
        raise StreamprocError(f"there is no alert in {where}")
    raise StreamprocError(
        f"no id of an alert in {where} begins with {wanted!r}; it has:\n{listed(list(seen.values()))}"
    )


def listed(alerts: list[Alert]) -> str:
    """Return one line per alert, the newest last."""
    more = len(alerts) - LISTED_MAX
    lines = [f"  ... {more} earlier ones"] if more > 0 else []
    lines += [
        f"  {a.alert_id}  {iso_time(a.onset_ts_us * 1000)}  {_plain(a.area)}  {a.kind}, {_plain(a.source)}"
        for a in alerts[-LISTED_MAX:]
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    # A station name comes from the wire: no control code of it may reach a terminal.
    return "".join(c if c.isprintable() else "?" for c in text)
