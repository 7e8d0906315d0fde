"""The console script. Each command lives in one file of `streamproc.cli` and is imported only when it is called."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command line."""
    # Our matrices are small: a second thread of the linear algebra would only spin and stall the others. It is
    # asked for before numpy is imported; who sets it himself is obeyed.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from streamproc.cli.root import app

    app()


if __name__ == "__main__":
    main()
