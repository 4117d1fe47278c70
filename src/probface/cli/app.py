"""All verbs, and what they share: exit codes, one-line errors, no traceback."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from probface.cli import (
    bench,
    convert,
    data,
    demo,
    detect,
    embed,
    enroll,
    export,
    gallery,
    identify,
    models,
    score,
    train,
    verify,
)
from probface.errors import ProbFaceError

EXIT_YES, EXIT_NO, EXIT_TROUBLE, EXIT_INTERRUPTED = 0, 1, 2, 130

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
app.command("demo")(demo.demo_command)
app.command("export")(export.export_command)
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
    return result if isinstance(result, int) else EXIT_YES


def _trouble(message: str) -> int:
    print("probface: " + " ".join(message.split()), file=sys.stderr)
    return EXIT_TROUBLE
