"""The path without a broker: the stages of a site with their real models and solver, in one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from streamproc import pipeline
from streamproc.config import SiteConfig
from streamproc.shell.engines import engines_of
from streamproc.shell.models import ModelSet
from streamproc.stages.score import Models


def make_path(
    config: SiteConfig, bundle: Path | None = None, heard: Callable[[Models], Models] = lambda models: models
) -> pipeline.Path:
    """Return the path of a site; `bundle` is stronger than the one in the site file. Raises ModelError.

    `heard` may put something between the path and its models that listens.
    """
    models = ModelSet.load(bundle or config.worker.bundle, config.detector)
    return pipeline.Path(config, engines_of(config, heard(models)))
