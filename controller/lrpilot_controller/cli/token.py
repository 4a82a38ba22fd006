"""`lrpilot token`: who may come in over TCP. It works beside a running daemon, or without one."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from lrpilot_controller.cli.access import tokens_in, tokens_option
from lrpilot_controller.cli.options import json_option, storage_option
from lrpilot_controller.errors import ConfigError
from lrpilot_controller.server.access import tokens as access
from lrpilot_controller.storage import Storage


@click.group()
def token() -> None:
    """Make, list, renew and revoke tokens.

    A daemon on TCP lets in who shows one. Each has a name, which signs what is asked with it, a
    role, and the projects that it is good for: a trainer may hold sessions of runs in them; a
    viewer may look at their runs; an operator may look, and ask anything of them. A running daemon
    follows every change within seconds, and needs no restart.
    """


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["trainer", "viewer", "operator"]), required=True)
@click.option(
    "--project",
    "projects",
    multiple=True,
    metavar="P",
    help="Repeatable. Default: all; a trainer needs one.",
)
@click.option(
    "--days", type=click.FloatRange(min=0, min_open=True), help="Valid so long. Default: for ever."
)
@storage_option
@tokens_option
def create(
    name: str,
    role: str,
    projects: tuple[str, ...],
    days: float | None,
    storage: Storage | None,
    tokens: Path | None,
) -> None:
    """Make a token NAME, and print its secret, once."""
    _shown(access.create(_file(storage, tokens, make=True), name, role, projects, days))


@token.command()
@click.argument("name")
@click.option(
    "--overlap",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="HOURS",
    help="The old secret stays valid so long. Default: 0.",
)
@storage_option
@tokens_option
def rotate(name: str, overlap: float, storage: Storage | None, tokens: Path | None) -> None:
    """Give token NAME a new secret, and print it, once. Name, role and projects stay."""
    _shown(access.rotate(_file(storage, tokens), name, overlap * 3600))


@token.command()
@click.argument("name")
@storage_option
@tokens_option
def revoke(name: str, storage: Storage | None, tokens: Path | None) -> None:
    """Take token NAME back. Sessions that it opened end within seconds; their training goes on."""
    access.revoke(_file(storage, tokens), name)
    click.echo(f"token {name} is revoked")


@token.command("list")
@storage_option
@tokens_option
@json_option
def list_(storage: Storage | None, tokens: Path | None, as_json: bool) -> None:
    """List the tokens; their secrets are kept nowhere."""
    entries = access.read(_file(storage, tokens))
    if as_json:
        told = [entry.model_dump(exclude={"sha256"}) for entry in entries]
        click.echo(json.dumps(told, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "role", "projects", "created (UTC)", "expires (UTC)", box=None)
    for entry in entries:
        projects = "all" if entry.projects is None else ", ".join(entry.projects)
        expires = "never" if entry.expires is None else _day(entry.expires)
        table.add_row(entry.name, entry.role, projects, _day(entry.created), expires)
    Console().print(table)


def _file(storage: Storage | None, named: Path | None, make: bool = False) -> Path:
    where = storage or Storage.default()
    if make and named is None:
        try:
            where.make_folder()
        except OSError as error:
            raise ConfigError(f"--storage {where}: {error}") from error
    return tokens_in(where.folder, named)


def _shown(secret: str) -> None:
    """The secret alone on standard output, so that a script can take it."""
    click.echo(secret)
    click.echo("It is shown this once. Give it to the client as LRPILOT_TOKEN.", err=True)


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
