"""The journal's tables, in words that every relational database knows."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 2

metadata = MetaData()
meta = Table(
    "meta",
    metadata,
    Column("schema_version", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
)
runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("project", "name"),
)
# Without a foreign key to the run: one that is forgotten is gone at once, and what is left of it is
# swept up afterwards, in parts that nobody waits for.
events = Table(
    "events",
    metadata,
    Column("run_id", Integer, primary_key=True),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("attempt", Text),
    Column("first_seq", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    # Last, so that a read of the other columns need not pass over it.
    Column("payload", LargeBinary, nullable=False),
    Index("events_by_kind", "run_id", "kind", "n"),
)
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("run_id", Integer, primary_key=True),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("state", LargeBinary, nullable=False),
)
# Runs that are gone whose records are not all deleted yet.
forgotten = Table(
    "forgotten",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
)
