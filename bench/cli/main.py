"""The `bench` command: verbs, and how errors are shown."""

from __future__ import annotations

import os
import sys

import typer

from bench.cli import (
    evaluate,
    inspect,
    maintain,
    plugin,
    prefetch,
    running,
    study,
    sweeping,
    track,
    training,
)
from bench.core.params import UserError

app = typer.Typer(
    name="bench",
    help=(
        "Which alignment method for my generative flow and my reward, and what does it cost? "
        "Every method at equal measured compute, against exact answers where they exist."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: bench run",
)

for module in (
    running,
    inspect,
    prefetch,
    evaluate,
    training,
    plugin,
    track,
    maintain,
    study,
    sweeping,
):
    module.register(app)


def run() -> None:
    """Entry point: bad input is one sentence and exit code 2; tracebacks need --debug."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
        os.environ["TILTBENCH_DEBUG"] = "1"
    try:
        app()
    except UserError as error:
        if debug:
            raise
        typer.secho(f"error: {error}", err=True, fg="red")
        sys.exit(2)


if __name__ == "__main__":
    run()
