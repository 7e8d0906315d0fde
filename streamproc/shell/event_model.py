"""The bundle that says what a disturbance is, into a describer: checked like every bundle, one session per network.

The same rules as in `shell.models`, on the same bytes in memory: strict manifest, SHA-256, accepted operators only,
announced features and answers, golden vectors within 1e-5. Anything else is a ModelError that names the file and the rule.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np

from streamproc.core import event_place
from streamproc.core.event_features import ANCHORS_S, NAMES
from streamproc.core.event_model import FINER, LEARNT, EventDescriber
from streamproc.core.frequency_response import LEVELS, TARGETS
from streamproc.core.frequency_response import NAMES as COURSE_NAMES
from streamproc.errors import ModelError
from streamproc.shell.manifest import Table
from streamproc.shell.onnx_file import check_model
from streamproc.values import F64

FORMAT = "streamproc-events/1"
TOLERANCE = 1e-5
NET_SIZE_MAX = 4 * 1024 * 1024  # bytes
KIND_ANSWERS: tuple[str, ...] = tuple(map(str, LEARNT))
COURSE_ANSWERS = tuple(f"{target}_{level:g}" for target in TARGETS for level in LEVELS)
ASKED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "place": (event_place.NAMES, ("nearness",)),
    "course": (COURSE_NAMES, COURSE_ANSWERS),
    **{f"kind_{age_s:g}": (NAMES, KIND_ANSWERS) for age_s in ANCHORS_S},
    **{f"finer_{age_s:g}": (NAMES, FINER) for age_s in ANCHORS_S},
}


class BundleTable(Table, frozen=True):
    """`[bundle]`: where it came from."""

    format: str
    name: str
    version: int
    opset: int
    golden: str
    created_from: dict[str, str]


class LearntTable(Table, frozen=True):
    """`[learnt]`: what goes with the networks."""

    temperature: dict[str, float]
    commit_min: dict[str, float]
    widen: tuple[float, ...]


class NetTable(Table, frozen=True):
    """`[[net]]`: one network."""

    name: str
    file: str
    digest: str
    features: tuple[str, ...]
    answers: tuple[str, ...]


class EventManifest(Table, frozen=True):
    """The whole file."""

    bundle: BundleTable
    learnt: LearntTable
    net: tuple[NetTable, ...]


class OnnxNets:
    """The networks of a bundle as sessions (`core.event_model.EventNets`)."""

    def __init__(self, sessions: Mapping[str, Any], learnt: LearntTable, digest: str) -> None:
        self._sessions = sessions
        self.temperature, self.commit_min = learnt.temperature, learnt.commit_min
        self.widen: F64 = np.array(learnt.widen)
        self.digest = digest

    def ask(self, name: str, x: F64) -> F64:
        """Return the answers (n, n_out) of one network to features (n, n_in)."""
        answer: F64 = self._sessions[name].run(None, {"x": x.astype(np.float32)})[0].astype(np.float64)
        return answer


def load_describer(
    open_session: Callable[[bytes, str], Any], directory: Path | None = None
) -> EventDescriber:
    """Return the describer of a directory (None: the one of the package); raises ModelError."""
    root = resources.files("streamproc") / "bundles" / "events" if directory is None else directory

    def read(name: str) -> bytes:
        if "/" in name or "\\" in name or name.startswith("."):
            raise ModelError(f"{root}/manifest.toml: {name!r} is not a plain file name")
        try:
            return (root / name).read_bytes()
        except OSError as error:
            raise ModelError(f"bundle {root}: cannot read {name}: {error.strerror}") from error

    told = read("manifest.toml")
    manifest = _manifest(told, f"{root}/manifest.toml")
    sessions = {}
    for net in manifest.net:
        model, where = read(net.file), f"{root}/{net.file}"
        if len(model) > NET_SIZE_MAX:
            raise ModelError(f"{where}: {len(model)} bytes, at most {NET_SIZE_MAX}")
        digest = hashlib.sha256(model).hexdigest()
        if digest != net.digest:
            raise ModelError(f"{where}: digest {digest[:12]}..., the manifest says {net.digest[:12]}...")
        check_model(model, where)
        sessions[net.name] = open_session(model, where)
        _check_shapes(net, sessions[net.name], where)
    _check_golden(manifest, sessions, read(manifest.bundle.golden), f"{root}/{manifest.bundle.golden}")
    return EventDescriber(OnnxNets(sessions, manifest.learnt, hashlib.sha256(told).hexdigest()))


def _manifest(told: bytes, where: str) -> EventManifest:
    try:
        manifest = msgspec.toml.decode(told, type=EventManifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{where}: {error}") from error
    if manifest.bundle.format != FORMAT:
        raise ModelError(f"{where}: format {manifest.bundle.format!r}, expected {FORMAT!r}")
    asked = {net.name: (net.features, net.answers) for net in manifest.net}
    wrong = sorted(name for name in {*asked, *ASKED} if asked.get(name) != ASKED.get(name))
    if wrong or len(asked) != len(manifest.net):
        raise ModelError(
            f"{where}: net {', '.join(wrong)}: missing, unknown, twice, or with other features or answers"
        )
    learnt, ages = manifest.learnt, {f"{age_s:g}" for age_s in ANCHORS_S}
    numbers = (*learnt.temperature.values(), *learnt.commit_min.values(), *learnt.widen)
    if {*learnt.temperature} != ages or {*learnt.commit_min} != ages or len(learnt.widen) != len(TARGETS):
        raise ModelError(
            f"{where}: [learnt]: one temperature and commit_min for each of {sorted(ages)} s are expected"
        )
    if not all(0.0 < number < 1e6 for number in numbers):
        raise ModelError(f"{where}: [learnt]: positive numbers are expected")
    return manifest


def _check_shapes(net: NetTable, session: Any, where: str) -> None:  # noqa: ANN401 - ONNX Runtime has no types
    expected = {"x": len(net.features), "y": len(net.answers)}
    found = {edge.name: edge for edge in (*session.get_inputs(), *session.get_outputs())}
    if set(found) != set(expected):
        raise ModelError(f"{where}: inputs and outputs {sorted(found)}, expected {sorted(expected)}")
    for name, width in expected.items():
        shape = found[name].shape
        if (
            len(shape) != 2
            or isinstance(shape[0], int)
            or shape[1] != width
            or found[name].type != "tensor(float)"
        ):
            raise ModelError(f"{where}: {name} is {found[name].type} {shape}, expected float ['n', {width}]")


def _check_golden(manifest: EventManifest, sessions: Mapping[str, Any], golden: bytes, where: str) -> None:
    try:
        with np.load(io.BytesIO(golden), allow_pickle=False) as vectors:
            pairs = {
                n.name: (vectors[f"{n.name}.x"].astype(np.float32), vectors[f"{n.name}.y"])
                for n in manifest.net
            }
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise ModelError(f"{where}: golden vectors cannot be read: {error}") from error
    for net in manifest.net:
        x, wanted = pairs[net.name]
        if x.ndim != 2 or x.shape[1] != len(net.features) or wanted.shape != (x.shape[0], len(net.answers)):
            raise ModelError(
                f"{where}: {net.name}: golden vectors {x.shape}, {wanted.shape}: other features or answers"
            )
        answer = sessions[net.name].run(None, {"x": x})[0]
        if not x.shape[0] or not (np.abs(answer - wanted) <= TOLERANCE * (1.0 + np.abs(wanted))).all():
            raise ModelError(
                f"{where}: {net.name} does not reproduce its golden vectors within {TOLERANCE:g}"
            )
