"""The agent against a daemon that behaves, or says no."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrpilot.client import Agent, Item, Transport
from lrpilot.client.bell import Bell
from lrpilot.client.conversation import Conversation
from lrpilot_proto.v1 import model_pb2, session_pb2

MakeAgent = Callable[..., Agent]
MakeHello = Callable[..., session_pb2.Hello]
MakeItem = Callable[..., Item]
Until = Callable[..., None]

GOODBYE = session_pb2.Report(goodbye=session_pb2.Goodbye(reason="finished"))


def told(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "lrpilot" and r.levelno == level]


def test_samples_and_reports_arrive_and_close_drains(
    daemon: Any, make_agent: MakeAgent, hello: MakeHello, item: MakeItem
) -> None:
    daemon.boot()
    agent: Transport = make_agent(daemon.address)
    assert agent.wait_ready(10)
    assert not agent.status.welcomed
    agent.open(hello())
    for seq in range(1, 20_001):
        agent.push(item(seq))
    agent.report(GOODBYE)
    agent.close(10)
    assert daemon.seqs() == list(range(1, 20_001))
    assert [(r["seq"], r["before"], r["what"]) for r in daemon.lines("report")] == [
        (1, 20_001, "goodbye")
    ]
    status = agent.status
    assert (status.acked_seq, status.dropped, status.unacked) == (20_000, 0, 0)
    assert (status.connected, status.welcomed, status.refused) == (False, True, None)
    assert (status.generation, status.daemon_version, status.reconnects) == (1, "scripted", 0)


def test_until_the_first_step_the_agent_sleeps(
    daemon: Any, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []
    pause = Bell.pause
    monkeypatch.setattr(Bell, "pause", lambda *args: [pauses.append(1), pause(*args)])
    daemon.boot()
    agent = make_agent(daemon.address)
    assert agent.wait_ready(10)
    daemon.kill()
    time.sleep(0.5)
    assert len(pauses) < 20


def test_a_daemon_that_went_away_before_the_first_step_is_found_again(
    daemon: Any, make_agent: MakeAgent, hello: MakeHello, until: Until, item: MakeItem
) -> None:
    daemon.boot()
    agent = make_agent(daemon.address)
    assert agent.wait_ready(10)
    daemon.kill()
    time.sleep(0.1)
    daemon.boot()
    agent.open(hello())
    agent.push(item(1))
    until(lambda: agent.status.acked_seq == 1)
    assert not agent.status.refused


def test_nothing_is_said_before_open(
    daemon: Any, make_agent: MakeAgent, item: MakeItem, until: Until
) -> None:
    daemon.boot()
    agent = make_agent(daemon.address)
    assert agent.wait_ready(10)
    agent.push(item(1))
    time.sleep(0.1)
    agent.close(3600)
    assert daemon.lines("hello") == []


def test_another_hello_reopens_with_reports_numbered_anew(
    daemon: Any, make_agent: MakeAgent, hello: MakeHello, item: MakeItem, until: Until
) -> None:
    daemon.boot()
    agent = make_agent(daemon.address)
    agent.open(hello("first"))
    agent.report(GOODBYE)
    until(lambda: daemon.lines("report"))
    agent.open(hello("second"))
    agent.report(GOODBYE)
    agent.push(item(1))
    agent.close(5)
    assert [line["attempt"] for line in daemon.lines("hello")] == ["first", "second"]
    second = [line for line in daemon.lines("report") if line["attempt"] == "second"]
    assert [line["seq"] for line in second][:1] == [1]
    assert daemon.lines("item")[0]["attempt"] == "second"


def test_decisions_come_once_and_words_of_the_past_not_at_all(
    daemon: Any, make_agent: MakeAgent, hello: MakeHello, until: Until
) -> None:
    daemon.boot("--decisions", "4", "5", "5", "6", "3", "--stale")
    agent = make_agent(daemon.address)
    agent.open(hello(last_decision_id=4))
    until(lambda: any(isinstance(m, session_pb2.SnapshotProven) for m in agent.inbox))
    daemon.kill()
    daemon.boot("--decisions", "6", "7", "--generation", "2")
    until(lambda: agent.status.reconnects == 1)
    until(lambda: len(agent.inbox) == 6)
    assert [m.id for m in agent.inbox if isinstance(m, model_pb2.Decision)] == [5, 6, 7]
    assert sum(isinstance(m, session_pb2.Welcome) for m in agent.inbox) == 2
    assert [line["last_decision"] for line in daemon.lines("hello")] == [4, 6]
    assert agent.status.generation == 2


def test_a_daemon_of_an_older_generation_is_not_heard(
    daemon: Any,
    make_agent: MakeAgent,
    hello: MakeHello,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    until: Until,
) -> None:
    monkeypatch.setattr("lrpilot.client.conversation.WELCOME_LIMIT_S", 0.5)
    daemon.boot("--decisions", "1", "--generation", "3")
    agent = make_agent(daemon.address)
    agent.open(hello(generation=9))
    until(lambda: told(caplog, logging.WARNING))
    assert "only words of generation 3" in told(caplog, logging.WARNING)[0]
    assert not agent.inbox
    assert not agent.status.welcomed


@pytest.mark.parametrize("code", ["ALREADY_EXISTS", "UNAUTHENTICATED"])
def test_a_refusal_is_final_and_told_once(
    code: str,
    daemon: Any,
    make_agent: MakeAgent,
    hello: MakeHello,
    item: MakeItem,
    caplog: pytest.LogCaptureFixture,
    until: Until,
) -> None:
    daemon.boot("--refuse", code)
    agent = make_agent(daemon.address)
    agent.open(hello())
    until(lambda: agent.status.refused)
    assert agent.status.refused == "the script says no"
    assert not agent.wait_ready(5)
    for seq in range(1, 1000):
        agent.push(item(seq))
        agent.urgent()
    agent.report(GOODBYE)
    assert agent.status.unacked == 0
    time.sleep(0.2)
    agent.close()
    assert len(daemon.lines("hello")) == 1
    errors = told(caplog, logging.ERROR)
    assert len(errors) == 1
    assert "the script says no" in errors[0]
    assert told(caplog, logging.WARNING) == []


def test_a_passing_refusal_is_tried_again_and_told_of_once(
    daemon: Any,
    make_agent: MakeAgent,
    hello: MakeHello,
    item: MakeItem,
    caplog: pytest.LogCaptureFixture,
    until: Until,
) -> None:
    daemon.boot("--refuse", "RESOURCE_EXHAUSTED")
    agent = make_agent(daemon.address)
    agent.open(hello())
    agent.push(item(1))
    until(lambda: len(daemon.lines("hello")) >= 3)
    [warning] = told(caplog, logging.WARNING)
    assert "the daemon cannot take this run now (the script says no)" in warning
    daemon.kill()
    daemon.boot()
    until(lambda: agent.status.acked_seq == 1)


def test_a_daemon_that_mixes_up_attempts_is_not_believed(
    daemon: Any,
    make_agent: MakeAgent,
    hello: MakeHello,
    item: MakeItem,
    caplog: pytest.LogCaptureFixture,
    until: Until,
) -> None:
    daemon.boot("--confuse", "14755")
    agent = make_agent(daemon.address)
    agent.open(hello())
    agent.push(item(1))
    until(lambda: told(caplog, logging.ERROR))  # refused first, and told of then
    assert "14755" in str(agent.status.refused)
    assert len(told(caplog, logging.ERROR)) == 1


def test_a_flood_of_messages_ends_the_session(
    daemon: Any, make_agent: MakeAgent, hello: MakeHello, until: Until
) -> None:
    daemon.boot("--decisions", *[str(number) for number in range(1, 1200)])
    agent = make_agent(daemon.address)
    agent.open(hello())
    until(lambda: agent.status.refused)
    assert len(agent.inbox) < 1100


def test_nobody_at_an_explicit_address_is_known_at_once(
    folder: Path, make_agent: MakeAgent, hello: MakeHello, caplog: pytest.LogCaptureFixture
) -> None:
    agent = make_agent(f"unix:{folder / 'none.sock'}")
    assert not agent.wait_ready(3600)
    agent.open(hello())
    agent.report(GOODBYE)
    time.sleep(0.3)
    agent.close(3600)
    assert len(told(caplog, logging.WARNING)) == 1


def test_somebody_who_accepts_but_never_answers_is_not_ready(
    folder: Path, make_agent: MakeAgent
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.bind(str(folder / "mute.sock"))
        mute.listen()
        agent = make_agent(f"unix:{folder / 'mute.sock'}")
        assert not agent.wait_ready(0.5)


def test_a_path_with_odd_characters(
    daemon: Any, folder: Path, make_agent: MakeAgent, hello: MakeHello, item: MakeItem
) -> None:
    odd = folder / "a b%2f"
    odd.mkdir()
    daemon.address = f"unix:{folder / 'd.sock'}"
    daemon.boot()
    (odd / "l#k?.sock").symlink_to(folder / "d.sock")
    agent = make_agent(f"unix:{odd / 'l#k?.sock'}")
    assert agent.wait_ready(10)
    agent.open(hello())
    agent.push(item(1))
    agent.close(5)
    assert daemon.seqs() == [1]


def test_urgent_flushes_before_the_interval(
    daemon: Any,
    make_agent: MakeAgent,
    hello: MakeHello,
    item: MakeItem,
    monkeypatch: pytest.MonkeyPatch,
    until: Until,
) -> None:
    monkeypatch.setattr("lrpilot.client.timing.EAGER_S", 0.0)
    monkeypatch.setattr("lrpilot.client.timing.ASKED_MAX_S", 3600.0)
    daemon.boot("--flush-ms", "3600000")
    agent = make_agent(daemon.address)
    agent.open(hello())
    until(lambda: agent.status.connected)
    for seq in range(1, 12):
        agent.push(item(seq))
        agent.urgent()
        until(lambda seq=seq: daemon.seqs()[-1:] == [seq])


def test_a_busy_daemon_is_sent_larger_batches_and_what_is_urgent_at_once(
    daemon: Any, make_agent: MakeAgent, hello: MakeHello, item: MakeItem, until: Until
) -> None:
    daemon.boot("--flush-ms", "5000")
    agent = make_agent(daemon.address)
    agent.open(hello())
    until(lambda: agent.status.connected)
    agent.push(item(1))
    until(lambda: daemon.seqs() == [1])  # the first after the welcome
    for seq in range(2, 21):
        agent.push(item(seq))
        agent.report(session_pb2.Report(snapshot=session_pb2.SnapshotTaken(id=seq)))
        time.sleep(0.05)
    assert daemon.seqs() == [1]
    agent.report(GOODBYE)
    until(lambda: daemon.seqs() == list(range(1, 21)))
    until(lambda: len(daemon.lines("report")) == 20)


def test_a_bug_in_the_agent_stays_inside(
    daemon: Any,
    make_agent: MakeAgent,
    hello: MakeHello,
    item: MakeItem,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    until: Until,
) -> None:
    daemon.boot()
    with monkeypatch.context() as broken:
        broken.setattr(Conversation, "hold", lambda *_a, **_k: 1 / 0)
        agent = make_agent(daemon.address)
        agent.open(hello())
        agent.push(item(1))
        until(lambda: told(caplog, logging.WARNING))
    assert "ZeroDivisionError" in told(caplog, logging.WARNING)[0]
    until(lambda: agent.status.acked_seq == 1)


def test_before_start_and_after_close_nothing_happens(
    daemon: Any, hello: MakeHello, item: MakeItem
) -> None:
    agent = Agent(daemon.address)
    agent.push(item(1))
    agent.urgent()
    agent.report(GOODBYE)
    agent.open(hello())
    assert not agent.wait_ready(10)
    agent.close()
    assert agent.status.unacked == 2


def test_push_is_cheap(daemon: Any, make_agent: MakeAgent, hello: MakeHello, until: Until) -> None:
    """Prints what a push costs beside a live session; a timing is never asserted."""
    daemon.boot()
    agent = make_agent(daemon.address)
    agent.open(hello())
    until(lambda: agent.status.connected)
    clock, lrs, costs = time.perf_counter_ns, (0.1,), []
    for seq in range(1, 3001):
        begin = clock()
        agent.push((seq, 1, seq, 0, 0, 1.0, lrs))
        costs.append(clock() - begin)
        time.sleep(0.0005)
    costs.sort()
    print(f"push at 1-2 kHz: p50 {costs[1500]} ns, p99 {costs[2970]} ns, max {costs[-1]} ns")
    begin = clock()
    for seq in range(3001, 103_001):
        agent.push((seq, 1, seq, 0, 0, 1.0, lrs))
    print(f"push in a tight loop: {(clock() - begin) / 100_000:.0f} ns")
    agent.close(5)
    assert agent.status.acked_seq == 103_000


# -- waiting for a word


def test_a_wait_ends_with_the_word_that_it_was_for(
    daemon: Any, make_agent: MakeAgent, hello: MakeHello
) -> None:
    daemon.boot("--decisions", "1", "2")
    agent = make_agent(daemon.address)
    agent.open(hello())
    seen: list[Any] = []
    while len(seen) < 3:  # the welcome, and two decisions
        assert agent.wait(10)
        seen.append(agent.inbox.popleft())
    assert [type(message).__name__ for message in seen] == ["Welcome", "Decision", "Decision"]
    assert not agent.wait(0.05)


def test_what_detectors_saw_wakes_nobody_and_the_newest_is_kept(
    daemon: Any, make_agent: MakeAgent, hello: MakeHello, until: Until
) -> None:
    daemon.boot("--signals", "250")
    agent = make_agent(daemon.address)
    agent.open(hello())
    assert agent.wait(10)
    agent.inbox.popleft()  # the welcome
    assert not agent.wait(0.3)
    until(lambda: len(agent.signals) == 100 and agent.signals[-1].step == 249)
    assert agent.signals[0].step == 150
    assert agent.status.connected


def test_a_wait_ends_with_the_session(
    daemon: Any, make_agent: MakeAgent, hello: MakeHello, until: Until
) -> None:
    daemon.boot()
    agent = make_agent(daemon.address)
    agent.open(hello())
    assert agent.wait(10)
    agent.inbox.clear()
    killer = threading.Timer(0.2, daemon.kill)
    killer.start()
    assert not agent.wait(3600)
    assert not agent.status.connected
    killer.join()
    assert not agent.wait(60)  # and there is nobody to wait for any more


def test_nobody_is_waited_for_after_a_refusal(
    daemon: Any, make_agent: MakeAgent, hello: MakeHello
) -> None:
    daemon.boot("--refuse", "ALREADY_EXISTS")
    agent = make_agent(daemon.address)
    agent.open(hello())
    assert not agent.wait(60)
    assert agent.status.refused


def test_an_agent_that_was_never_started_waits_for_nobody() -> None:
    assert not Agent("127.0.0.1:1", token="t").wait(60)
