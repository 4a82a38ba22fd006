"""`lrpilot search RUN`: ask the daemon for a search in a run that is training."""

import getpass
from pathlib import Path

import click

from lrpilot_controller.cli.options import storage_option


@click.command()
@click.argument("run")
@storage_option
@click.option("--who", metavar="NAME", help="Who asks. Default: the user's login name.")
@click.option("--why", default="", metavar="TEXT", help="The reason, for the run's story.")
def search(run: str, storage: Path | None, who: str | None, why: str) -> None:
    """Search for the learning rate of RUN anew, while it trains.

    RUN is project/name, or name where that is unique. Its trainer must be connected, and able to
    replay batches. The search costs steps of the run; `lrpilot show RUN` tells how far it is.
    """
    # Imported here: the other commands start without grpc.
    from lrpilot_controller.cli.daemon import operator
    from lrpilot_proto.v1 import operator_pb2

    command = operator_pb2.OperatorCommand(run=run, who=_login() if who is None else who, why=why)
    with operator(storage) as ask:
        click.echo(ask("Search", command).message)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return ""
