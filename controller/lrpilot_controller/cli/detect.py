"""`lrpilot detect`: the detectors on the losses of a run that a person already has."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from lrpilot_controller.core.model import Signal, SignalKind
from lrpilot_controller.core.plain import to_plain
from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.plugins import make_detectors
from lrpilot_controller.streams import (
    BadInput,
    Names,
    Reading,
    Tags,
    csv_rows,
    json_lines,
    tensorboard_scalars,
)

Count = click.IntRange(min=1)


@click.command()
@click.argument(
    "path", metavar="[FILE]", default="-", type=click.Path(allow_dash=True, path_type=Path)
)
@click.option(
    "--from",
    "source",
    type=click.Choice(["json", "csv", "tb"]),
    default="json",
    show_default=True,
    help="JSON lines, CSV, or TensorBoard's event files (FILE is their directory).",
)
@click.option("--step", metavar="NAME", help="Field or column of the step. Default: step.")
@click.option(
    "--train-loss",
    metavar="NAME",
    help="Field or column of the training loss. Default: train_loss, train_loss_step or loss.",
)
@click.option("--val-loss", metavar="NAME", help="Of the validation loss. Default: val_loss.")
@click.option("--lr", metavar="NAME", help="Of the learning rate. Default: lr.")
@click.option("--tag", metavar="TAG", help="TensorBoard: the scalar that is the training loss.")
@click.option("--val-tag", metavar="TAG", help="TensorBoard: the validation loss.")
@click.option("--lr-tag", metavar="TAG", help="TensorBoard: the learning rate.")
@click.option("--total-steps", type=Count, metavar="N", help="The run's length, where known.")
@click.option("--steps-per-epoch", type=Count, metavar="N", help="Likewise the epoch's.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([kind.value for kind in SignalKind]),
    help="Print only signals of this kind; may be repeated.",
)
def detect(
    path: Path,
    source: str,
    step: str | None,
    train_loss: str | None,
    val_loss: str | None,
    lr: str | None,
    tag: str | None,
    val_tag: str | None,
    lr_tag: str | None,
    total_steps: int | None,
    steps_per_epoch: int | None,
    kinds: tuple[str, ...],
) -> None:
    """Run the detectors over the losses in FILE, or over standard input.

    Prints one JSON line per signal, as soon as the line that completes it is read, so that
    `tail -f train.jsonl | lrpilot detect` watches a run that is training:

    \b
    in:  {"step": 1, "train_loss": 2.3, "val_loss": null, "lr": 0.1}
    out: {"step": 1, "kind": "divergence", "since": 0, "severity": 1.0, "evidence": {...}}

    All fields may be missing or null, and losses "NaN", "Infinity" or "-Infinity"; a missing step
    is the one after the last. CSV needs a header; an empty cell is a missing value, as in the
    metrics.csv of Lightning's CSVLogger.
    """
    names, tags = Names(step, train_loss, val_loss, lr), Tags(tag, val_tag, lr_tag)
    if source == "tb" and names != Names():
        raise click.UsageError(
            "--step, --train-loss, --val-loss and --lr name fields; with "
            "--from tb use --tag, --val-tag and --lr-tag"
        )
    if source != "tb" and tags != Tags():
        raise click.UsageError("--tag, --val-tag and --lr-tag need --from tb")
    detectors = make_detectors(total_steps, steps_per_epoch)
    for reading in _readings(path, source, names, tags):
        for signal in detectors.update(
            reading.step, reading.train_loss, reading.val_loss, reading.lr
        ):
            if not kinds or signal.kind in kinds:
                click.echo(_line(signal))


def _readings(path: Path, source: str, names: Names, tags: Tags) -> Iterator[Reading]:
    if source == "tb":
        if str(path) == "-":
            raise BadInput("event files cannot be read from standard input: name their directory")
        yield from tensorboard_scalars(path, tags)
        return
    with _opened(path) as lines:
        yield from (csv_rows if source == "csv" else json_lines)(lines, names)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, or of standard input."""
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    if path.is_dir():
        raise BadInput(f"{path} is a directory: TensorBoard's event files need --from tb")
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise LRPilotError(f"cannot read {path}: {error.strerror}") from error


def _line(signal: Signal) -> str:
    told = to_plain(signal)
    ordered = {key: told[key] for key in ("step", "kind", "since", "severity", "evidence")}
    return json.dumps(ordered, allow_nan=False)
