"""From an older version of the journal's tables to this one, a step at a time.

A step is one transaction, with the version that it leads to: whoever dies in it leaves the journal
as it was before. A version is never changed once it was released; another step is added.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sqlalchemy import Connection, select, update

from lrpilot_controller.journal import tables


def _long_runs(connection: Connection) -> None:
    """1 to 2: the states of engines, and runs that are dropped."""
    tables.checkpoints.create(connection)
    tables.forgotten.create(connection)


STEPS: Mapping[int, Callable[[Connection], None]] = MappingProxyType({1: _long_runs})
"""By the version that they start from; each leads to the next one."""

# What a reader finds in a journal of that version; the newest one has all tables.
_ADDED = {2: {tables.checkpoints.name, tables.forgotten.name}}


def tables_of(version: int) -> set[str]:
    """The tables that a journal of this version has."""
    later = (names for since, names in _ADDED.items() if since > version)
    return set(tables.metadata.tables).difference(*later)


def version_of(connection: Connection) -> int:
    """The version of a journal's tables."""
    return int(connection.execute(select(tables.meta.c.schema_version)).scalar_one())


def step(connection: Connection) -> bool:
    """Takes one step, if there is one to take; whether it did. The caller commits it."""
    version = version_of(connection)
    if version not in STEPS:
        return False
    STEPS[version](connection)
    connection.execute(update(tables.meta).values(schema_version=version + 1))
    return True
