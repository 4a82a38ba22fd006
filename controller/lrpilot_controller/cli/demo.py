"""`lrpilot demo`: runs `python -m lrpilot.demo`, which trains, in a process of its own."""

import subprocess
import sys

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def demo(args: tuple[str, ...]) -> None:
    """A run with an LR 30x too high, alone and under LRPilot."""
    # The controller never imports the adapters: a child process runs their demo.
    sys.exit(subprocess.call([sys.executable, "-m", "lrpilot.demo", *args]))
