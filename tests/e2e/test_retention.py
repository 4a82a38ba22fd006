"""A real daemon keeps its journal small."""

from support.daemon import Daemon, cli, until
from support.peer import hello, session, telemetry


def test_a_run_is_dropped_some_days_after_its_last_word(daemon: Daemon) -> None:
    """A day is a second here; a run with a session stays however old its telemetry is."""
    daemon.start("--keep-days", str(1 / 86_400))
    with session(daemon.address, hello("old", "a")) as line:
        line.say(telemetry(1, [1.0] * 100))
        until(lambda: line.hear().acked_seq == 100)
    with session(daemon.address, hello("live", "b")) as line:
        line.say(telemetry(1, [1.0] * 100))
        until(lambda: line.hear().acked_seq == 100)
        until(lambda: cli("show", "default/old", "--storage", daemon.storage).returncode == 1)
        line.say(telemetry(101, [1.0] * 100))
        until(lambda: line.hear().acked_seq == 200)
    assert daemon.story("live")["telemetry"]["received"] == 200
    assert "run default/old is dropped" in daemon.log
    with session(daemon.address, hello("old", "c")) as line:
        line.say(telemetry(1, [1.0] * 10))
        until(lambda: line.hear().acked_seq == 10)
    story = daemon.story("old")
    assert (story["attempts"], story["telemetry"]["received"]) == (1, 10)
