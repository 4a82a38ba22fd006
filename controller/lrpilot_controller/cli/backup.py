"""`lrpilot backup DEST`: a copy of the journal and the trials, beside a running daemon."""

import json
import shlex
from pathlib import Path

import click

from lrpilot_controller.backup import back_up
from lrpilot_controller.cli.options import json_option, storage_option
from lrpilot_controller.errors import ConfigError
from lrpilot_controller.storage import Storage


@click.command()
@click.argument("dest", type=click.Path(path_type=Path))
@storage_option
@click.option("--force", is_flag=True, help="Replace the files of an earlier copy there.")
@json_option
def backup(dest: Path, storage: Storage | None, force: bool, as_json: bool) -> None:
    """Copy the journal, the trials and their pictures into the directory DEST.

    A daemon may be writing meanwhile: each copied database is one consistent state of it, and is
    checked after it is written. Tokens are not copied. To restore: `lrpilot serve --storage DEST`.
    """
    kept = storage or Storage.default()
    if kept.database is not None:
        raise ConfigError(
            f"{kept} is a PostgreSQL database, and this copies files only: "
            f"pg_dump --schema='lrpilot_*' --file={dest} {shlex.quote(str(kept))}"
        )
    made = back_up(kept.folder, dest.expanduser().absolute(), replace=force)
    if as_json:
        told = [{"path": str(one.path), "bytes": one.size} for one in made]
        click.echo(json.dumps({"copied": told}, indent=2))
        return
    for one in made:
        click.echo(f"{one.path}: {one.size / 2**20:.1f} MiB")
    click.echo(f"checked; to go on with it: lrpilot serve --storage {dest}")
