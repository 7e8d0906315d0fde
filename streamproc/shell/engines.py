"""What the stages ask, loaded for a site: the models of detection, of the next hour and of 48 hours, and the solver."""

from __future__ import annotations

from functools import lru_cache

from streamproc.config import SiteConfig
from streamproc.core.ahead.days import times_of
from streamproc.core.ahead.issue import Offsets
from streamproc.evaluation.series.zone import offsets, zone_of
from streamproc.pipeline import Engines
from streamproc.shell.ahead_model import OnnxAhead
from streamproc.shell.forecast_model import OnnxForecaster
from streamproc.shell.grid_file import load_topology
from streamproc.shell.rules_file import load_rules
from streamproc.shell.solver import solve
from streamproc.stages.score import Models
from streamproc.values import I64


def engines_of(config: SiteConfig, models: Models) -> Engines:
    """Return the engines of a site around its models of detection; raises ModelError, ConfigError."""
    ahead = OnnxAhead.load(config.worker.forecast_bundle)
    topology = load_topology(config.site.grid_file)
    offsets_here = offsets_of(config.site.time_zone)
    rules = load_rules(config.site.rules_file, config)
    return Engines(models, OnnxForecaster.load(), solve, ahead, offsets_here, topology, rules)


def offsets_of(name: str) -> Offsets:
    """Return the offsets of a time zone around an issue; those of the last issue are kept."""
    zone = zone_of(name)

    @lru_cache(maxsize=2)
    def around(number: int) -> I64:
        return offsets(times_of(number), zone)

    return around
