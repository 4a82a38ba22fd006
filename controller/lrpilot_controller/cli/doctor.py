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
@click.option("--daemon", "needed", is_flag=True, help="It is wrong if no daemon answers.")
@storage_option
@json_option
def doctor(needed: bool, storage: Path | None, as_json: bool) -> None:
    """Look at what goes wrong for people, and say what to do; exit status 1 where it is wrong."""
    found = _look(storage, needed)
    if as_json:
        click.echo(json.dumps([checkup.to_json(finding) for finding in found], indent=2))
    else:
        for finding in found:
            sign, colour = _SIGNS[finding.level]
            click.echo(f"{click.style(sign, fg=colour)} {finding.name + ':':13}{finding.says}")
            if finding.todo:
                click.echo(f"   {'':13}-> {finding.todo}")
    sys.exit(any(finding.level == checkup.WRONG for finding in found))


def _look(storage: Path | None, needed: bool) -> list[checkup.Finding]:
    where = storage or default_storage()
    checks: list[Callable[[], checkup.Finding]] = [
        checkup.python,
        checkup.packages,
        checkup.environment,
        checkup.forks,
        lambda: checkup.directory(where),
        lambda: checkup.free_space(where),
        lambda: checkup.disk_speed(where),
        lambda: checkup.journal(where),
        lambda: checkup.trials(where),
        lambda: checkup.clock(where),
    ]
    found = [check() for check in checks]
    try:
        found.append(checkup.daemon_socket(address_of(storage)))
    except ConfigError as error:
        found.append(checkup.Finding("socket", checkup.WRONG, str(error), "as it says"))
    else:
        found.append(checkup.answers(storage, needed=needed))
    return found
