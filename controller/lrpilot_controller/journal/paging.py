"""A run's records in the tables, page by page: no reader holds the database while it thinks."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from lrpilot_controller.journal import tables
from lrpilot_controller.journal.across import RECORD
from lrpilot_controller.journal.base import RunKey

_PAGE_ROWS, _PAGE_BYTES = 64, 1 << 18  # at most: a row of telemetry may be large

Reading = Callable[[], AbstractContextManager[Connection]]
"""Opens a connection for one page."""


@dataclass(slots=True)
class Head:
    """Where a run stands: its row, its last event, and the first one of those just appended."""

    id: int
    last: int
    first: int = 0


def head_of(connection: Connection, run: RunKey) -> Head | None:
    """Where a run stands; None where there is no such run."""
    last = (
        select(func.max(tables.events.c.n))
        .where(tables.events.c.run_id == tables.runs.c.id)
        .scalar_subquery()
    )
    found = connection.execute(
        select(tables.runs.c.id, last).where(
            tables.runs.c.project == run.project, tables.runs.c.name == run.name
        )
    ).one_or_none()
    return found and Head(found[0], found[1] or 0)


def records(reading: Reading, head: Head, after: int, kinds: Sequence[str] | None) -> Iterator[Any]:
    """The rows of a run's records after `after`, in order, columns as `RECORD`.

    All end at `head.last`, so that a record that comes meanwhile never precedes a missing one.

    Args:
        reading: opens a connection for one page.
        head: where the run stands.
        after: the number of the record before the first.
        kinds: only these; None for all.
    """
    # One range of an index per kind, merged: no sort, and no telemetry is touched for nothing.
    some: Sequence[str | None] = [None] if kinds is None else kinds
    ranges = [_range(reading, head, after, kind) for kind in some]
    yield from heapq.merge(*ranges, key=lambda row: row[0])


def _range(reading: Reading, head: Head, after: int, kind: str | None) -> Iterator[Any]:
    query = (
        select(*(tables.events.c[name] for name in RECORD))
        .where(tables.events.c.run_id == head.id, tables.events.c.n <= head.last)
        .order_by(tables.events.c.n)
    )
    if kind is not None:
        query = query.where(tables.events.c.kind == kind)
    rows = 8
    while True:
        with reading() as connection:
            page = connection.execute(query.where(tables.events.c.n > after).limit(rows)).all()
        yield from page
        if len(page) < rows:
            return
        after = page[-1].n
        held = sum(len(row.payload) for row in page)
        rows = max(1, min(_PAGE_ROWS, rows * _PAGE_BYTES // held))
        del page  # before the next one is here
