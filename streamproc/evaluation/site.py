"""The site of a corpus: ten event-free minutes through the score stage into a bundle, as `train anomaly` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from streamproc import pipeline
from streamproc.config import SiteConfig
from streamproc.evaluation.ambient import CALIBRATE_S, Ambient
from streamproc.evaluation.corpus import ANGLE, FREQUENCY, VOLTAGE, Corpus
from streamproc.evaluation.frames import Stream
from streamproc.evaluation.noise import Signals, moved, noisy, steady
from streamproc.training.anomaly import Scorer, fit_bundle, tap
from streamproc.values import F64


@dataclass(frozen=True, slots=True)
class Tools:
    """What only the shell has; functions of modules, because other processes call them too."""

    scorer: Callable[[bytes], Scorer]
    write: Callable[[dict[str, bytes], Path], None]  # a bundle into a directory
    make_path: Callable[[SiteConfig, Path | None], pipeline.Path]  # models may be kept, stages are fresh
    parameters: Callable[[Path | None], int]  # numbers learnt or fixed in the graphs of a bundle


def steady_state(corpus: Corpus) -> tuple[F64, F64, F64]:
    """Return voltage, angle and frequency (n_pmu,) of the site at rest: the median of the events' first frames."""
    first = np.median(corpus.x[:, 0].astype(np.float64), axis=0)
    return first[:, VOLTAGE], first[:, ANGLE], first[:, FREQUENCY]


def at_rest(corpus: Corpus, ambient_hz: F64, tier: str, rng: np.random.Generator) -> Signals:
    """Return (n_frame, n_pmu) of event-free measurements on this ambient."""
    rate_hz = corpus.rate_hz
    rest = steady(*steady_state(corpus), ambient_hz.size, corpus.nominal_hz, rate_hz)
    return noisy(moved(rest, ambient_hz, rate_hz), tier, rate_hz, rng)


def calibrated(
    corpus: Corpus, ambient: Ambient, tier: str, seed: int, tools: Tools, site: SiteConfig
) -> dict[str, bytes]:
    """Return the files of the site's bundle; raises ModelError if nothing can be learnt."""
    rng = np.random.default_rng([seed, *digits(corpus.digest, tier, "calibrate")])
    under = ambient.calibrate_hz[: round(CALIBRATE_S * corpus.rate_hz)]
    stream = Stream.of(corpus.stations, corpus.rate_hz, corpus.nominal_hz)
    recorded = tap(site, stream.records(at_rest(corpus, under, tier, rng)), None)
    return fit_bundle(recorded, tools.scorer, f"streamproc evaluate {corpus.name} {tier}")


def digits(*words: str) -> tuple[int, ...]:
    """Return numbers for a seed that depend on these words and on nothing else."""
    return tuple(int.from_bytes(sha256(word.encode()).digest()[:4], "big") for word in words)
