"""How a journal's tables become smaller: each function is a part of one short transaction."""

from sqlalchemy import Connection, delete, func, insert, select

from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.journal.base import Held
from lrpilot_controller.journal.codec import Row, kind_names
from lrpilot_controller.journal.tables import checkpoints, events, forgotten, runs

SWEPT = 1000  # records in a transaction, so that no commit waits long

_SAMPLES = kind_names([Samples])[0]
_TELEMETRY = kind_names([Samples, Thinned])


def telemetry(connection: Connection, run_id: int) -> list[Held]:
    """A run's records of telemetry, in order, without their payload."""
    query = (
        select(events.c.n, events.c.count, events.c.kind == _SAMPLES)
        .where(events.c.run_id == run_id, events.c.kind.in_(_TELEMETRY))
        .order_by(events.c.n)
    )
    return [Held(n, count, bool(whole)) for n, count, whole in connection.execute(query)]


def thin(connection: Connection, run_id: int, first: int, last: int, row: Row) -> bool:
    """Puts `row` in the place of an attempt's telemetry; False where `last` is none of it."""
    mine = (
        events.c.run_id == run_id,
        events.c.kind.in_(_TELEMETRY),
        events.c.attempt == row.attempt,
    )
    at = connection.scalar(select(events.c.at).where(*mine, events.c.n == last))
    if at is None:
        return False
    connection.execute(delete(events).where(*mine, events.c.n.between(first, last)))
    columns = {name: getattr(row, name) for name in Row.__slots__}
    connection.execute(insert(events).values(run_id=run_id, n=last, at=at, **columns))
    return True


def last_seen(connection: Connection) -> list[tuple[str, str, float]]:
    """Project, name and time of the newest record of each run, the longest ago first."""
    newest = (
        select(events.c.at)
        .where(events.c.run_id == runs.c.id)
        .order_by(events.c.n.desc())
        .limit(1)
        .scalar_subquery()
        .label("seen")
    )
    query = select(runs.c.project, runs.c.name, newest).order_by("seen")
    return [(project, name, at) for project, name, at in connection.execute(query)]


def forget(connection: Connection, run_id: int) -> None:
    """Takes a run out of the list; its records are left to `sweep`."""
    connection.execute(delete(runs).where(runs.c.id == run_id))
    connection.execute(insert(forgotten).values(run_id=run_id))


def next_id(connection: Connection) -> int:
    """An id for a new run that no run has, and none whose records are still there."""
    ids = (runs.c.id, forgotten.c.run_id)
    return 1 + max(connection.scalar(select(func.max(column))) or 0 for column in ids)


def sweep(connection: Connection) -> bool:
    """Deletes some of what is left of forgotten runs; whether there was any."""
    run_id = connection.scalar(select(func.min(forgotten.c.run_id)))
    if run_id is None:
        return False
    mine = events.c.run_id == run_id
    part = select(events.c.n).where(mine).order_by(events.c.n).limit(SWEPT)
    gone = connection.execute(delete(events).where(mine, events.c.n.in_(part)))
    if gone.rowcount < SWEPT:
        connection.execute(delete(checkpoints).where(checkpoints.c.run_id == run_id))
        connection.execute(delete(forgotten).where(forgotten.c.run_id == run_id))
    return True
