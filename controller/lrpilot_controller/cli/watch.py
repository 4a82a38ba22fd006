"""`lrpilot watch [RUN]`: a run, or all of them, as they train."""

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import click

from lrpilot_controller.cli.following import Following, Note, all_runs, one_run
from lrpilot_controller.cli.options import json_option, storage_option
from lrpilot_controller.cli.words import story_json, summary_json
from lrpilot_controller.storage import Storage
from lrpilot_proto.v1 import operator_pb2

M = TypeVar("M")
N = TypeVar("N", contravariant=True)
REDRAW_S = 0.5  # without news: for the clock, and for a terminal that changed its size


@click.command()
@click.argument("run", required=False)
@click.option("--project", default="", help="Only this project's runs.")
@storage_option
@json_option
def watch(run: str | None, project: str, storage: Storage | None, as_json: bool) -> None:
    """Watch RUN train: losses, learning rate, signals, decisions, the search's progress.

    RUN is project/name, or name where that is unique; without one, all runs as a table. Without a
    terminal, or with --json, one line of JSON per change: of a run the keys of `show RUN --json`
    with its newest 100 signals and decisions, of all runs one line per run that changed, with the
    keys of `runs --json`. It goes on until Ctrl-C. A daemon that goes away is waited for; where
    none answers, what the journal holds is shown.
    """
    lines = as_json or not sys.stdout.isatty()
    if run is not None:
        of_run = one_run(storage, run)
        if lines:
            _print(of_run, lambda story: [story_json(story)])
        else:
            from lrpilot_controller.cli.screen import RunScreen

            _show(of_run, RunScreen(run))
        return
    of_all = all_runs(storage, project)
    if lines:
        _print(of_all, _summaries)
    else:
        from lrpilot_controller.cli.board import Board

        _show(of_all, Board())


def _summaries(changed: operator_pb2.ListRunsResponse) -> list[dict[str, Any]]:
    return [summary_json(summary) for summary in changed.runs]


def _print(following: Following[M], documents: Callable[[M], list[dict[str, Any]]]) -> None:
    """One line per document, until nobody reads them."""
    try:
        for message in following:
            if isinstance(message, Note):
                if message.text:
                    click.echo(f"lrpilot: {message.text}", err=True)
                continue
            for document in documents(message):
                click.echo(json.dumps(document, allow_nan=False))
    except KeyboardInterrupt:
        following.close()
    except BrokenPipeError:
        following.close()
        # What is still to be written would raise once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Screen(Protocol[N]):
    """Something that rich can draw, with news from time to time."""

    note: str

    def take(self, message: N, /) -> None:
        """There is news."""

    def farewell(self) -> str:
        """What is left on the terminal in the end; empty: nothing."""


class _Reader(Generic[M]):
    """Reads on a thread of its own, so that the screen lives while nothing comes."""

    def __init__(self, following: Following[M], screen: Screen[M]) -> None:
        self._following = following
        self._screen = screen
        self._changed = threading.Condition()
        self._news = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._read, name="lrpilot-watch", daemon=True)

    def show(self, draw: Callable[[], None]) -> None:
        """Draw what comes, until Ctrl-C.

        Raises:
            LRPilotError: nothing more can come.
        """
        self._thread.start()
        try:
            while True:
                with self._changed:
                    if self._error is not None:
                        raise self._error
                    draw()
                    self._changed.wait_for(lambda: self._news, REDRAW_S)
                    self._news = False
        except KeyboardInterrupt:
            return
        finally:
            self._following.close()
            self._thread.join(2.0)

    def _read(self) -> None:
        try:
            for message in self._following:
                with self._changed:
                    if isinstance(message, Note):
                        self._screen.note = message.text
                    else:
                        self._screen.take(message)
                    self._tell()
        except Exception as error:
            with self._changed:
                self._error = error
                self._tell()

    def _tell(self) -> None:
        self._news = True
        self._changed.notify()


def _show(following: Following[M], screen: Screen[M]) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        _Reader(following, screen).show(lambda: live.update(screen, refresh=True))  # type: ignore[arg-type]
    if farewell := screen.farewell():
        console.print(farewell, highlight=False)
