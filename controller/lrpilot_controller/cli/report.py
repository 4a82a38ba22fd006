"""`lrpilot report RUN -o FILE.html`: a run's story in one file that needs nothing else."""

from pathlib import Path

import click

from lrpilot_controller.cli.options import journal_in, storage_option
from lrpilot_controller.errors import ConfigError
from lrpilot_controller.storage import Storage
from lrpilot_controller.story import find_run


@click.command()
@click.argument("run")
@click.option(
    *("-o", "--output", "file"),
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="The file to write; one that is there is replaced.",
)
@storage_option
def report(run: str, file: Path, storage: Storage | None) -> None:
    """Write the story of RUN to one HTML file, with its picture; it opens without a network.

    RUN is project/name, or name where that is unique. It reads the journal: no daemon is needed.
    """
    from lrpilot_controller.tuning.report import page_of

    with journal_in(storage) as journal:
        key = find_run(journal, run)
        page = page_of(journal, key)
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--output {file}: {error.strerror or error}; name a file in a directory that is there "
            "and may be written to"
        ) from error
    click.echo(f"the story of {key} is in {file} ({file.stat().st_size / 1e6:.1f} MB)")
