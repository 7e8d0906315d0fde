"""The table of commands. A command's module is imported only when that command is called.

So `streamproc --help` answers at once: it prints this table and imports neither numpy nor Faust nor ONNX
Runtime, not even typer. Each module of the table has `register(app)`, which adds its command (or its group of
commands).

Exit codes: 0 done, 1 it failed (one sentence on stderr), 2 it was called in a wrong way.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from streamproc import __version__
from streamproc.errors import StreamprocError

COMMANDS: dict[str, tuple[str, str]] = {
    "run": (
        "streamproc.cli.run",
        "run the worker: frames and measurements in; alerts, forecasts and advice out",
    ),
    "serve": ("streamproc.cli.serve", "offer the models to other applications: Open Inference Protocol v2"),
    "demo": (
        "streamproc.cli.demo",
        "show the whole path on this machine, with real captures and a simulated grid",
    ),
    "score": ("streamproc.cli.score", "print the alerts of a recording as NDJSON, without a broker"),
    "replay": ("streamproc.cli.replay", "send a recording to Kafka"),
    "backfill": ("streamproc.cli.backfill", "send the history of series to the 48-hour forecasts"),
    "simulate": (
        "streamproc.cli.simulate",
        "make a seeded PMU fleet or SCADA points, into a file or to Kafka",
    ),
    "exogenous": ("streamproc.cli.exogenous", "publish what is known ahead: weather, prices, holidays"),
    "decode": ("streamproc.cli.decode", "print the C37.118 frames of a capture"),
    "train": ("streamproc.cli.train", "fit the models of a site from event-free data"),
    "evaluate": (
        "streamproc.cli.evaluate",
        "measure how well events are found and named, and series forecast",
    ),
    "backtest": ("streamproc.cli.backtest", "judge models of a series by a rolling backtest"),
    "backtest-many": ("streamproc.cli.backtest_many", "the same for many series, on one machine or several"),
    "compare": ("streamproc.cli.compare", "tell whether one model forecasts better than another"),
    "report": ("streamproc.cli.report", "draw the result of a backtest as one HTML page"),
    "grid": ("streamproc.cli.grid", "check a network file, or make one from CIM, pandapower or MATPOWER"),
    "check": ("streamproc.cli.check", "check a site file, this machine, the broker and the topics"),
    "top": ("streamproc.cli.top", "show a running service: rates, latencies, alerts, forecasts, advice"),
    "topics": (
        "streamproc.cli.topics",
        "plan and apply the topics that the service needs; export what forecasts are trained on",
    ),
    "schema": ("streamproc.cli.schema", "print the schemas of every message"),
    "alerts": ("streamproc.cli.alerts", "print the alerts of a broker, each transition once"),
    "explain": ("streamproc.cli.explain", "draw an alert: traces, scores, order of response"),
    "ack": ("streamproc.cli.ack", "acknowledge an alert"),
    "advice": ("streamproc.cli.advice", "recommendations: list, accept, reject, report"),
    "alarms": ("streamproc.cli.alarms", "list, shelve, return and reset alerts; print the table of states"),
    "dlq": ("streamproc.cli.dlq", "list and show the records that could not be evaluated"),
    "bench": ("streamproc.cli.bench", "measure the service on this machine, beside others"),
    "size": ("streamproc.cli.size", "tell how many workers and partitions a site needs"),
    "broker": ("streamproc.cli.broker", "start a local Apache Kafka"),
}


def help_text() -> str:
    """Return what `streamproc --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [
        "Usage: streamproc COMMAND [OPTIONS]",
        "",
        "Real-time grid telemetry: PMU and SCADA measurements in, alerts, forecasts and advice out.",
        "",
        "Commands:",
        *(f"  {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items()),
        "",
        "`streamproc COMMAND --help` tells the options of one command; `streamproc --version` the version.",
    ]
    return "\n".join(lines) + "\n"


def app(args: Sequence[str] | None = None) -> None:
    """Run one command line and leave with its exit code (always through SystemExit)."""
    words = list(sys.argv[1:] if args is None else args)
    name = words[0] if words else "--help"
    if name in {"--help", "-h", "help"}:
        sys.stdout.write(help_text())
        raise SystemExit(0)
    if name in {"--version", "-V"}:
        sys.stdout.write(f"streamproc {__version__}\n")
        raise SystemExit(0)
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, 1)
        wish = f"did you mean {near[0]!r}?" if near else "see `streamproc --help`"
        sys.stderr.write(f"streamproc: no command {name!r}; {wish}\n")
        raise SystemExit(2)
    raise SystemExit(_run(name, words))


def _run(name: str, words: list[str]) -> int:
    import typer  # late: the help does not need its 0.1 s

    # No traceback dressing and no completion options: errors of ours are one sentence, all others must be
    # seen whole.
    root = typer.Typer(
        name="streamproc",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    root.callback()(lambda: None)  # keeps a lone command under its own name
    import_module(COMMANDS[name][0]).register(root)
    try:
        root(args=words, prog_name="streamproc")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except StreamprocError as error:
        sys.stderr.write(f"streamproc: {error}\n")
        return 1
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; the interpreter must not complain about it once more
        # at exit.
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 1
    return 0
