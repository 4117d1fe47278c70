"""The command line: one file to a verb. ``main`` is the entry point of ``probface``."""

from __future__ import annotations


def main() -> None:
    """Run the command line and end the process with its exit code."""
    import io
    import sys

    from probface.cli.app import run

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may be no text in the terminal's encoding
    sys.exit(run(sys.argv[1:]))
