"""Settings of the whole suite."""

import logging
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from sqlalchemy import URL

    from support.postgres import Postgres

# In continuous integration a change is judged by the same examples as the last one; new examples
# are looked for wherever people run the suite. How long one takes is the machine's affair.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("people", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "people")

# A shell's background job ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def audible() -> None:
    """What one test has silenced, the next one hears."""
    logging.getLogger("lrpilot").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    """A real PostgreSQL server, for all tests of this process."""
    from support.postgres import running

    with running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: "Postgres") -> "Iterator[URL]":
    """An empty database on it."""
    with postgres.database() as url:
        yield url
