import random
from collections.abc import Callable

import pytest

from lrpilot.client import Item
from lrpilot.client.buffer import MAX_BATCH, MAX_BYTES, MAX_IN_FLIGHT, ConfusedError, Outbox
from lrpilot_proto.v1 import session_pb2

MakeItem = Callable[..., Item]


def drain(box: Outbox) -> list[session_pb2.TrainerMessage]:
    messages = []
    while (message := box.take()) is not None:
        messages.append(message)
    return messages


def seqs(messages: list[session_pb2.TrainerMessage]) -> list[int]:
    """The seqs of all telemetry, and each report's number negated, in the order of sending."""
    found: list[int] = []
    for message in messages:
        if message.HasField("report"):
            found.append(-message.report.report_seq)
        else:
            first = message.telemetry.first_seq
            found += range(first, first + len(message.telemetry.step))
    return found


def notice(text: str = "") -> session_pb2.Report:
    return session_pb2.Report(notice=session_pb2.Notice(text=text))


def test_batches_and_window_are_bounded_and_nothing_is_lost(item: MakeItem) -> None:
    box = Outbox()
    total = MAX_BATCH * (MAX_IN_FLIGHT + 2)
    box.items.extend(item(seq) for seq in range(1, total + 1))
    sent = drain(box)
    assert len(sent) == MAX_IN_FLIGHT
    assert box.blocked
    assert box.acknowledge(MAX_BATCH * MAX_IN_FLIGHT, 0)
    sent += drain(box)
    assert seqs(sent) == list(range(1, total + 1))
    assert not box.empty
    assert box.awaiting
    assert box.acknowledge(total, 0)
    assert box.empty
    assert not box.awaiting


def test_one_row_of_lrs_stands_for_equal_ones(item: MakeItem) -> None:
    box = Outbox()
    box.items.extend([item(1, 0.1, 0.2), item(2, 0.1, 0.2)])
    assert list(drain(box)[0].telemetry.lrs) == [0.1, 0.2]
    box.items.extend([item(3, 0.1, 0.2), item(4, 0.1, 0.3)])
    assert list(drain(box)[0].telemetry.lrs) == [0.1, 0.2, 0.1, 0.3]


def test_another_number_of_lrs_begins_another_batch(item: MakeItem) -> None:
    box = Outbox()
    box.items.extend([item(1), item(2), item(3, 0.1, 0.2)])
    first, second = drain(box)
    assert len(first.telemetry.step) == 2
    assert second.telemetry.first_seq == 3


def test_many_groups_make_smaller_batches(item: MakeItem) -> None:
    box = Outbox()
    box.items.extend(item(seq, *[seq * 0.1] * 1000) for seq in range(1, 201))
    sent = drain(box)
    assert seqs(sent) == list(range(1, len(seqs(sent)) + 1))
    assert len(sent) > 1
    assert all(message.ByteSize() <= MAX_BYTES for message in sent)


def test_overflow_is_counted_from_the_gap(item: MakeItem) -> None:
    box = Outbox(100)
    box.items.extend(item(seq) for seq in range(1, 11))
    drain(box)
    box.items.extend(item(seq) for seq in range(11, 1001))
    assert box.dropped_now() == 890
    sent = drain(box)
    assert seqs(sent) == list(range(901, 1001))
    assert sent[0].telemetry.dropped_total == 890
    assert box.dropped == 890
    assert box.oldest_seq == 1  # the first batch is still unacknowledged


def test_reports_keep_their_place(item: MakeItem) -> None:
    box = Outbox()
    box.add_report(notice())
    box.items.extend([item(1), item(2)])
    box.add_report(notice())
    box.items.append(item(3))
    box.add_report(session_pb2.Report(before_seq=4))
    sent = drain(box)
    assert seqs(sent) == [-1, 1, 2, -2, 3, -3]
    assert [m.report.before_seq for m in sent if m.HasField("report")] == [1, 3, 4]
    box.add_report(notice())  # with everything taken out of the deque
    assert drain(box)[0].report.before_seq == 4
    box.rewind()
    assert seqs(drain(box)) == [-1, 1, 2, -2, 3, -3, -4]
    box.acknowledge(1, 2)  # within a batch
    box.rewind()
    assert seqs(drain(box)) == [2, 3, -3, -4]
    assert box.oldest_seq == 2


