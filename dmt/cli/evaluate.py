"""`dmt evaluate`: each measure as one line of JSON."""

from __future__ import annotations

import typer

app = typer.Typer(help="Measure a model; each command prints one line of JSON.", no_args_is_help=True)
