"""Runs on a journal, for the tests of the server."""

from collections.abc import Iterator

import pytest

from support.house import House


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.writer.close()
