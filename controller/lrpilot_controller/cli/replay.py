"""`lrpilot replay RUN`: whether a run's journal gives the same outputs again."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lrpilot_controller.cli.options import journal_in, json_option, storage_option
from lrpilot_controller.config import load_config
from lrpilot_controller.core.events import Decided, Output, Refused, SignalSeen
from lrpilot_controller.journal.base import RunKey
from lrpilot_controller.storage import Storage
from lrpilot_controller.story import find_run
from lrpilot_controller.story.replay import (
    Check,
    Row,
    check,
    compare,
    differing,
    made_json,
    start_of,
)

SHOWN = 6  # differences in a cell of the table
NOT_THEIRS = (
    "After the first difference the losses and the trainer's answers are still those of the "
    "recorded run: what training itself would have done with other decisions, no replay can tell."
)


@click.command()
@click.argument("run")
@storage_option
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Show what these TOML settings would have changed.",
)
@json_option
def replay(run: str, storage: Storage | None, config: Path | None, as_json: bool) -> None:
    """Replay the journal of RUN: project/name, or name where that is unique.

    Without --config: says whether every recorded output (signals, decisions, outcomes) comes out
    again, byte by byte; exit status 1, with the first difference, where one does not. What a daemon
    did not live to record is told, and is no difference. Where old telemetry is thinned it begins
    with the oldest kept state after that.

    With --config FILE: signals, decisions and refusals that other settings would have changed, the
    recorded ones beside the others.
    """
    if config is None:
        with journal_in(storage) as journal:
            key = find_run(journal, run)
            start = start_of(journal, key)
            found = check(key, journal.records(key, after=start.after), start)
        click.echo(json.dumps(found.to_json(), indent=2) if as_json else _checked(found))
        sys.exit(found.difference is not None)
    other = load_config(config)
    with journal_in(storage) as journal:
        key = find_run(journal, run)
        start = start_of(journal, key)
        rows = compare(key, journal.records(key, after=start.after), other, start)
    if as_json:
        told = {"run": str(key), "note": NOT_THEIRS, "rows": [row.to_json() for row in rows]}
        click.echo(json.dumps(told, indent=2))
        return
    _print(key, rows, str(config))


def _checked(found: Check) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in found.outputs.items())
    total = sum(found.outputs.values())
    head = f"{found.run}: {found.records} records, {total} outputs" + f" ({kinds})" * bool(kinds)
    if (gone := found.thinned) is not None:
        head += (
            f", from the state after record {found.after} on ({gone.count} losses between steps "
            f"{gone.first_step} and {gone.last_step} are thinned)"
        )
    if (difference := found.difference) is not None:
        once, again = difference.recorded, difference.replayed
        lines = [
            f"{head}; the first {difference.place} are byte-identical when replayed, then:",
            f"  recorded: {_json(made_json(once))}",
            f"  replayed: {_json(made_json(again)) if again else 'nothing more'}",
        ]
        if again is not None and type(once.output) is type(again.output):
            lines += [
                f"  {name}: recorded {a}, replayed {b}"
                for name, a, b in differing(once.output, again.output)
            ]
        return "\n".join([*lines, "another version of LRPilot decided then"])
    verdict = "all are byte-identical when replayed" if total else "nothing to compare"
    lines = [f"{head}; {verdict}"]
    if found.missing:
        lines.append(f"{len(found.missing)} more are not recorded yet (a daemon that died before")
        lines[-1] += " it wrote them leaves them to the next one):"
        lines += [f"  {_json(made_json(made))}" for made in found.missing]
    return "\n".join(lines)


def _print(key: RunKey, rows: Sequence[Row], name: str) -> None:
    differing = [row for row in rows if not row.same]
    count = f"{len(differing) or 'none'} of {len(rows)}"
    click.echo(f"{key}: other than recorded: {count} signals, decisions and refusals")
    if not differing:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("step", "recorded", f"with {name}", box=None)
    for row in differing:
        table.add_row(str(row.step), *_cells(row))
    Console(highlight=False, markup=False).print(table)
    click.echo(NOT_THEIRS)


def _cells(row: Row) -> tuple[str, str]:
    """What both sides say; where both speak of the same, only in what they differ."""
    left, right = row.recorded, row.other
    if left is None or right is None:
        return _alone(left), _alone(right)
    found = differing(_inner(left), _inner(right))
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    names = [(name, a, b) for name, a, b in found[:SHOWN] if name not in ("id", "action")]
    return (
        ", ".join([_head(left), *(f"{name} {a}" for name, a, _ in names), *more]),
        ", ".join([_head(right), *(f"{name} {b}" for name, _, b in names), *more]),
    )


def _alone(output: Output | None) -> str:
    match output:
        case None:
            return "-"
        case SignalSeen(signal):
            return f"{_head(output)}, severity {signal.severity:.2g}"
        case Decided(decision):
            return f"{_head(output)}: {decision.reason}"
        case Refused():
            return f"{_head(output)}: {output.reason}"
    raise TypeError(f"{type(output).__name__} is in no row")


def _head(output: Output) -> str:
    match output:
        case SignalSeen(signal):
            return f"signal {signal.kind}"
        case Decided(decision):
            return f"decision {decision.id}, {decision.action}"
        case Refused(signal):
            return f"refused, {signal.kind}"
    raise TypeError(f"{type(output).__name__} is in no row")


def _inner(output: Output) -> Any:
    """What holds the fields that a person would compare."""
    match output:
        case SignalSeen(inner) | Decided(inner):
            return inner
    return output


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
