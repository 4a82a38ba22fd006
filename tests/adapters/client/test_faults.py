"""The agent while its daemon is killed, frozen, or away for too long."""

import logging
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from lrpilot.client import Agent, Item
from lrpilot_proto.v1 import session_pb2

MakeAgent = Callable[..., Agent]
MakeHello = Callable[..., session_pb2.Hello]
MakeItem = Callable[..., Item]
Until = Callable[..., None]


class Loop:
    """A training loop: pushes samples at about 2 kHz, a report now and then."""

    def __init__(self, agent: Agent, item: MakeItem) -> None:
        self.agent, self.item = agent, item
        self.seq = self.reports = 0
        self.slowest = 0.0

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.seq += 1
            begin = time.thread_time()
            self.agent.push(self.item(self.seq))
            if self.seq % 100 == 0:
                self.agent.report(session_pb2.Report(notice=session_pb2.Notice(text="x")))
                self.reports += 1
            self.slowest = max(self.slowest, time.thread_time() - begin)
            time.sleep(0.0005)


def test_kill_9_loses_nothing_and_repeats_nothing(
    daemon: Any,
    make_agent: MakeAgent,
    hello: MakeHello,
    item: MakeItem,
    caplog: pytest.LogCaptureFixture,
    until: Until,
) -> None:
    daemon.boot()
    agent = make_agent(daemon.address)
    agent.open(hello())
    loop = Loop(agent, item)
    loop.run(0.3)
    back = []
    for life in range(2, 6):
        daemon.kill()
        loop.run(0.1)
        daemon.boot("--generation", str(life))
        begin = time.monotonic()
        until(lambda life=life: agent.status.generation == life)
        back.append(time.monotonic() - begin)
        loop.run(0.2)
    daemon.kill()
    loop.run(0.05)
    daemon.boot("--generation", "6")
    agent.close(5)  # reconnects to deliver the rest
    assert daemon.seqs() == list(range(1, loop.seq + 1))
    reports = daemon.lines("report")
    assert [line["seq"] for line in reports] == list(range(1, loop.reports + 1))
    assert [line["before"] for line in reports] == [100 * n + 1 for n in range(1, loop.reports + 1)]
    assert agent.status.reconnects == 5
    assert agent.status.dropped == 0
    warnings = [r.getMessage() for r in caplog.records if r.name == "lrpilot"]
    assert sum("lost the daemon" in text for text in warnings) == 1
    assert sum("connected to the daemon" in text for text in warnings) == 1
    print("back after a restart:", ", ".join(f"{1000 * seconds:.0f} ms" for seconds in back))


def test_a_frozen_daemon_is_noticed_and_close_does_not_hang(
    daemon: Any,
    make_agent: MakeAgent,
    hello: MakeHello,
    item: MakeItem,
    caplog: pytest.LogCaptureFixture,
    until: Until,
) -> None:
    daemon.boot()
    agent = make_agent(daemon.address)
    agent.open(hello())
    loop = Loop(agent, item)
    loop.run(0.2)
    until(lambda: agent.status.acked_seq > 0)
    daemon.signal(signal.SIGSTOP)
    begin = time.monotonic()
    while agent.status.connected:
        loop.run(0.02)
    noticed = time.monotonic() - begin
    assert noticed > 1.0, "given up long before its three seconds"

    def told() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]

    until(told)
    assert "no acknowledgement for 3 s" in told()[0]
    loop.run(0.5)
    daemon.signal(signal.SIGCONT)
    begin = time.monotonic()
    until(lambda: agent.status.connected)
    print(f"frozen: noticed after {noticed:.2f} s, back {time.monotonic() - begin:.2f} s after")
    loop.run(0.1)
    until(lambda: agent.status.unacked == 0)
    assert daemon.seqs() == list(range(1, loop.seq + 1))

    daemon.signal(signal.SIGSTOP)
    loop.run(0.1)
    agent.close(0.5)
    assert agent.status.unacked > 0
    assert "could not be delivered" in caplog.records[-1].getMessage()


def test_an_overflow_is_counted_honestly(
    daemon: Any, make_agent: MakeAgent, hello: MakeHello, item: MakeItem, until: Until
) -> None:
    daemon.boot()
    agent = make_agent(daemon.address, capacity=500)
    agent.open(hello())
    agent.push(item(1))
    until(lambda: agent.status.acked_seq == 1)
    daemon.kill()
    until(lambda: not agent.status.connected)
    for seq in range(2, 3001):
        agent.push(item(seq))
    assert agent.status.dropped == 2499
    agent.report(session_pb2.Report(notice=session_pb2.Notice(text="kept")))
    daemon.boot()
    agent.close(10)
    seqs = daemon.seqs()
    assert seqs == [1, *range(2501, 3001)]
    assert agent.status.dropped == 3000 - len(seqs) == 2499
    assert daemon.lines("item")[-1]["dropped"] == 2499
    assert len(daemon.lines("report")) == 1
    assert daemon.lines("hello")[-1]["oldest"] == 2501


def test_a_backlog_is_delivered_quickly(
    daemon: Any, make_agent: MakeAgent, hello: MakeHello, item: MakeItem, until: Until
) -> None:
    agent = make_agent(daemon.address)
    agent.open(hello())
    assert not agent.wait_ready(5)
    for seq in range(1, 100_001):
        agent.push(item(seq))
    daemon.boot()
    until(lambda: agent.status.acked_seq == 100_000)
    assert len(daemon.seqs()) == 100_000
