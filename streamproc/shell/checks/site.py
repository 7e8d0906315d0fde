"""`streamproc check` from the first line to the last: this machine, then the broker, then the cluster.

What cannot be looked at because something before it failed is said, not left out. All limits of time are
named in the modules that wait: some seconds as a rule, about a minute for a broker that is slow at every step.
"""

from __future__ import annotations

from pathlib import Path

from streamproc.config import SiteConfig
from streamproc.errors import ConfigError
from streamproc.shell.checks.host import (
    check_clock,
    check_disk,
    check_files,
    check_memory,
    check_models,
    check_port,
    check_rates,
    read_kernel_clock,
    written_places,
)
from streamproc.shell.checks.line import Line, fail, ok, warn
from streamproc.shell.checks.reach import check_reach
from streamproc.shell.checks.topics import check_cluster
from streamproc.shell.clock import SYSTEM
from streamproc.shell.site_file import client_settings, load_site


def read_config(path: Path | None) -> tuple[SiteConfig | None, Line]:
    """Return the site and its line; None when the file, or a secret or certificate that it names, is refused."""
    try:
        config = load_site(path)
        client_settings(config.broker)
    except ConfigError as error:
        return None, fail("config", str(error))
    return config, ok("config", str(path) if path else "no file given: the defaults")


async def check_all(config: SiteConfig) -> list[Line]:
    """Return every line after that of the configuration."""
    lines, site = check_models(config)
    lines += [*check_disk(written_places()), check_memory(), check_files(), check_clock(read_kernel_clock())]
    lines.append(await check_port(config.worker))
    reach = await check_reach(config.broker)
    lines += reach
    if any(line.level == "FAIL" for line in reach):
        lines.append(
            warn("topics", "topics, policies, permissions, group, workers: not looked at, see above")
        )
        return lines
    cluster = await check_cluster(config, SYSTEM.wall_ns() // 1000)
    rates = check_rates(cluster.rates_hz, site) if cluster.rates_hz is not None else []
    return [*lines, *cluster.lines, *rates]
