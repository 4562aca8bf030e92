"""The `dmt` program: its commands, and how errors and signals become one line and an exit code.

0 done; 1 a check failed (`doctor`); 2 bad input; 130 interrupted; 143 terminated. Any other
exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import click
import typer

from .. import __version__
from ..errors import InputError
from . import evaluate, generate, learn

app = typer.Typer(
    name="dmt",
    help="A portrait and a voice become a talking video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("generate")(generate.generate)
app.command("demo")(generate.demo)
app.command("corpus")(learn.corpus)
app.command("train")(learn.train)
app.add_typer(evaluate.app, name="evaluate")


class Terminated(BaseException):
    """SIGTERM, raised where the program stands, so that temporary files are removed on the way out."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"dmt {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A portrait and a voice become a talking video."""


@app.command()
def doctor() -> None:
    """Say what this machine has, test every operator, and give the command that mends each fault."""
    from ..doctor import examine
    from .report import show_checks

    checks = examine()
    show_checks(checks)
    if any(check.state == "bad" for check in checks):
        raise typer.Exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `dmt` and leave the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run `dmt` with `arguments` (default: the process's own) and return the exit code."""
    command = typer.main.get_command(app)
    try:
        with _terminable():
            outcome: Any = command.main(args=arguments, prog_name="dmt", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except InputError as error:
        return _fail(str(error), 2)
    except click.exceptions.NoArgsIsHelpError as error:
        typer.echo(error.format_message())
        return 2
    except click.ClickException as error:
        return _fail(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted; nothing was written", 130)
    except Terminated:
        return _fail("terminated; nothing was written", 143)


def _fail(sentence: str, code: int) -> int:
    print("dmt:", " ".join(sentence.split()), file=sys.stderr)
    return code


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds the stack instead of killing the process where it stands."""

    def stop(number: int, frame: Any) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: whoever runs us there handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
