"""A session that fails in a way that nobody thought of: named, logged with its place, and over."""

import asyncio
import gc
import logging
from typing import NoReturn

import pytest

from lrpilot_controller.errors import JournalUnavailable
from lrpilot_controller.server import convert
from lrpilot_controller.server.convert.words import MAX_DECISION
from support.inprocess import Context, House
from support.peer import Trainer, hello


def greet(house: House, attempt: str, **fields: int) -> Context:
    """A session that says hello, and how it ends."""
    message = Trainer(hello=hello("run", attempt, **fields))
    return asyncio.run(house.hold([message.SerializeToString()]))


def test_it_leaves_its_run_to_the_next_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = House()

    def fail(_: object) -> str:
        raise ValueError("unthought of")

    with monkeypatch.context() as patch:
        patch.setattr(convert, "mode_to", fail)
        failed = greet(house, "a")
    assert (failed.code, failed.heard) == ("INTERNAL", [])
    assert "ValueError" in failed.words
    assert "unthought of" not in failed.words, "what went wrong inside is for the log"
    [told] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told.exc_info is not None
    assert greet(house, "b").code == "OK"
    house.close()


def test_it_may_fail_at_the_moment_at_which_it_is_told_to_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a daemon that stops the log says so, and nothing that sounds like a fault."""
    house = House()

    def stop(_: object) -> NoReturn:
        house.service.end()
        raise JournalUnavailable("the disk is full")

    monkeypatch.setattr(house.journal, "append", stop)
    assert greet(house, "a").code == "UNAVAILABLE"
    gc.collect()
    assert [record.name for record in caplog.records if record.name == "asyncio"] == []
    house.close()


@pytest.mark.parametrize(("number", "code"), [(MAX_DECISION, "OK"), (MAX_DECISION + 1, None)])
def test_a_decision_that_no_daemon_made(number: int, code: str | None) -> None:
    """We count on from the number that a trainer knows, and a program's has 32 bits."""
    house = House()
    peer = greet(house, "a", last_decision_id=number)
    assert peer.code == (code or "INVALID_ARGUMENT")
    if code is None:
        assert f"last_decision_id is {number}: at most {MAX_DECISION}" in peer.words
    house.close()
