"""What is needed to see an alert again: where its records are, and the command that plays them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from streamproc.core.messages import Alert
from streamproc.core.open_alert import replay_of


@dataclass(frozen=True, slots=True)
class Replay:
    """Records of one key in one topic, by their time; and a command that shows them."""

    topic: str
    key: str
    from_ts_us: int
    to_ts_us: int
    command: str


def replay_hint(alert: Alert) -> Replay:
    """Return what to replay for an alert: 30 s of frames, or for a SCADA point 80 minutes of its values."""
    where = alert.replay or replay_of(alert.area, alert.onset_ts_us, alert.rule, alert.model_digest)
    command = f"streamproc explain {alert.alert_id}"
    return Replay(where.topic, where.key, where.from_ts_us, where.to_ts_us, command)
