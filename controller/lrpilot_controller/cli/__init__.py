"""The `lrpilot` command."""

import sys

import click

from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.version import VERSION

# Each command's module is imported when it is called: `serve` starts without plots and tables.
COMMANDS = {
    "serve": "run the daemon",
    "runs": "list the runs in the journal",
    "show": "tell a run's story: signals, decisions, outcomes, loss and LR",
    "replay": "check that a run's journal gives the same decisions again",
    "search": "search for the learning rate of a run that is training",
    "detect": "run the detectors on the losses of a run that you already have",
    "review": "open the Optuna dashboard on the decisions",
    "demo": "a run with an LR 30x too high, alone and under LRPilot",
}


class _Lazy(click.Group):
    """A group whose commands live in modules of their own names."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        command = getattr(import_module(f"lrpilot_controller.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="lrpilot")
def cli() -> None:
    """LRPilot, an autopilot for the learning rate."""


def main() -> None:
    """Run the command; an error of ours is one line, not a traceback, and exit status 1."""
    try:
        cli(prog_name="lrpilot")
    except LRPilotError as error:
        click.echo(f"lrpilot: {error}", err=True)
        sys.exit(1)
