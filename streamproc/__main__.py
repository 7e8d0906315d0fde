"""The console script. Each command lives in one file of `streamproc.cli` and is imported only when it is called."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from streamproc.cli.root import app

    app()


if __name__ == "__main__":
    main()
