"""Protects the line between advice and control: nothing here encodes a command, or writes where commands are read."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args, get_type_hints

from streamproc import values
from streamproc.core.messages import MESSAGES
from streamproc.core.setpoint import Setpoint
from streamproc.shell.checks import topics as checks
from streamproc.shell.topics import TOPICS

SOURCES = sorted((Path(__file__).parents[2] / "streamproc").rglob("*.py"))
# What only the outside writes: operators, PMUs, SCADA. No stage may produce it.
INPUTS_ONLY = {
    values.TOPIC_FRAMES,
    values.TOPIC_CONFIG,
    values.TOPIC_SCADA,
    values.TOPIC_OPERATOR,
    values.TOPIC_RULES,
}


def test_the_service_asks_for_write_permission_on_its_own_outputs_only() -> None:
    written = {topic for topic, uses in checks._USES.items() if checks.WRITE in uses}
    assert written.isdisjoint(INPUTS_ONLY)
    assert written <= set(TOPICS)
    assert not any(re.search("command|control|setcmd", topic) for topic in TOPICS)


def test_every_output_of_a_stage_names_a_topic_of_the_closed_list() -> None:
    named = set()
    for path in SOURCES:
        if "stages" not in path.parts and "core" not in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Output":
                first = (
                    node.args[0] if node.args else next(k.value for k in node.keywords if k.arg == "topic")
                )
                named.add(ast.unparse(first))
    topics = {name for name in named if name.startswith("TOPIC_")}
    assert topics <= {
        f"TOPIC_{n}" for n in ("FINDINGS", "ALERTS", "CARDS", "FORECASTS", "SETPOINTS", "INTERVALS")
    }
    assert named - topics <= {"record.topic + DLQ_SUFFIX"}


def test_a_recommendation_is_advice_and_cannot_say_otherwise() -> None:
    assert get_args(get_type_hints(Setpoint)["advice_only"]) == (True,)
    words = {name for kind in MESSAGES.values() for name in kind.__struct_fields__}
    assert words.isdisjoint({"ctlVal", "select", "operate", "execute"})


def test_no_code_encodes_a_command_frame() -> None:
    """C37.118 command frames (type 4) are read and counted, never made; nothing speaks IEC 60870 or DNP3."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"def encode_command|c104|dnp3|\bC_SC_|\bC_SE_", text), path
