"""`lrpilot doctor`: what is wrong here, and what to do about it."""

import json
import sys
from collections.abc import Callable

import click

from lrpilot_controller.cli import checkup, database
from lrpilot_controller.cli.daemon import address_of
from lrpilot_controller.cli.options import json_option, storage_option
from lrpilot_controller.errors import ConfigError
from lrpilot_controller.storage import Storage

_SIGNS = {checkup.OK: ("ok", "green"), checkup.NOTE: ("--", "cyan"), checkup.WRONG: ("!!", "red")}


@click.command()
@click.option(
    "--daemon",
    "only_daemon",
    is_flag=True,
    help="Look at the daemon only, which must answer: a probe.",
)
@storage_option
@json_option
def doctor(only_daemon: bool, storage: Storage | None, as_json: bool) -> None:
    """Look at what goes wrong for people, and say what to do; exit status 1 where it is wrong."""
    found = _daemon(storage, needed=True) if only_daemon else _look(storage)
    if as_json:
        click.echo(json.dumps([checkup.to_json(finding) for finding in found], indent=2))
    else:
        for finding in found:
            sign, colour = _SIGNS[finding.level]
            click.echo(f"{click.style(sign, fg=colour)} {finding.name + ':':13}{finding.says}")
            if finding.todo:
                click.echo(f"   {'':13}-> {finding.todo}")
    sys.exit(any(finding.level == checkup.WRONG for finding in found))


def _look(storage: Storage | None) -> list[checkup.Finding]:
    kept = storage or Storage.default()
    where = kept.folder
    checks: list[Callable[[], checkup.Finding]] = [
        checkup.python,
        checkup.packages,
        checkup.environment,
        lambda: checkup.directory(where),
        lambda: checkup.free_space(where),
    ]
    if kept.database is None:
        checks += [
            lambda: checkup.disk_speed(where),
            lambda: checkup.journal(where),
            lambda: checkup.trials(where),
            lambda: checkup.clock(where),
        ]
    found = [check() for check in checks]
    if kept.database is not None:
        found += database.look(kept.database)
    return [*found, *_daemon(storage, needed=False)]


def _daemon(storage: Storage | None, *, needed: bool) -> list[checkup.Finding]:
    try:
        address = address_of(storage)
    except ConfigError as error:
        return [checkup.Finding("socket", checkup.WRONG, str(error))]
    return [checkup.daemon_socket(address), checkup.answers(storage, needed=needed)]
