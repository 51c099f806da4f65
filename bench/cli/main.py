"""The `bench` command: its verbs, and how errors are shown."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from bench.cli import (
    apply,
    archive,
    audit,
    check,
    claims,
    compare,
    doctor,
    evaluate,
    listing,
    new,
    plan,
    prefetch,
    prepare,
    report,
    reproduce,
    run,
    study,
    sweep,
    track,
    train,
    ui,
)
from bench.core.extras import lack
from bench.core.interrupted import Interrupted
from bench.core.local_source import search_here
from bench.core.names import printable
from bench.core.params import UserError
from bench.core.secrets import redacted

VERBS: dict[str, tuple[Callable[..., None], str | None]] = {
    "run": (run.run, run.EXAMPLE),
    "plan": (plan.plan, plan.EXAMPLE),
    "list": (listing.listing, listing.EXAMPLE),
    "report": (report.report, report.EXAMPLE),
    "compare": (compare.compare, compare.EXAMPLE),
    "claims": (claims.claims, claims.EXAMPLE),
    "reproduce": (reproduce.reproduce, reproduce.EXAMPLE),
    "doctor": (doctor.doctor, doctor.EXAMPLE),
    "prefetch": (prefetch.prefetch, prefetch.EXAMPLE),
    "evaluate": (evaluate.evaluate, evaluate.EXAMPLE),
    "train": (train.train, train.EXAMPLE),
    "check": (check.check, check.EXAMPLE),
    "new": (new.new, new.EXAMPLE),
    "ui": (ui.ui, ui.EXAMPLE),
    "audit": (audit.audit, audit.EXAMPLE),
    "sweep": (sweep.sweep, sweep.EXAMPLE),
    "apply": (apply.apply, apply.EXAMPLE),
    "export": (archive.export, archive.EXPORT_EXAMPLE),
    "import": (archive.import_run, archive.IMPORT_EXAMPLE),
    "clean": (archive.clean, archive.CLEAN_EXAMPLE),
}
"""What a verb does and an example of it, in the order of `bench --help`."""

GROUPS = {"track": track.group, "study": study.group, "prepare": prepare.group}
"""Verbs that have verbs of their own."""

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
for _name, (_verb, _example) in VERBS.items():
    app.command(_name, epilog=_example)(_verb)
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


def main() -> None:
    """Entry point: bad input is one sentence and exit code 2; tracebacks need --debug."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
        os.environ["TILTBENCH_DEBUG"] = "1"
    search_here()
    try:
        app()
    except UserError as error:
        if debug:
            raise
        _say(str(error))
        sys.exit(2)
    except ModuleNotFoundError as error:
        told = lack((error.name or "").partition(".")[0])
        if debug or not told:
            raise
        _say(told)
        sys.exit(2)
    except Interrupted as error:
        with contextlib.suppress(OSError):  # the terminal may be gone
            typer.secho(f"stopped: {error}.", err=True, fg="yellow")
        sys.exit(130)


def _say(error: str) -> None:
    """The sentence for people, and as JSON where that was asked for."""
    error = redacted(error)
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": error}))
    typer.secho(printable(f"error: {error}"), err=True, fg="red")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tiltbench {importlib.metadata.version('tiltbench')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="The version, and exit."),
    ] = False,
) -> None:
    """Of the command itself."""


if __name__ == "__main__":
    main()
