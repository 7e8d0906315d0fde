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


def test_a_library_that_repeats_itself_is_heard_once_and_counted_and_we_always() -> None:
    out = io.StringIO()
    set_up_logs(stream=out)
    theirs, ours = logging.getLogger("aiokafka.client"), logging.getLogger("streamproc.app")
    for attempt in range(500):
        theirs.error("Unable connect to node with id %s", attempt)
        ours.error("worker fails")
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert sum(line["logger"] == "aiokafka.client" for line in told) == 1
    assert sum(line["logger"] == "streamproc.app" for line in told) == 500
    later = logging.LogRecord(
        "aiokafka.client", logging.ERROR, "", 0, "Unable connect to node with id %s", (1,), None
    )
    later.created += 11.0
    logging.getLogger().handlers[0].handle(later)
    assert json.loads(out.getvalue().splitlines()[-1])["held_back"] == 499


def test_a_library_that_says_true_for_its_exception_is_written_all_the_same() -> None:
    for form in ("json", "console"):
        out = io.StringIO()
        set_up_logs(stream=out, form=form)  # type: ignore[arg-type]
        record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "Unclosed AIOKafkaProducer", (), None)
        record.exc_info = True  # type: ignore[assignment]
        logging.getLogger().handlers[0].handle(record)
        assert "Unclosed AIOKafkaProducer" in out.getvalue()
