"""Protects the logs: one line of JSON per event, whatever is put into it, and quiet libraries."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from streamproc.shell.logs import set_up_logs


@pytest.fixture(autouse=True)
def _keep_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_event_is_one_line_of_json_with_its_fields_beside_it() -> None:
    out = io.StringIO()
    set_up_logs(stream=out)
    logging.getLogger("streamproc.host").warning(
        "batch failed", extra={"topic": "t", "offset": 3, "odd": {1, 2}}
    )
    (line,) = out.getvalue().splitlines()
    told = json.loads(line)
    assert told["ts"].endswith("Z")
    assert {k: told[k] for k in ("level", "logger", "event", "topic", "offset", "odd")} == {
        "level": "WARNING",
        "logger": "streamproc.host",
        "event": "batch failed",
        "topic": "t",
        "offset": 3,
        "odd": "{1, 2}",
    }


def test_an_exception_stays_on_its_line() -> None:
    out = io.StringIO()
    set_up_logs(stream=out)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("streamproc").exception("it broke")
    (line,) = out.getvalue().splitlines()
    assert "second" in json.loads(line)["error"]


def test_libraries_below_us_speak_from_warning_on() -> None:
    out = io.StringIO()
    set_up_logs("DEBUG", stream=out)
    logging.getLogger("aiokafka.consumer.fetcher").info("chatter")
    logging.getLogger("faust.app").info("chatter")
    logging.getLogger("aiokafka").warning("broker gone")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["broker gone"]


def test_a_person_can_read_the_console_form() -> None:
    out = io.StringIO()
    set_up_logs(stream=out, form="console")
    logging.getLogger("streamproc").info("worker started", extra={"partitions": 4})
    assert out.getvalue().rstrip().endswith("INFO    worker started partitions=4")
