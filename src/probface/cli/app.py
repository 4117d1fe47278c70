"""All verbs, and what they share: exit codes, one-line errors, no traceback."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import Annotated, Any

import typer

from probface.cli import (
    bench,
    calibrate,
    convert,
    data,
    demo,
    detect,
    embed,
    enroll,
    evaluate,
    export,
    gallery,
    identify,
    models,
    score,
    train,
    verify,
)
from probface.cli.output import printable
from probface.errors import ProbFaceError

EXIT_YES, EXIT_NO, EXIT_TROUBLE, EXIT_INTERRUPTED = 0, 1, 2, 130
TRACEBACK = "PROBFACE_TRACEBACK"
"""Environment variable; if it is set, an error that nobody foresaw is shown with its traceback."""

_UsageError: Any = typer.BadParameter.__mro__[1]
"""What the parser raises on a wrong command line; where it lives differs between versions of typer."""

app = typer.Typer(
    name="probface",
    help="Face embeddings that know when they are unsure.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("verify")(verify.verify_command)
app.command("detect")(detect.detect_command)
app.command("embed")(embed.embed_command)
app.command("score")(score.score_command)
app.command("enroll")(enroll.enroll_command)
app.command("identify")(identify.identify_command)
app.command("evaluate")(evaluate.evaluate_command)
app.command("demo")(demo.demo_command)
app.command("export")(export.export_command)
app.command("calibrate")(calibrate.calibrate_command)
app.add_typer(gallery.app, name="gallery")
app.add_typer(train.app, name="train")
app.add_typer(convert.app, name="convert")
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")
app.add_typer(models.app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        from probface import __version__

        print(f"probface {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Face embeddings that know when they are unsure."""


def run(arguments: list[str]) -> int:
    """Run one command line.

    Returns:
        0 done (verify: match), 1 the answer is no, 2 trouble (one line on standard error), 130 interrupted.
    """
    code = _run(arguments)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()  # here, since what fails when the interpreter ends has an exit code of its own
    except OSError as error:
        _silence()
        if not isinstance(error, BrokenPipeError) and code != EXIT_TROUBLE:
            _trouble(f"standard output: cannot be written ({error.strerror}); what was asked for is done, unanswered")
        return EXIT_TROUBLE
    return code


def _run(arguments: list[str]) -> int:
    try:
        result = app(arguments or ["--help"], prog_name="probface", standalone_mode=False)
    except ProbFaceError as error:
        return _trouble(str(error))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SystemExit:
        # So the parser ends when the reader of our output has gone (`| head`): nothing is left to say. Its exit code,
        # 1, would be a "no".
        return EXIT_TROUBLE
    except _UsageError as error:
        return _trouble(f"{error.format_message().rstrip('.')}. See 'probface --help'.")
    except OSError as error:
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return _unforeseen(f"{where}{error.strerror or error}; mend that and try again")
    except Exception as error:  # noqa: BLE001  the last resort: Python's own exit code, 1, would be a "no"
        text = f"unexpected {type(error).__name__}: {error}"
        return _unforeseen(f"{text}; set {TRACEBACK}=1 for the details and report it")
    return result if isinstance(result, int) else EXIT_YES


def _trouble(message: str) -> int:
    with suppress(OSError):  # nobody can be told
        print("probface: " + printable(" ".join(message.split())), file=sys.stderr)
    return EXIT_TROUBLE


def _unforeseen(message: str) -> int:
    if os.environ.get(TRACEBACK):
        with suppress(OSError):
            traceback.print_exc()
    return _trouble(message)


def _silence() -> None:
    """Let what is still waiting to be written go nowhere, or the interpreter would fail on it again at its end."""
    with suppress(OSError, ValueError):  # a stream without a file behind it
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, sys.stdout.fileno())
        finally:
            os.close(nowhere)
