"""The rules of `[decide]`, `[[position]]` and `[[suppress]]`: who may speak to alerts, and what hides what."""

from __future__ import annotations

from collections.abc import Iterator

from streamproc.config import SiteConfig
from streamproc.shell.site_breach import Breach


def alarm_breaches(config: SiteConfig) -> Iterator[Breach]:
    """Return every broken rule of the alarm tables."""
    positions = {"main", *(area.position for area in config.area)}
    seen: set[str] = set()
    for number, position in enumerate(config.position):
        where = ("position", number)
        if position.name in seen:
            yield Breach((*where, "name"), position.name, "stands there twice")
        seen.add(position.name)
        if position.name not in positions:
            known = ", ".join(sorted(positions))
            yield Breach((*where, "name"), position.name, f"no [[area]] has this position; known are {known}")
        if not position.users or not all(user.strip() for user in position.users):
            yield Breach((*where, "users"), position.users, "must list at least one user, none empty")
    for number, rule in enumerate(config.suppress):
        where = ("suppress", number)
        for name in ("rule", "source", "while_rule", "while_source"):
            if not getattr(rule, name).strip():
                yield Breach((*where, name), getattr(rule, name), "must not be empty; * is any")
        if (rule.rule, rule.source) == (rule.while_rule, rule.while_source):
            yield Breach((*where, "while_rule"), rule.while_rule, "must not be what is suppressed itself")
