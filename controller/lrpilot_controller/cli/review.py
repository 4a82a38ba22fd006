"""`lrpilot review`: the Optuna dashboard on the decisions, for this machine only."""

from functools import partial
from wsgiref.simple_server import WSGIServer

import click

from lrpilot_controller.cli.commands import judge
from lrpilot_controller.cli.options import journal_in, storage_option
from lrpilot_controller.cli.trials import catch_up
from lrpilot_controller.errors import ConfigError, NotFound
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.dashboard import HOST, Link, Review, pick_run
from lrpilot_controller.tuning.runpage import path_of


@click.command()
@click.argument("run", required=False)
@storage_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes a free one.",
)
@click.option("--no-serve", is_flag=True, help="Print the links and end.")
def review(run: str | None, storage: Storage | None, port: int, no_serve: bool) -> None:
    """Open the Optuna dashboard on every decision; with RUN, print the links to it.

    RUN is project/name, or name where that is unique. The dashboard has no login and listens on
    127.0.0.1 only; from another machine use `ssh -L 8080:127.0.0.1:8080`.
    """
    if no_serve and not port:
        raise ConfigError("--port 0 with --no-serve: links need the port of a dashboard; name it")
    kept = storage or Storage.default()
    if kept.database is None and not kept.folder.is_dir():
        raise NotFound(
            f"no storage at {kept}: no daemon has run there yet, or --storage names another "
            "directory"
        )
    catch_up(kept)
    with Review.open(kept) as trials:
        links = trials.links()
        shown = links if run is None else pick_run(links, run)
        if no_serve:
            _print(shown, port)
            return

        def judged(run: str, decision: int, good: bool) -> None:
            judge(run, decision, good, storage)
            catch_up(kept)

        with trials.server(port, partial(journal_in, kept), judged) as server:
            try:
                _serve(server, shown if run is not None else [])
            except KeyboardInterrupt:
                click.echo()


def _serve(server: WSGIServer, links: list[Link]) -> None:
    port = server.server_port
    click.echo(f"dashboard: http://{HOST}:{port}/dashboard (Ctrl-C ends it)")
    _print(links, port)
    server.serve_forever()


def _print(links: list[Link], port: int) -> None:
    for link in links:
        if link.number is None:
            at = f"http://{HOST}:{port}{path_of(link.run)}"
            click.echo(f"{link.run}, {link.outcome} at step {link.step}: {at}")
        click.echo(f"{_told(link)}: {link.url(port)}")


def _told(link: Link) -> str:
    if link.number is None:
        return f"{link.run} in Optuna, with its picture and its probes"
    if link.lr is not None:
        loss = "" if link.value is None else f", final loss {link.value:.4g}"
        return f"{link.run} as a whole: LR {link.lr:.4g}, {link.outcome}{loss}"
    gain = "" if link.value is None else f", gain {link.value:+.2f}"
    return (
        f"{link.run} decision {link.decision}: {link.action} at step {link.step}, "
        f"{link.outcome}{gain}"
    )
