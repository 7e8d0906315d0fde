"""`python -m tools.dashboards [--check] [--runbook URL]`: write the files, or say which are not as they should be."""

from __future__ import annotations

import argparse
import sys

from tools.dashboards.outputs import ROOT, files
from tools.dashboards.rule_parts import RUNBOOK


def main() -> int:
    """Write or compare; return 1 if something differs."""
    parser = argparse.ArgumentParser(prog="python -m tools.dashboards")
    parser.add_argument("--check", action="store_true", help="write nothing; say what differs")
    parser.add_argument("--runbook", default=RUNBOOK, help="address of the runbook in `runbook_url`")
    options = parser.parse_args()
    differs = False
    for name, text in files(options.runbook).items():
        path = ROOT / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        differs = True
        print(name)  # noqa: T201
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(differs and options.check)


if __name__ == "__main__":
    sys.exit(main())
