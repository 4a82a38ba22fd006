"""`lrpilot runs`: list the runs in the journal."""

import json

import click

from lrpilot_controller.cli.options import journal_in, json_option, storage_option
from lrpilot_controller.storage import Storage
from lrpilot_controller.story import summaries

UNLIMITED = 1000  # columns; where there is no terminal


@click.command()
@click.option("--project", default="", help="Only this project's runs.")
@storage_option
@json_option
def runs(project: str, storage: Storage | None, as_json: bool) -> None:
    """List the runs in the journal, oldest first."""
    with journal_in(storage) as journal:
        told = summaries(journal, project)
    if as_json:
        click.echo(json.dumps([one.to_json() for one in told], indent=2))
        return
    from rich.console import Console
    from rich.table import Column, Table

    # A name is what the other commands are given: it is never cut short.
    name = Column("run", overflow="fold")
    table = Table(name, "state", "mode", "attempts", "step", "LR", "decisions", box=None)
    for one in told:
        lrs = ", ".join(f"{lr:.3g}" for lr in one.lrs)
        table.add_row(
            str(one.run),
            one.state,
            one.mode or "",
            str(one.attempts),
            str(one.step),
            lrs,
            str(one.applied),
        )
    console = Console()
    if not console.is_terminal:
        console.width = UNLIMITED
    console.print(table)
