"""Putting a rationalisation file in force: checked as a whole, shown as a difference, published for one event time."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from streamproc.config import SiteConfig
from streamproc.core.iso_time import iso_time
from streamproc.core.messages import decode, encode
from streamproc.core.rationale import announced, difference, in_force
from streamproc.core.rules_message import Rules
from streamproc.shell.export import read_values
from streamproc.shell.moments import moment_us
from streamproc.shell.rules_file import load_rules, parse_rules
from streamproc.shell.sender import Sender
from streamproc.shell.strict_toml import read_text
from streamproc.values import TOPIC_RULES, Record

log = logging.getLogger(__name__)


async def apply_rules(site: SiteConfig, path: Path, at: str, *, dry_run: bool) -> list[str]:
    """Return what changed, a line each; raises StreamprocError, and then nothing was applied."""
    at_us = moment_us(at, "--at")
    values = await asyncio.to_thread(read_values, site, TOPIC_RULES, lambda _: True, None)
    known = [rules for value in values if (rules := _read(value)) is not None]
    eras: tuple[Rules, ...] = ()
    for rules in known:
        eras = announced(eras, rules)
    before = in_force(eras, at_us) or load_rules(site.site.rules_file, site)
    seq = 1 + max((rules.seq for rules in known), default=0)
    new = parse_rules(read_text(path, "a rules file"), site, str(path), at_us, seq)
    lines = difference(before, new)
    head = f"from {iso_time(at_us * 1000)}: {len(new.alarms)} rules, digest {new.digest[:12]}"
    if dry_run:
        return [f"{head}; not applied (--dry-run)", *lines]
    record = Record(TOPIC_RULES, 0, 0, at_us // 1000, b"%d" % at_us, encode(new))
    async with Sender(site) as sender:
        await sender.send(record)
    log.info("rules applied", extra={"digest": new.digest, "valid_from_us": at_us, "difference": lines})
    return [head, *(lines or ["nothing differs"])]


def _read(value: bytes) -> Rules | None:
    rules = decode(Rules, value)
    return rules if isinstance(rules, Rules) else None
