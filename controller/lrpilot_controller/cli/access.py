"""Options of the commands that deal with tokens and certificates."""

from pathlib import Path

import click

from lrpilot_controller.cli.options import F
from lrpilot_controller.server.access.tokens import FILE

PEM = click.Path(dir_okay=False, path_type=Path, resolve_path=True)


def tokens_option(command: F) -> F:
    """`--tokens FILE`."""
    return click.option(
        "--tokens",
        type=click.Path(dir_okay=False, path_type=Path, resolve_path=True),
        metavar="FILE",
        help=f"The tokens' hashes. Default: {FILE} in the storage.",
    )(command)


def tokens_in(storage: Path, named: Path | None) -> Path:
    """The token file of a storage directory, unless another is named."""
    return named or storage / FILE
