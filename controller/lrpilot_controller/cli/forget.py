"""`lrpilot forget`: a clean slate for what was learned of a project."""

import click

from lrpilot_controller.cli.options import storage_option
from lrpilot_controller.cli.trials import catch_up
from lrpilot_controller.errors import NotFound
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.forgetting import Slate, look
from lrpilot_controller.tuning.forgetting import forget as forget_project


@click.command()
@click.argument("project")
@storage_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(project: str, storage: Storage | None, yes: bool) -> None:
    """Let later runs of PROJECT learn nothing from what its runs did until now.

    No earlier intervention and no LR that was found counts any more; what comes after is learned
    from again. It cannot be undone. The runs and their stories stay, in the journal and in the
    dashboard. A daemon may run meanwhile, and needs no restart; a run that trains meanwhile keeps
    what it was told, until it decides.
    """
    kept = storage or Storage.default()
    catch_up(kept)  # else what is not written yet would count when it is
    there = look(kept, project)
    if not there:
        known = f"; of these something was: {', '.join(there.others)}" if there.others else ""
        raise NotFound(f"nothing was learned of project {project!r} in {kept}{known}")
    if not yes:
        click.confirm(f"Forget {_told(there)} of project {project}?", abort=True)
    click.echo(f"forgotten of project {project}: {_told(forget_project(kept, project))}")


def _told(slate: Slate) -> str:
    runs = "what 1 run found" if slate.runs == 1 else f"what {slate.runs} runs found"
    return f"{slate.interventions} intervention{'s' * (slate.interventions != 1)} and {runs}"
