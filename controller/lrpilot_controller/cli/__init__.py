"""The `lrpilot` command."""

import os
import sys

import click

from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.version import VERSION
from lrpilot_proto.rendezvous import NoHome

# A command's module is imported when it is called: `serve` starts without plots and tables.
COMMANDS = {
    "serve": "run the daemon",
    "runs": "list the runs in the journal",
    "show": "tell a run's story: signals, decisions, outcomes, loss and LR",
    "watch": "watch a run, or all of them, as they train",
    "replay": "check that a run's journal gives the same decisions again",
    "search": "search for the learning rate of a run that is training",
    "freeze": "let LRPilot decide nothing for a run",
    "release": "lift a freeze, back to the native learning rate",
    "set-lr": "set a run's learning rate",
    "approve": "let a decision that waits (mode advise) be carried out",
    "stop": "ask a training loop to end",
    "verdict": "say whether a decision was good or bad: later runs learn from it",
    "forget": "let later runs learn nothing from a project's past",
    "detect": "run the detectors on the losses of a run that you already have",
    "review": "open the Optuna dashboard on the decisions",
    "report": "write a run's story and picture to one HTML file",
    "backup": "copy the journal and the trials, beside a running daemon",
    "token": "make, list, renew and revoke tokens, for a daemon on TCP",
    "certificate": "make a certificate for a daemon on TCP, for a first try",
    "doctor": "look at what goes wrong for people, and say what to do",
    "demo": "a run with an LR 30x too high, alone and under LRPilot",
}
# What people ask of a run is one module.
ASKING = ("search", "freeze", "release", "set-lr", "approve", "stop", "verdict")


class _Lazy(click.Group):
    """A group whose commands live in modules of their own names."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        module = "commands" if cmd_name in ASKING else cmd_name
        found = import_module(f"lrpilot_controller.cli.{module}")
        command = getattr(found, cmd_name.replace("-", "_"))
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
    # gRPC's core tells of each failed handshake, in lines that are not the log's. It reads this
    # when it is imported, which only commands do that need it.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        cli(prog_name="lrpilot")
    except (LRPilotError, NoHome) as error:
        click.echo(f"lrpilot: {error}", err=True)
        sys.exit(1)
