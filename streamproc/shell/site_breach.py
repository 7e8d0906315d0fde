"""One broken rule of the site file, and what a reference to a secret looks like."""

from __future__ import annotations

import re
from typing import NamedTuple

from streamproc.shell.site_lines import Path

SECRET = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)")


class Breach(NamedTuple):
    """One broken rule: where, what stands there, what must hold."""

    path: Path
    value: object
    rule: str
