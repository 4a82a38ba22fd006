from lrpilot.client.timing import Backoff, Pace, Watchdog


def test_the_first_second_is_eager_and_urgent_is_bounded() -> None:
    pace = Pace()
    pace.opened(10.0)
    assert pace.due(10.0, urgent=False) <= 0  # what waited goes at once
    pace.flushed(10.0)
    assert abs(pace.due(10.0, urgent=False) - 0.05) < 1e-9
    assert abs(pace.due(10.0, urgent=True) - 0.005) < 1e-9
    assert pace.interval(11.5) == 0.25


def test_a_busy_daemon_gets_fewer_flushes_within_limits() -> None:
    pace = Pace()
    pace.opened(10.0)
    pace.asked(1000)
    pace.flushed(10.0)
    assert abs(pace.due(10.0, urgent=False) - 1.0) < 1e-9  # in the eager second too
    assert abs(pace.due(10.0, urgent=True) - 0.005) < 1e-9
    pace.asked(3_600_000)
    assert pace.interval(20.0) == 5.0
    pace.asked(1)
    assert pace.interval(20.0) == 0.25  # sooner than by itself is nobody's wish
    pace.asked(0)
    assert pace.interval(20.0) == 0.25


def test_the_watchdog_barks_at_silence_only() -> None:
    dog = Watchdog(3.0)
    assert not dog.expired(0.0)
    dog.expect(0.5)
    for tenth in range(5, 34):
        assert not dog.expired(tenth / 10)
        dog.expect(tenth / 10)  # what is sent later does not move it
    assert dog.expired(3.5)
    dog.heard(3.5, more=True)
    assert not dog.expired(4.0)
    dog.heard(4.5, more=False)
    assert not dog.expired(5.0)


def test_the_watchdog_forgives_when_we_slept_ourselves() -> None:
    dog = Watchdog(3.0)
    dog.expect(0.0)
    assert not dog.expired(0.2)
    assert not dog.expired(60.0)
    assert not dog.expired(60.9)
    assert not dog.expired(61.8)
    assert not dog.expired(62.7)
    assert dog.expired(63.1)


def test_the_backoff_doubles_up_to_its_bound_and_resets() -> None:
    backoff = Backoff()
    first = [backoff.next() for _ in range(100)]
    assert all(wait <= 2.0 for wait in first)
    assert first[0] <= 0.05
    assert max(first) > 1.0
    backoff.progress(2.0)
    assert backoff.next() <= 0.05


def test_sessions_that_do_not_last_become_rarer() -> None:
    """As many of them as a line allows would cost the training process its time."""
    backoff = Backoff()
    waits = []
    for _ in range(100):
        waits.append(backoff.next())
        backoff.progress(0.1)
    assert sum(waits[20:]) > 0.5 * 80


def test_a_busy_daemon_is_given_more_time() -> None:
    backoff = Backoff()
    waits = [backoff.next(busy=True) for _ in range(200)]
    assert waits[0] <= 0.05
    assert 15.0 < max(waits) <= 30.0
    assert backoff.next() <= 2.0
