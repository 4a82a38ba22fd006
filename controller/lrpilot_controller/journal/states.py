"""The states of engines in a journal's tables: each function is a part of one transaction."""

from sqlalchemy import Connection, delete, insert, select

from lrpilot_controller.journal.base import KEPT_CHECKPOINTS, Checkpoint
from lrpilot_controller.journal.codec import unpack_text
from lrpilot_controller.journal.tables import checkpoints, events


def save(connection: Connection, run_id: int, n: int, payload: bytes) -> bool:
    """Keeps a state of a run, among the newest; False where it has no record `n`."""
    record = select(events.c.at).where(events.c.run_id == run_id, events.c.n == n)
    at = connection.scalar(record)
    if at is None:
        return False
    mine = checkpoints.c.run_id == run_id
    connection.execute(delete(checkpoints).where(mine, checkpoints.c.n == n))
    connection.execute(insert(checkpoints).values(run_id=run_id, n=n, at=at, state=payload))
    newest = select(checkpoints.c.n).where(mine).order_by(checkpoints.c.n.desc())
    oldest = connection.scalar(newest.offset(KEPT_CHECKPOINTS - 1).limit(1))
    if oldest is not None:
        connection.execute(delete(checkpoints).where(mine, checkpoints.c.n < oldest))
    return True


def newest(connection: Connection, run_id: int, before: int | None) -> Checkpoint | None:
    """The newest state of a run, after the record `before` at the latest.

    Raises:
        JournalCorrupt: It is damaged.
    """
    query = (
        select(checkpoints.c.n, checkpoints.c.at, checkpoints.c.state)
        .where(checkpoints.c.run_id == run_id)
        .order_by(checkpoints.c.n.desc())
        .limit(1)
    )
    if before is not None:
        query = query.where(checkpoints.c.n <= before)
    found = connection.execute(query).one_or_none()
    return found and Checkpoint(found.n, found.at, unpack_text(found.state))