def test_reports_wait_for_the_samples_before_them_in_a_full_window(item: MakeItem) -> None:
    box = Outbox()
    total = MAX_BATCH * MAX_IN_FLIGHT + 1
    box.items.extend(item(seq) for seq in range(1, total + 1))
    box.add_report(notice())
    assert -1 not in seqs(drain(box))
    box.acknowledge(MAX_BATCH, 0)
    assert seqs(drain(box)) == [total, -1]


def test_an_ack_of_what_was_never_sent_is_refused(item: MakeItem) -> None:
    box = Outbox()
    box.items.extend([item(1), item(2)])
    drain(box)
    with pytest.raises(ConfusedError, match="sample 3"):
        box.acknowledge(3, 0)
    with pytest.raises(ConfusedError):
        box.acknowledge(2, 1)
    assert box.acknowledge(2, 0)
    assert not box.acknowledge(1, 0)
    assert box.acked_seq == 2


def test_what_is_no_number_costs_one_batch_and_is_counted(item: MakeItem) -> None:
    box = Outbox()
    box.items.extend([item(1), (2, 1, -5, 0, 0, 1.0, (0.1,))])
    box.add_report(notice())
    box.items.append(item(3))
    assert seqs(drain(box)) == [-1, 3]
    assert box.dropped == 2


def test_a_report_that_is_too_large_becomes_a_notice() -> None:
    box = Outbox()
    box.add_report(notice("x" * (MAX_BYTES + 1)))
    report = drain(box)[0].report
    assert report.notice.kind == "report_too_large"
    assert report.report_seq == 1


def test_a_new_attempt_numbers_its_reports_anew() -> None:
    box = Outbox()
    for text in "abc":
        box.add_report(notice(text))
    drain(box)
    box.acknowledge(0, 1)
    box.add_report(notice("d"))
    box.restart()
    sent = drain(box)
    assert [m.report.notice.text for m in sent] == ["b", "c", "d"]
    assert seqs(sent) == [-1, -2, -3]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_the_journal_is_whole(seed: int, item: MakeItem) -> None:
    chance = random.Random(seed)
    box = Outbox(300)
    wire: list[session_pb2.TrainerMessage] = []
    journal: list[int] = []
    pushed = reports = last = last_report = 0
    for _ in range(400):
        action = chance.choice(["push", "push", "report", "send", "deliver", "lose"])
        if action == "push":
            for _ in range(chance.randrange(60)):
                pushed += 1
                box.items.append(item(pushed, *[0.1] * chance.choice([1, 1, 1, 2])))
        elif action == "report":
            reports += 1
            box.add_report(notice())
        elif action == "send":
            wire += drain(box)
        elif action == "lose":
            wire = []
            box.acknowledge(last, last_report)
            box.rewind()
        for _ in range(chance.randrange(4) if action == "deliver" else 0):
            if not wire:
                break
            for number in seqs([wire.pop(0)]):
                if number > last:
                    journal.append(number)
                    last = number
                elif -number == last_report + 1:
                    last_report += 1
                    journal.append(number)
            box.acknowledge(last, last_report)
    box.rewind()
    while not box.empty:
        for number in seqs(drain(box)):
            if number > last:
                journal.append(number)
                last = number
            elif -number == last_report + 1:
                last_report += 1
                journal.append(number)
        box.acknowledge(last, last_report)
    samples = [number for number in journal if number > 0]
    assert samples == sorted(set(samples))
    assert len(samples) + box.dropped == pushed
    assert [number for number in journal if number < 0] == [-n for n in range(1, reports + 1)]
