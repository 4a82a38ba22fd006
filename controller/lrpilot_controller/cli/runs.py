"""`lrpilot runs`: list the runs in the journal."""

import json
from pathlib import Path

import click

from lrpilot_controller.cli.options import journal_in, json_option, storage_option
from lrpilot_controller.story import stories


@click.command()
@click.option("--project", default="", help="Only this project's runs.")
@storage_option
@json_option
def runs(project: str, storage: Path | None, as_json: bool) -> None:
    """List the runs in the journal, oldest first."""
    with journal_in(storage) as journal:
        told = stories(journal, project)
    if as_json:
        click.echo(json.dumps([story.summary() for story in told], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "state", "mode", "attempts", "step", "LR", "decisions", box=None)
    for story in told:
        lrs = ", ".join(f"{lr:.3g}" for lr in story.lrs)
        changes = sum(d.applied_step is not None for d in story.decisions)
        table.add_row(
            str(story.run),
            story.state,
            story.mode or "",
            str(story.attempts),
            str(story.step),
            lrs,
            str(changes),
        )
    Console().print(table)
