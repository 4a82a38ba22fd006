"""A peer that does not read what it is told: nothing is taken from it either, until it does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from lrpilot_controller.server.identity import LOCAL, current
from lrpilot_controller.server.session import MAX_WAITING
from lrpilot_proto.v1 import session_pb2
from support.inprocess import Context, House
from support.peer import Trainer, hello, telemetry


class Deaf(Context):
    """Reads nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__(None)
        self.listens = asyncio.Event()

    async def write(self, message: session_pb2.ControllerMessage) -> None:
        await self.listens.wait()
        await super().write(message)


def test_a_peer_that_does_not_read_is_not_read() -> None:
    house, taken = House(), 0

    async def requests() -> AsyncIterator[session_pb2.TrainerMessage]:
        nonlocal taken
        yield Trainer(hello=hello("deaf"))
        for taken in range(1, 501):
            yield Trainer(telemetry=telemetry(taken, [1.0]))

    async def story() -> None:
        current.set(LOCAL)
        peer = Deaf()
        session = asyncio.create_task(house.service.Session(requests(), peer))  # type: ignore[arg-type]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(session), 2.0)
        assert MAX_WAITING <= taken <= MAX_WAITING + 2
        peer.listens.set()
        await session
        assert taken == 500
        assert max(message.acked_seq for message in peer.heard) == 500

    asyncio.run(story())
    house.close()
