"""The command line: one file to a verb. ``main`` is the entry point of ``probface``."""

from __future__ import annotations


def main() -> None:
    """Run the command line and end the process with its exit code."""
    import sys

    from probface.cli.app import run

    sys.exit(run(sys.argv[1:]))
