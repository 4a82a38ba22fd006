"""What the demo prints: a bar per run while it trains, and a report of both afterwards."""

import io
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from lrpilot.client.discovery import Finder, Finding
from lrpilot.decisions import AppliedDecision
from lrpilot.demo.picture import picture
from lrpilot.demo.task import BEST_LR
from lrpilot.demo.train import RECORDED, OnStep, Trained, train_alone, train_guarded
from lrpilot.summary import Summary

WIDEST = 100

IN_YOUR_LOOP = """\
with lrpilot.attach(optimizer, model=model) as pilot:
    ...                    # your loop, as it is
        pilot.step(loss)   # once per optimizer step"""


def run(seed: int, multiplier: float, steps: int, reference: bool) -> int:
    """Train alone and under LRPilot, and compare; returns the exit status.

    Raises:
        RuntimeError: there is no text to train on.
    """
    begin = time.perf_counter()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a plot in "?" is better than a traceback
    console = Console(highlight=False)
    torch.set_num_threads(1)  # the model is small, and other work may be under way
    with _told_by_lrpilot(console):
        if (why := _no_daemon()) is not None:
            console.print(f"no daemon could be had: {why}", soft_wrap=True, markup=False)
            return 1
        lr = BEST_LR * multiplier
        console.print(
            f"A small transformer, SGD with momentum, learning rate {lr:.4g}: "
            f"{multiplier:g} times the best constant one.\n"
        )
        best = None
        if reference:
            with _bar(console, "best LR", steps) as on_step:
                best = train_alone(seed, BEST_LR, steps, on_step).val_loss
        with _bar(console, "alone", steps) as on_step:
            alone = train_alone(seed, lr, steps, on_step)
        if alone.lost_at is not None:
            console.print(
                f"  step {alone.lost_at}: the loss is no longer a number, nor is it "
                f"{len(alone.losses) - alone.lost_at} steps later:\n"
                "  the rest of the night would be NaN. Not trained any further."
            )
        with _bar(console, "under LRPilot", steps) as on_step:
            name = f"x{multiplier:g}-{time.strftime('%Y%m%d-%H%M%S')}"
            guarded, pilot = train_guarded(name, seed, lr, steps, on_step)
        summary, decisions = pilot.summary(), pilot.decisions
        pilot.close()
    console.print()
    # Printed past rich, which would wrap it: the plot has its width already.
    print(picture(alone, guarded, steps, min(console.width, WIDEST)))
    console.print()
    console.print(_losses(alone, guarded, best, seed, steps))
    _print_decisions(console, decisions)
    _print_end(console, guarded, summary, time.perf_counter() - begin)
    if not summary.connected:
        why = summary.refused or "the connection was lost"
        console.print(f"LRPilot's daemon did not answer to the end: {why}", soft_wrap=True)
        return 1
    return 0


def _no_daemon() -> str | None:
    """Find the user's daemon or start it, before anything is trained; why not, if so."""
    try:
        finder = Finder("auto")
    except ValueError as error:  # a malformed LRPILOT_ADDRESS
        return str(error)
    return None if finder.find() is Finding.ANSWERS else finder.why


@contextmanager
def _told_by_lrpilot(console: Console) -> Iterator[None]:
    """Print what LRPilot logs above the bar, where a plain handler would tear the bar apart."""

    class Above(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.print("  " + record.getMessage(), markup=False, style="yellow", soft_wrap=True)

    log, handler = logging.getLogger("lrpilot"), Above()
    propagates, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagates


@contextmanager
def _bar(console: Console, name: str, steps: int) -> Iterator[OnStep]:
    """A bar with loss and LR; where there is no terminal, its last state as one line."""
    columns = (
        TextColumn("{task.description:<13}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:<8.4g} LR {task.fields[lr]:.3g}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=steps, loss=math.nan, lr=math.nan)

        def on_step(step: int, loss: float, lr: float) -> None:
            progress.update(task, completed=step, loss=loss, lr=lr)

        yield on_step


def _losses(alone: Trained, guarded: Trained, best: float | None, seed: int, steps: int) -> Table:
    recorded = RECORDED.get((seed, steps))
    best_told = "measure it with --reference"
    if best is not None:
        best_told = f"{best:.3f}"
    elif recorded is not None:
        best_told = f"{recorded:.3f}, measured with --reference"
    table = Table.grid(padding=(0, 2))
    table.add_row(Text("final validation loss", style="bold"))
    table.add_row("  alone", f"{alone.val_loss:.3f}")
    table.add_row("  under LRPilot", Text(f"{guarded.val_loss:.3f}", style="bold"))
    table.add_row(f"  best constant LR ({BEST_LR:g})", best_told)
    return table


def _print_decisions(console: Console, decisions: Sequence[AppliedDecision]) -> None:
    console.print("\n[bold]what LRPilot decided[/], with the learning rates read back")
    if not decisions:
        console.print("  nothing: this run was healthy")
    table = Table.grid(padding=(0, 2))
    for told in decisions:
        before, after = told.lrs_before[0], told.lrs_after[0]
        lr = f"LR {before:.3g} -> {after:.3g}" if before != after else f"LR {after:.3g}"
        what = told.action if told.status == "applied" else f"{told.action} ({told.status})"
        table.add_row(f"step {told.applied_step}", what, lr, Text(told.reason))
    console.print(Padding(table, (0, 0, 0, 2)))


def _print_end(console: Console, guarded: Trained, summary: Summary, seconds: float) -> None:
    console.print(
        f"\nunder LRPilot: {summary.steps} steps (those rolled back are counted), "
        f"{summary.rollbacks} rollbacks,\n{summary.snapshots} snapshots in "
        f"{summary.snapshot_seconds:.2f} s; {guarded.seconds:.1f} s in all. "
        f"The whole demo took {seconds:.1f} s.\n\n[bold]look further[/]"
    )
    console.print(f"  lrpilot show {summary.run}\n  lrpilot review", soft_wrap=True, markup=False)
    console.print("\n[bold]in your own loop[/]")
    console.print(Padding(Text(IN_YOUR_LOOP), (0, 0, 0, 2)))
