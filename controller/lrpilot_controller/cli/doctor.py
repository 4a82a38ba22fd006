"""`lrpilot doctor`: what is wrong here, and what to do about it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click

from lrpilot_controller.cli import checkup
from lrpilot_controller.cli.daemon import address_of
from lrpilot_controller.cli.options import json_option, storage_option
from lrpilot_controller.errors import ConfigError
from lrpilot_proto.rendezvous import default_storage

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
def doctor(only_daemon: bool, storage: Path | None, as_json: bool) -> None:
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


def _look(storage: Path | None) -> list[checkup.Finding]:
    where = storage or default_storage()
    checks: list[Callable[[], checkup.Finding]] = [
        checkup.python,
        checkup.packages,
        checkup.environment,
        lambda: checkup.directory(where),
        lambda: checkup.free_space(where),
        lambda: checkup.disk_speed(where),
        lambda: checkup.journal(where),
        lambda: checkup.trials(where),
        lambda: checkup.clock(where),
    ]
    return [*(check() for check in checks), *_daemon(storage, needed=False)]


def _daemon(storage: Path | None, *, needed: bool) -> list[checkup.Finding]:
    try:
        address = address_of(storage)
    except ConfigError as error:
        return [checkup.Finding("socket", checkup.WRONG, str(error))]
    return [checkup.daemon_socket(address), checkup.answers(storage, needed=needed)]
