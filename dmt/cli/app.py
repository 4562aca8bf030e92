"""The `dmt` program: its commands, and how errors and signals become one line and an exit code.

0 done; 1 a check failed (`doctor`); 2 bad input; 130 interrupted; 143 terminated. Any other
exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import InputError
from ..process import settle
from . import batch, bench, convert, evaluate, export, extract, generate, inspect, learn, prepare, serve, web

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
app.command("extract")(extract.extract)
app.command("styles")(inspect.styles)
app.command("inspect")(inspect.inspect)
app.command("convert")(convert.convert)
app.command("serve")(serve.serve)
app.command("web")(web.web)
app.command("export")(export.export)
app.command("batch")(batch.batch)
app.command("corpus")(learn.corpus)
app.command("prepare")(prepare.prepare)
app.command("train")(learn.train)
app.command("train-renderer")(learn.train_renderer)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(bench.app, name="bench")


USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""click's UsageError: typer carries its own copy of click from some version on, and exports only the subclass."""


class Stopped(BaseException):
    """Ctrl-C or SIGTERM, raised where the program stands, so that temporary files are removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


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
    given = list(sys.argv[1:] if arguments is None else arguments)
    settle(patient=given[:1] != ["bench"])  # which measures the operators as they are in anybody's program
    sys.exit(run(arguments))


def dreamtalk() -> None:
    """The `dreamtalk` program. It begins here because its own package loads torch."""
    settle()
    from ..dreamtalk.cli import main

    main()


def run(arguments: Sequence[str] | None = None) -> int:
    """Run `dmt` with `arguments` (default: the process's own) and return the exit code."""
    command = typer.main.get_command(app)
    try:
        with _stoppable():
            outcome: Any = command.main(args=arguments, prog_name="dmt", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except InputError as error:
        return _fail(str(error), 2)
    except USAGE_ERROR as error:
        return _fail(_usage(error), 2) if str(error) else 2  # without words: the help has been printed instead
    except (Stopped, KeyboardInterrupt, typer.Abort) as stop:
        said = getattr(stop, "sentence", "stopped; no unfinished file is left")
        return _fail(said, getattr(stop, "exit_code", 130))


def _usage(error: Any) -> str:
    where = error.ctx.command_path if error.ctx is not None else "dmt"
    return f"{error.format_message()} (see {where} --help)"


def _fail(sentence: str, code: int) -> int:
    print("dmt:", " ".join(sentence.split()), file=sys.stderr)
    return code


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM unwind the stack; outside the main thread whoever runs us handles signals."""

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
