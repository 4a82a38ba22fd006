"""`lrpilot search`, `freeze`, `release`, `set-lr`...: what people ask of a run, or say of it."""

import getpass
import os
from collections.abc import Callable
from typing import Any

import click

from lrpilot_controller.cli.options import F, storage_option
from lrpilot_controller.errors import NoDaemon, NotNow
from lrpilot_controller.storage import Storage
from lrpilot_controller.story.model import BAD, GOOD


def _options(command: F) -> F:
    """What all of them have."""
    for option in (
        click.option("--why", default="", metavar="TEXT", help="The reason, for the run's story."),
        click.option("--who", metavar="NAME", help="Who asks. Default: the user's login name."),
        storage_option,
        click.argument("run"),
    ):
        command = option(command)
    return command


def _ask(
    method: str, run: str, storage: Storage | None, who: str | None, why: str, **more: Any
) -> None:
    """Ask the daemon, and print its answer; `more` are the request's own fields."""
    click.echo(_asked(method, run, storage, who, why, **more))


def _asked(
    method: str, run: str, storage: Storage | None, who: str | None, why: str, **more: Any
) -> str:
    # Imported here: the other commands start without grpc.
    from lrpilot_controller.cli.daemon import operator
    from lrpilot_proto.v1 import operator_pb2

    request: Any = operator_pb2.OperatorCommand(
        run=run, who=_login() if who is None else who, why=why
    )
    if more:
        try:
            request = getattr(operator_pb2, f"{method}Request")(command=request, **more)
        except ValueError as error:  # of all numbers only a decision's has an end on the wire
            raise NotNow(
                f"run {run} has no decision {more.get('decision_id')}; `lrpilot show {run}` lists "
                "them"
            ) from error
    with operator(storage) as ask:
        return str(ask(method, request).message)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return ""


def _plain(name: str, method: str, text: str) -> click.Command:
    """A command that takes nothing but the run."""

    def ask(run: str, storage: Storage | None, who: str | None, why: str) -> None:
        _ask(method, run, storage, who, why)

    ask.__doc__ = text
    wrapped: Callable[..., None] = _options(ask)
    return click.command(name)(wrapped)


search = _plain(
    "search",
    "Search",
    """Search for the learning rate of RUN anew, while it trains.

    RUN is project/name, or name where that is unique. Its trainer must be connected, in one process
    and with snapshots of its model; where it cannot replay batches the search is more cautious. It
    costs steps of the run; `lrpilot show RUN` tells how far it is.
    """,
)
freeze = _plain(
    "freeze",
    "Freeze",
    """Let LRPilot decide nothing for RUN until it is released, whatever it sees.

    Signals are still recorded, and the plan in force stays. A search under way ends with its open
    program, on the best learning rate that it knows to be healthy. It lasts across restarts of the
    daemon and of the training process.
    """,
)
release = _plain(
    "release",
    "Release",
    """Lift a freeze of RUN, and lead it back to exactly its native learning rate.

    LRPilot decides for the run from then on. A search under way ends with its open program.
    """,
)
stop = _plain(
    "stop",
    "Stop",
    """Ask the training loop of RUN to end: `pilot.should_stop`, or Lightning's own flag.""",
)


@click.command("set-lr")
@_options
@click.argument("lr", type=float)
def set_lr(run: str, lr: float, storage: Storage | None, who: str | None, why: str) -> None:
    """Set the learning rate of RUN to LR, constant from now on.

    LR is that of the first param group, within the bounds of the run; the others keep their ratio
    to it. It is allowed while the run is frozen, and else holds until the next decision.
    """
    _ask("SetLr", run, storage, who, why, lr=lr)


@click.command()
@_options
@click.argument("decision", type=click.IntRange(min=1))
def approve(run: str, decision: int, storage: Storage | None, who: str | None, why: str) -> None:
    """Let the DECISION that waits in RUN (mode advise) be carried out; `show` tells its number.

    It is judged again first, by what the run is now. Of a search, the first program stands for all.
    """
    _ask("Approve", run, storage, who, why, decision_id=decision)


@click.command()
@_options
@click.argument("decision", type=click.IntRange(min=1))
@click.argument("word", metavar="good|bad", type=click.Choice([GOOD, BAD]))
def verdict(
    run: str, decision: int, word: str, storage: Storage | None, who: str | None, why: str
) -> None:
    """Say whether a DECISION of RUN was good or bad; `show` tells its number.

    It counts as a clear success or failure from then on, whatever was measured, in what later runs
    learn; the last word holds. It needs no session of the run, nor a daemon on this host.
    """
    click.echo(judge(run, decision, word == GOOD, storage, who, why))


def judge(
    run: str,
    decision: int,
    good: bool,
    storage: Storage | None,
    who: str | None = None,
    why: str = "",
) -> str:
    """Record a verdict, by the daemon or without one; what follows from it, in a sentence."""
    try:
        return _asked("Judge", run, storage, who, why, decision_id=decision, good=good)
    except NoDaemon:
        if storage is None and os.environ.get("LRPILOT_ADDRESS", "auto") != "auto":
            raise  # its files are elsewhere
        from lrpilot_controller.server.verdicts import verdict_on, write_verdict

        command = verdict_on(decision, good, _login() if who is None else who, why)
        return write_verdict(storage or Storage.default(), run, command)
