"""Reading of many runs at once: one statement for hundreds of them, each a look at an index."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Select, select

from lrpilot_controller.journal.codec import Row
from lrpilot_controller.journal.tables import events, runs

RECORD = ("n", "at", *Row.__slots__)
PART = 200  # runs read at once

Part = tuple[int, int]


def parts(connection: Connection) -> list[Part]:
    """All runs in order of their first appearance, as ranges of ids."""
    ids = connection.scalars(select(runs.c.id).order_by(runs.c.id)).all()
    return [(ids[i], ids[min(i + PART, len(ids)) - 1]) for i in range(0, len(ids), PART)]


def every(connection: Connection, kinds: Collection[str], part: Part) -> Sequence[Any]:
    """All records of these kinds: the run's id, project and name, then `RECORD`."""
    # For each run and kind one range of the index that telemetry is not in.
    query = _columns().join(events, (events.c.run_id == runs.c.id) & (events.c.kind.in_(kinds)))
    return connection.execute(query.where(runs.c.id.between(*part))).all()


def newest(
    connection: Connection, kinds: Collection[str], count: int, part: Part | None = None
) -> Sequence[Any]:
    """The newest `count` records of these kinds of each run, columns as in `every`."""
    last = (
        select(events.c.n)
        .where(events.c.run_id == runs.c.id, events.c.kind.in_(kinds))
        .order_by(events.c.n.desc())
        .limit(count)
        .correlate(runs)
    )
    query = _columns().join(events, (events.c.run_id == runs.c.id) & events.c.n.in_(last))
    if part is not None:
        query = query.where(runs.c.id.between(*part))
    return connection.execute(query.order_by(runs.c.id, events.c.n)).all()


def _columns() -> Select[Any]:
    named = (runs.c.id, runs.c.project, runs.c.name)
    return select(*named, *(events.c[name] for name in RECORD)).select_from(runs)
