"""The session service under any sequence of messages, valid, broken, doubled or out of order.

Each session ends as it should or with a refusal that has a name; what was acknowledged is in the
journal exactly once; every number stays finite; and a replay decides the same again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.journal import RunKey
from support.fuzz import Fuzzer, load
from support.inprocess import Hear, House
from support.sound import NAMED, check_run

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.bin"))
SESSIONS = 8


class Judge:
    """Holds sessions with a daemon's service, and looks at all that came of them."""

    def __init__(self) -> None:
        self.house = House()
        self._acked: dict[RunKey, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    async def hold(self, messages: Iterable[bytes], hear: Hear | None = None) -> str:
        context = await self.house.hold(messages, hear)
        assert context.code in NAMED
        assert bool(context.words) is (context.code != "OK")
        for message in context.heard:
            hello = context.hello
            acked = self._acked[RunKey(hello.run.project, hello.run.name)]
            acked[hello.attempt] = max(acked[hello.attempt], message.acked_seq)
        return context.words

    def judge(self) -> None:
        self.house.close()
        for run in self.house.journal.runs():
            check_run(self.house.journal, run, self._acked[run])


@given(st.integers(0, 2**32))
@settings(max_examples=25)
def test_any_sessions(seed: int) -> None:
    judge, fuzzer = Judge(), Fuzzer(seed, ("one", "two"))

    async def story() -> None:
        for i in range(SESSIONS):
            await judge.hold(fuzzer.session(), fuzzer.heard)
            if i == SESSIONS // 2:
                judge.house.restart()

    asyncio.run(story())
    judge.judge()


@pytest.mark.parametrize("kept", CORPUS, ids=[path.stem for path in CORPUS])
def test_what_was_found_once(kept: Path) -> None:
    judge = Judge()

    async def story() -> None:
        for _ in range(2):
            await judge.hold(load(kept.read_bytes()))
            judge.house.restart()

    asyncio.run(story())
    judge.judge()
