"""What opening a journal looks at and changes: whose file it is, its version, its generation."""

from sqlalchemy import Engine, insert, select, update

from lrpilot_controller.errors import JournalVersionError
from lrpilot_controller.journal import migrations, tables
from lrpilot_controller.journal.base import JournalCorrupt, JournalMissing
from lrpilot_controller.journal.database import Database, Lines


def look(database: Database, engine: Engine) -> tuple[int, int]:
    """The version and generation of a journal that can be read by this LRPilot.

    Raises:
        JournalMissing: The file is empty.
        JournalVersionError: A newer LRPilot wrote it.
        JournalCorrupt: It is no journal.
    """
    with engine.connect() as connection:
        present = database.tables(connection)
        if not present:
            raise JournalMissing(
                f"the journal {database.name} is empty: nothing was recorded there yet"
            )
        version, generation = tables.SCHEMA_VERSION, 0
        if tables.meta.name in present:
            version, generation = connection.execute(select(tables.meta)).one()
    if version > tables.SCHEMA_VERSION:
        raise JournalVersionError(
            f"the journal {database.name} has schema version {version}, and this LRPilot knows "
            f"versions up to {tables.SCHEMA_VERSION}; upgrade it (pip install -U lrpilot), or "
            "choose another --storage"
        )
    if not present >= migrations.tables_of(version):
        raise JournalCorrupt(
            f"{database.name} is a database but not a journal of LRPilot (its tables: "
            f"{', '.join(sorted(present))}); choose another --storage"
        )
    return version, int(generation)


def take_over(database: Database, lines: Lines) -> tuple[int, int]:
    """Counts one more opening for writing, in tables of this version; version and generation.

    Raises:
        JournalVersionError, JournalCorrupt: As `look`; nothing was changed then.
    """
    writer = lines.writer
    assert writer is not None
    with lines.reader.connect() as connection:
        empty = not database.tables(connection)
    if not empty:
        # Refused before anything is changed: it may be somebody else's database.
        look(database, lines.reader)
    database.prepare(writer, empty=empty)
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
