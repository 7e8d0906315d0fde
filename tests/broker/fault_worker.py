"""A worker process with a test stage: `fault_worker.py SITE.json sum|merge`; what `streamproc run` does otherwise."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import msgspec
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sum_stage import MergeStage, SumStage

from streamproc.config import SiteConfig
from streamproc.shell.logs import set_up_logs
from streamproc.shell.process import run_worker


def main() -> int:
    config = msgspec.convert(json.loads(Path(sys.argv[1]).read_text()), SiteConfig)
    set_up_logs("INFO", form="console")
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    stages = {"sum": SumStage, "merge": MergeStage}
    return uvloop.run(
        run_worker(config, [stages[sys.argv[2]]()], lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    )


if __name__ == "__main__":
    raise SystemExit(main())
