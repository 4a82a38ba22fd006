"""`lrpilot backup DEST`: a copy of the journal and the trials, beside a running daemon."""

import json
from pathlib import Path

import click

from lrpilot_controller.backup import back_up
from lrpilot_controller.cli.options import json_option, storage_option
from lrpilot_proto.rendezvous import default_storage


@click.command()
@click.argument("dest", type=click.Path(path_type=Path))
@storage_option
@click.option("--force", is_flag=True, help="Replace the files of an earlier copy there.")
@json_option
def backup(dest: Path, storage: Path | None, force: bool, as_json: bool) -> None:
    """Copy the journal, the trials and their pictures into the directory DEST.

    A daemon may be writing meanwhile: each copied database is one consistent state of it, and is
    checked after it is written. Tokens are not copied. To restore: `lrpilot serve --storage DEST`.
    """
    made = back_up(storage or default_storage(), dest.expanduser().absolute(), replace=force)
    if as_json:
        told = [{"path": str(one.path), "bytes": one.size} for one in made]
        click.echo(json.dumps({"copied": told}, indent=2))
        return
    for one in made:
        click.echo(f"{one.path}: {one.size / 2**20:.1f} MiB")
    click.echo(f"checked; to go on with it: lrpilot serve --storage {dest}")
