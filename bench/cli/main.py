"""The `bench` command: its verbs, and how errors are shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer

from bench.cli import (
    apply,
    audit,
    check,
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
from bench.core.params import UserError

VERBS: dict[str, tuple[Callable[..., None], str | None]] = {
    "run": (run.run, run.EXAMPLE),
    "plan": (plan.plan, plan.EXAMPLE),
    "list": (listing.listing, listing.EXAMPLE),
    "report": (report.report, report.EXAMPLE),
    "compare": (compare.compare, compare.EXAMPLE),
    "reproduce": (reproduce.reproduce, reproduce.EXAMPLE),
    "doctor": (doctor.doctor, None),
    "prefetch": (prefetch.prefetch, prefetch.EXAMPLE),
    "evaluate": (evaluate.evaluate, evaluate.EXAMPLE),
    "train": (train.train, train.EXAMPLE),
    "check": (check.check, check.EXAMPLE),
    "new": (new.new, new.EXAMPLE),
    "ui": (ui.ui, ui.EXAMPLE),
    "audit": (audit.audit, audit.EXAMPLE),
    "sweep": (sweep.sweep, sweep.EXAMPLE),
    "apply": (apply.apply, apply.EXAMPLE),
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
    try:
        app()
    except UserError as error:
        if debug:
            raise
        typer.secho(f"error: {error}", err=True, fg="red")
        sys.exit(2)


if __name__ == "__main__":
    main()
