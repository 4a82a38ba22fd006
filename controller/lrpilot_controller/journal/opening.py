"""What opening a journal looks at and changes: whose file it is, its version, its generation."""

from pathlib import Path

from sqlalchemy import Engine, insert, inspect, select, update

from lrpilot_controller.errors import JournalVersionError
from lrpilot_controller.journal import migrations, sqlite, tables
from lrpilot_controller.journal.base import JournalCorrupt, JournalMissing


def look(engine: Engine, path: Path) -> tuple[int, int]:
    """The version and generation of a journal that can be read by this LRPilot.

    Raises:
        JournalMissing: The file is empty.
        JournalVersionError: A newer LRPilot wrote it.
        JournalCorrupt: It is no journal.
    """
    with engine.connect() as connection:
        present = set(inspect(connection).get_table_names())
        if not present:
            raise JournalMissing(f"the journal {path} is empty: nothing was recorded there yet")
        version, generation = tables.SCHEMA_VERSION, 0
        if tables.meta.name in present:
            version, generation = connection.execute(select(tables.meta)).one()
    if version > tables.SCHEMA_VERSION:
        raise JournalVersionError(
            f"the journal {path} has schema version {version}, and this LRPilot knows versions "
            f"up to {tables.SCHEMA_VERSION}; upgrade it (pip install -U lrpilot), or choose "
            "another --storage directory"
        )
    if not present >= migrations.tables_of(version):
        raise JournalCorrupt(
            f"{path} is a database but not a journal of LRPilot (its tables: "
            f"{', '.join(sorted(present))}); choose another --storage directory"
        )
    return version, int(generation)


def take_over(engine: Engine, path: Path) -> tuple[int, int]:
    """Counts one more opening for writing, in tables of this version; version and generation.

    Raises:
        JournalVersionError, JournalCorrupt: As `look`; nothing was changed then.
    """
    writer = engine.execution_options(begin=sqlite.WRITE)
    with engine.connect() as connection:
        empty = not inspect(connection).get_table_names()
    if empty:
        sqlite.let_shrink(engine)
    else:
        # Refused before anything is changed: it may be somebody else's database.
        look(engine, path)
    sqlite.use_wal(engine)
    if not empty:
        more = True
        while more:
            with writer.begin() as connection:
                more = migrations.step(connection)
    with writer.begin() as connection:
        tables.metadata.create_all(connection)
        if connection.execute(select(tables.meta)).first() is None:
            connection.execute(
                insert(tables.meta).values(schema_version=tables.SCHEMA_VERSION, generation=0)
            )
        connection.execute(update(tables.meta).values(generation=tables.meta.c.generation + 1))
        return tables.SCHEMA_VERSION, connection.scalars(select(tables.meta.c.generation)).one()
