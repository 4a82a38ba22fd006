"""`lrpilot`, to be forked with all that it needs to serve. Arguments: those of `lrpilot`."""

import sys

import support.preloaded  # noqa: F401
from lrpilot_controller import cli


def main(*arguments: str) -> None:
    """Be `lrpilot` with these arguments."""
    sys.argv[1:] = arguments
    cli.main()
