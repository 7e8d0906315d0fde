"""The path without a broker: the stages of a site with their real models and solver, in one process."""

from __future__ import annotations

from pathlib import Path

from streamproc import pipeline
from streamproc.config import SiteConfig
from streamproc.shell.forecast_model import OnnxForecaster
from streamproc.shell.models import ModelSet
from streamproc.shell.solver import solve


def make_path(config: SiteConfig, bundle: Path | None = None) -> pipeline.Path:
    """Return the path of a site; `bundle` is stronger than the one in the site file. Raises ModelError."""
    models = ModelSet.load(bundle or config.worker.bundle, config.detector)
    return pipeline.Path(config, models, OnnxForecaster.load(), solve)
