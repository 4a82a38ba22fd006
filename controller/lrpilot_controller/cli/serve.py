"""`lrpilot serve`: run the daemon."""

import asyncio
import logging
from pathlib import Path

import click

from lrpilot_controller.config import load_config
from lrpilot_controller.errors import ConfigError
from lrpilot_controller.server.address import Address
from lrpilot_proto.rendezvous import default_storage, socket_path


@click.command()
@click.option("--listen", metavar="unix:PATH|HOST:PORT", help="Default: this storage's own socket.")
@click.option("--storage", metavar="DIR", help="Journal and reviews. Default: the user's own.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML settings.")
@click.option(
    "--linger",
    type=click.FloatRange(min=0),
    metavar="S",
    help="End S seconds after the last session. Default: never.",
)
def serve(
    listen: str | None, storage: str | None, config: Path | None, linger: float | None
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    settings = load_config(config)
    if storage is not None and "://" in storage:
        raise ConfigError(f"--storage {storage}: this version stores in a directory only")
    directory = Path(storage).expanduser().absolute() if storage else default_storage()
    address = Address.parse(listen or f"unix:{socket_path(directory)}")
    # Imported here: a wrong option is told at once, without loading the server.
    from lrpilot_controller.server.daemon import DaemonOptions
    from lrpilot_controller.server.daemon import serve as run

    asyncio.run(run(DaemonOptions(address, directory, settings, linger)))
