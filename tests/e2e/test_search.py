"""What a search of the learning rate does to a raw PyTorch loop, with a real daemon."""

import itertools
import json
import logging
import math
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from lrpilot.pilot import Pilot
from lrpilot_controller.core.events import ProgramEnded, SearchEnded
from lrpilot_controller.core.plans import Batches
from support.daemon import Daemon, cli, environment, until
from support.digits import STEPS, Digits, attach, digits, train

# Of the loss on unseen digits at a good constant LR. The search costs a fifth of this short run,
# and the loss still falls fast there: the worst of ten seeds is at 1.5.
TOLERANCE = 2.0


@pytest.fixture(scope="module")
def well() -> float:
    """What a run of `STEPS` comes to at a good constant LR, alone."""
    one = digits()
    for batch in itertools.islice(one.batches(), STEPS):
        one.step(batch)
    return one.loss()


@pytest.fixture
def searched(daemon: Daemon) -> Daemon:
    """The daemon, started."""
    daemon.start()
    return daemon


# -- before step 0


@pytest.mark.parametrize("factor", [1e-3, 1.0, 100.0])
def test_the_lr_is_found_from_any_base(searched: Daemon, well: float, factor: float) -> None:
    one = digits(factor)
    with attach(one, searched.address, "run") as pilot:
        train(one, pilot)
        assert pilot.step_count == STEPS, "a search takes no batch and no step in addition"
        waited = pilot.summary().wait_seconds
    assert one.loss() < TOLERANCE * well

    shown = cli("show", "run", "--json", "--storage", searched.storage)
    story = json.loads(shown.stdout)
    found = story["search"]
    assert story["state"] == "finished"
    assert found["end"] == "found"
    assert found["reason"]
    assert 0.1 < found["lr"] / one.task.lr_scale < 10
    assert 0 < found["steps"] < 0.4 * STEPS
    assert story["cost"]["probe_steps"] == found["steps"]
    assert story["cost"]["wait_seconds"] == pytest.approx(waited, abs=0.01)
    assert story["step"] == STEPS
    _check_books(searched, "run", pilot)


def _check_books(daemon: Daemon, run: str, pilot: Pilot) -> None:
    """Each step and each decision once; no decision without an answer; every wait in bounds."""
    assert daemon.seqs(run) == list(range(1, pilot.step_count + 1))
    decided = daemon.decided(run)
    assert decided == sorted(set(decided))
    receipts = [event.receipt for event in daemon.receipts(run)]
    assert Counter(receipt.decision_id for receipt in receipts) == Counter(decided)
    assert [d.id for d in pilot.decisions] == decided, "each reached the trainer once"
    ended = [record.event.program for record in daemon.records(run, ProgramEnded)]
    assert len(ended) == len(set(ended)) == pilot.summary().programs
    first, *others = (receipt.wait_seconds for receipt in receipts)
    assert first < 30
    assert max(others) < 0.3
    assert sum(others) < 2.5


