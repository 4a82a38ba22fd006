"""Streams that break at any moment: the run stays whole, and its name stays usable."""

import random
import time

from support.daemon import Daemon, until
from support.peer import Line, hello, session, telemetry


def test_a_stream_that_breaks_while_the_journal_is_written(daemon: Daemon) -> None:
    """The trainer resends what it has no acknowledgement for; the journal holds it once."""
    daemon.start()
    chance = random.Random(0)
    rows = 50
    for _ in range(60):
        with Line(daemon.address) as line:
            line.say(hello("run"))
            welcome = line.hear()
            for k in range(4):
                line.say(telemetry(welcome.acked_seq + k * rows + 1, [1.0] * rows))
            # Cut off somewhere between sending and the acknowledgement.
            time.sleep(chance.uniform(0.0, 0.004))

    with session(daemon.address, hello("run")) as line:
        line.say(telemetry(1, [1.0] * rows))
        newest = line.hear().acked_seq
        line.say(telemetry(newest + 1, [1.0]))
        line.hear_ack(newest + 1)
    assert daemon.seqs("run") == list(range(1, newest + 2))
    assert "Traceback" not in daemon.log, daemon.log


def test_a_trainer_that_dies_right_after_its_hello_leaves_the_name_free(daemon: Daemon) -> None:
    daemon.start()
    chance = random.Random(0)
    for k in range(40):
        with Line(daemon.address) as line:
            line.say(hello("run", attempt=f"attempt {k}"))
            time.sleep(chance.uniform(0.0, 0.003))

    def free() -> bool:
        with Line(daemon.address) as line:
            line.say(hello("run", attempt="last"))
            line.hang_up()
            return line.refusal()[0] == "OK"

    until(free)
    assert "Traceback" not in daemon.log, daemon.log
