"""The trials, brought up to the journal before a command looks at them."""

import click

from lrpilot_controller.cli.options import journal_in
from lrpilot_controller.errors import LRPilotError, NotFound
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.dashboard import not_installed
from lrpilot_controller.tuning.places import TrialsUnavailable
from lrpilot_controller.tuning.recorder import reconcile


def catch_up(kept: Storage) -> None:
    """Write what is missing; a daemon that runs does so itself, and holds the lock.

    Raises:
        ConfigError: Optuna is not installed.
    """
    try:
        with journal_in(kept) as journal:
            reconcile(kept, journal)
    except (TrialsUnavailable, NotFound):
        pass  # told by what comes next, if it matters
    except ImportError as error:
        raise not_installed(error) from error
    except LRPilotError as error:
        click.echo(f"lrpilot: the newest decisions may be missing: {error}", err=True)