def test_a_person_sees_how_far_it_is(searched: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    one = digits(100.0)
    states: list[tuple[bool, str, str]] = []

    def look(step: int) -> None:
        if step in (40, 200):
            until(lambda: step <= searched.story("run")["telemetry"]["received"])
            states.append((pilot.searching, pilot.progress, searched.story("run")["state"]))

    with (
        caplog.at_level(logging.INFO, "lrpilot"),
        attach(one, searched.address, "run") as pilot,
    ):
        train(one, pilot, after_step=look)
    [(busy, progress, state), (busy_later, later, state_later)] = states
    assert (busy, state) == (True, "searching")
    assert progress.startswith("LRPilot search: ")
    assert (busy_later, later, state_later) == (False, "", "tracking")
    told = [text for text in caplog.messages if text.startswith("LRPilot search: ")]
    phases = ["reference", "response", "range test", "ladder"]
    assert [text.split(": ")[1].split(",")[0] for text in told] == phases
    assert "of search" in caplog.messages[-1], "and what it ended with"


def test_a_closure_is_searched_before_the_loop(searched: Daemon, well: float) -> None:
    one = digits(100.0)
    loader = one.epoch()
    with attach(one, searched.address, "run") as pilot:
        pilot.search(one.step, loader)
        assert not pilot.searching
        assert 0 < pilot.step_count < 0.4 * STEPS
        found = pilot.lrs
        batches = itertools.cycle(loader)
        while pilot.step_count < STEPS:
            pilot.step(one.step(next(batches)))
            if pilot.step_count == STEPS // 2:
                assert pilot.lrs == found
    assert one.loss() < TOLERANCE * well
    assert searched.story("run")["search"]["end"] == "found"
    _check_books(searched, "run", pilot)


def test_an_epoch_may_end_in_a_program(searched: Daemon, well: float) -> None:
    """The loader is asked anew; what the search replays is its own."""
    one = digits(1e-3)
    loader = one.epoch(15)
    with attach(one, searched.address, "run") as pilot:
        while pilot.step_count < STEPS:
            for batch in pilot.batches(loader):
                pilot.step(one.step(batch))
                if pilot.step_count == STEPS:
                    break
            pilot.settle()
            pilot.validate(one.loss())
    # 15 batches again and again are not the 50 that the good LR saw: it learnt, that is all.
    assert one.loss() < 1.0 < math.log(10)
    story = searched.story("run")
    assert story["search"]["end"] == "found"
    assert story["step"] == STEPS


def test_without_a_horizon_the_lr_is_held_until_finish(searched: Daemon, well: float) -> None:
    one = digits(100.0)
    with attach(one, searched.address, "run", total_steps=None) as pilot:
        train(one, pilot, STEPS)
        assert not pilot.searching
        held = pilot.lrs
        assert held == [searched.story("run")["search"]["lr"]]
        pilot.finish(100)
        train(one, pilot, 50)
        assert pilot.lrs == [pytest.approx(held[0] / 2, rel=0.05)]
        train(one, pilot, 50)
        assert pilot.lrs == [pytest.approx(0.0, abs=held[0] / 50)]
    assert one.loss() < TOLERANCE * well
    assert searched.story("run")["state"] == "finished"


@pytest.mark.parametrize(("promised", "made"), [(STEPS // 2, STEPS), (2 * STEPS, STEPS)])
def test_the_loop_may_be_longer_or_shorter_than_it_said(
    searched: Daemon, promised: int, made: int
) -> None:
    """Beyond the horizon training goes on slowly; before it, what was learnt is kept."""
    one = digits(100.0)
    with attach(one, searched.address, "run", total_steps=promised) as pilot:
        train(one, pilot, made)
        assert pilot.step_count == made
        [last] = pilot.lrs
    assert one.loss() < 0.5
    story = searched.story("run")
    assert (story["state"], story["step"]) == ("finished", made)
    found = story["search"]
    assert found["end"] == "found"
    assert 0 < last < 0.1 * found["lr"] if made > promised else last == found["lr"]


def test_a_run_that_ends_in_its_search_has_the_weights_that_it_began_with(
    searched: Daemon,
) -> None:
    one = digits(100.0)
    before = [parameter.detach().clone() for parameter in one.task.model.parameters()]
    with attach(one, searched.address, "run", total_steps=4000) as pilot:
        train(one, pilot, 30)
        assert pilot.searching
    after = list(one.task.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    story = searched.story("run")
    assert (story["state"], story["step"]) == ("finished", 30)
    assert story["cost"]["probe_steps"] == 30


# -- in mid-run


@pytest.mark.parametrize("when", [50, 101])
def test_the_loop_asks_for_a_search(searched: Daemon, well: float, when: int) -> None:
    one = digits(1e-2)

    def ask(step: int) -> None:
        if step == when:
            pilot.search()

    with attach(one, searched.address, "run", search=False, max_lr=30.0) as pilot:
        train(one, pilot, pause_s=0.001, after_step=ask)
    _check_found_in_mid_run(searched, one, pilot, well)


def test_a_person_asks_for_a_search(searched: Daemon, well: float) -> None:
    one = digits(1e-2)
    asked = []
    env = environment(LRPILOT_ADDRESS=searched.address)
    person = threading.Thread(target=lambda: asked.append(cli("search", "run", env=env)))

    def after_step(step: int) -> None:
        if step == 50:
            person.start()
        if person.is_alive():
            time.sleep(0.02)

    with attach(one, searched.address, "run", search=False, max_lr=30.0) as pilot:
        train(one, pilot, pause_s=0.001, after_step=after_step)
    [done] = asked
    assert done.returncode == 0, done.stderr
    assert "default/run searches" in done.stdout
    _check_found_in_mid_run(searched, one, pilot, well)


def test_a_closure_is_searched_in_mid_run(searched: Daemon, well: float) -> None:
    one = digits(1e-2)
    with attach(one, searched.address, "run", search=False, max_lr=30.0) as pilot:
        train(one, pilot, 50, pause_s=0.001)
        pilot.search(one.step, one.epoch())
        assert not pilot.searching
        train(one, pilot, STEPS - pilot.step_count)
    _check_found_in_mid_run(searched, one, pilot, well)


def _check_found_in_mid_run(daemon: Daemon, one: Digits, pilot: Pilot, well: float) -> None:
    assert pilot.step_count == STEPS
    [ended] = [record.event for record in daemon.records("run", SearchEnded)]
    assert ended.result.end == "found", ended.result.reason
    begun = next(d for d in pilot.decisions if d.action == "program")
    assert begun.applied_step >= 50
    assert 0.1 < ended.result.lr / one.task.lr_scale < 10
    assert one.loss() < 2 * TOLERANCE * well, "up to a quarter of the run was spent before"
    _check_books(daemon, "run", pilot)


def test_nothing_is_searched_twice_at_a_time(searched: Daemon) -> None:
    one = digits(1e-3)
    said = []
    env = environment(LRPILOT_ADDRESS=searched.address)

    def look(step: int) -> None:
        if step == 10:
            pilot.search()
            said.append(cli("search", "run", env=env))

    with attach(one, searched.address, "run") as pilot:
        train(one, pilot, after_step=look)
    [refused] = said
    assert refused.returncode != 0
    assert "searching already" in refused.stderr
    assert len(searched.records("run", SearchEnded)) == 1
    _check_books(searched, "run", pilot)


# -- what earlier runs found


@pytest.fixture
def twice(daemon: Daemon) -> Daemon:
    """A daemon that remembers one search of this job."""
    daemon.start()
    one = digits(1e-3)
    with attach(one, daemon.address, "first") as pilot:
        train(one, pilot)
    until(lambda: daemon.remembers(1))
    return daemon


def _phases(daemon: Daemon, run: str) -> list[str]:
    programs = (decision.program for decision in daemon.decisions(run))
    phases = [program.phase for program in programs if program]
    return list(dict.fromkeys(phases))


def test_a_later_run_of_the_job_is_checked(twice: Daemon, well: float) -> None:
    one = digits(1e-3, seed=1)
    with attach(one, twice.address, "second") as pilot:
        train(one, pilot)
    assert _phases(twice, "first") == ["reference", "response", "range test", "ladder"]
    assert _phases(twice, "second") == ["reference", "ladder"]
    assert one.loss() < TOLERANCE * well
    _check_books(twice, "second", pilot)


def test_another_horizon_is_another_job(twice: Daemon) -> None:
    one = digits(1e-3, seed=1)
    with attach(one, twice.address, "second", total_steps=2 * STEPS) as pilot:
        train(one, pilot, 200)
    assert "range test" in _phases(twice, "second")


@pytest.mark.parametrize("reuse", ["trust", "never"])
def test_a_person_decides_what_earlier_runs_are_worth(folder: Path, reuse: str) -> None:
    config = folder / "lrpilot.toml"
    config.write_text(f"[search]\nreuse = '{reuse}'\n")
    daemon = Daemon(folder)
    daemon.start("--config", str(config))
    try:
        for run in ("first", "second"):
            one = digits(1e-3)
            with attach(one, daemon.address, run) as pilot:
                train(one, pilot)
            assert one.loss() < 0.3
            until(lambda: daemon.remembers(1))
        first, second = (daemon.story(run)["search"] for run in ("first", "second"))
        assert first["end"] == "found"
        if reuse == "trust":
            assert (second["end"], second["steps"]) == ("reused", 0)
            assert second["lr"] == pytest.approx(first["lr"])
            assert pilot.summary().programs == 0
        else:
            assert second["end"] == "found"
            assert _phases(daemon, "second") == _phases(daemon, "first")
    finally:
        daemon.kill()


# -- without `batches`


@pytest.mark.parametrize("factor", [1e-2, 100.0])
def test_a_plain_loop_is_searched_on_fresh_batches(searched: Daemon, factor: float) -> None:
    """It is less sure, and says so where it declines."""
    one = digits(factor)
    with attach(one, searched.address, "run") as pilot:
        for batch in itertools.islice(one.batches(), STEPS):
            pilot.step(one.step(batch))
            time.sleep(0.002)
    programs = [decision.program for decision in searched.decisions("run")]
    assert {program.batches for program in programs if program} == {Batches.FRESH}
    [ended] = [record.event.result for record in searched.records("run", SearchEnded)]
    assert ended.end in ("found", "declined")
    assert ended.reason
    assert math.isfinite(one.loss())
    if ended.end == "found":
        assert one.loss() < 1.0
    _check_books(searched, "run", pilot)


def test_no_run_is_searched_without_being_asked_to(searched: Daemon) -> None:
    one = digits(1e-3)
    with attach(one, searched.address, "run", search="auto") as pilot:
        train(one, pilot, 100)
        assert pilot.lrs == [one.optimizer.defaults["lr"]]
    assert searched.decided("run") == []


# -- with a scheduler


@pytest.mark.parametrize("factor", [1e-3, 100.0])
def test_the_base_of_a_schedule_is_found(searched: Daemon, well: float, factor: float) -> None:
    one = digits(factor)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(one.optimizer, STEPS)
    with attach(one, searched.address, "run", scheduler=schedule) as pilot:
        train(one, pilot, after_step=lambda step: schedule.step())
        assert pilot.step_count == STEPS
        assert schedule.last_epoch == STEPS, "the native curve goes on in a search"
        assert pilot.lrs == [pytest.approx(0.0, abs=1e-6)], "the shape is the user's own"
    assert one.loss() < 2 * TOLERANCE * well, "the schedule decays while the search takes its time"
    assert searched.story("run")["search"]["end"] == "found"
    _check_books(searched, "run", pilot)
