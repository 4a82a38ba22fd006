"""Fifty runs that daemons recorded, for a replay: simulated trainers and real trainings."""

import threading
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrpilot.pilot import Pilot
from lrpilot_controller.core.events import Commanded, SessionLost
from lrpilot_controller.core.model import Mode
from lrpilot_controller.journal import RunKey, SqlJournal
from lrpilot_controller.story.replay import Check, check
from support import digits
from support.daemon import PROJECT, Daemon, cli, environment, until
from support.journaled import Journaled
from support.searcher import BASE, Searcher
from support.simulated import Bowl
from support.streams import ATTEMPT, Quadratic
from support.training import attach, job, rollbacks, train, train_until


@dataclass(frozen=True)
class Recorded:
    """A run in a journal, and what was to happen in it."""

    kind: str
    storage: Path
    key: RunKey


# -- simulated trainers; a daemon without its server


def guarded(engine: Journaled, *, edge: float, **more: Any) -> None:
    """A run that blows up at an LR above `edge`."""
    delay = more.pop("delay", 3)
    run = Quadratic(edge, delay=delay, engine=engine, attempt=replace(ATTEMPT, **more))
    run.run(200)
    run.goodbye()


def searched(engine: Journaled, *, seed: int, **more: Any) -> None:
    """A run that begins with a search, and what comes after it."""
    run = Searcher(Bowl(noise=0.3, seed=seed), engine=engine, **more)
    run.search()
    run.go_on(40)
    run.goodbye()


def interrupted(engine: Journaled, *, seed: int) -> None:
    """A search that somebody validates in, and that has to go on without a word for a while."""
    run = Searcher(Bowl(noise=0.3, seed=seed), engine=engine)
    run.interrupted = lambda count: 2 if count in (4, 5) else None
    for _ in range(7):
        run.follow(run.todo.pop(0))
    run.todo.clear()
    run.fall_back()
    run.go_on(30)
    run.feed(SessionLost(run.attempt.id))


def resumed(engine: Journaled, *, edge: float) -> None:
    """A run whose process died and came back from a checkpoint."""
    run = Quadratic(edge, engine=engine)
    run.run(120)
    run.feed(SessionLost("t1"))
    scale = run.lr / run.attempt.groups[0].base_lr
    run.open(
        replace(ATTEMPT, id="t2", resumes="t1", start_step=100, branch=run.branch, scale=scale)
    )
    run.snapshot(1, proven=True)
    run.run(100)
    run.goodbye()


def commanded(engine: Journaled, *, seed: int) -> None:
    """A run in which a person asks for a search."""
    run = Searcher(Bowl(noise=0.3, seed=seed), engine=engine, search=False)
    run.go_on(50)
    run.feed(Commanded("search", "ann", f"data set {seed}"))
    run.search()
    run.go_on(40)
    run.ask("finish", 20)
    run.go_on(20)
    run.goodbye()


@dataclass(frozen=True)
class Simulation:
    """A simulated run: what happens in it, and when its daemon dies."""

    kind: str
    play: Callable[..., None]
    options: dict[str, Any]
    prior: float | None = None
    deaths: Container[int] = ()


def simulations() -> Iterator[Simulation]:
    """Forty runs of ten kinds."""
    for n in range(3):
        yield Simulation("healthy", guarded, {"edge": 1.0, "total_steps": 150 + 50 * n})
    for n in range(5):
        yield Simulation("diverging", guarded, {"edge": 0.08 / 2**n, "delay": 2 * n})
        yield Simulation("searching", searched, {"seed": n, "total_steps": 600 + 200 * n})
        deaths = range(3 + n, 1000, 7)
        dying = {"edge": 0.05 / 2**n}
        yield Simulation("daemon killed", guarded, dying, deaths=deaths)
    for n in range(4):
        yield Simulation("no snapshots", guarded, {"edge": 0.05 / 2**n, "can_snapshot": False})
        yield Simulation("resumed", resumed, {"edge": 0.05 / 2**n})
    for n in range(3):
        yield Simulation("search, plain loop", searched, {"seed": n, "can_replay": False})
        yield Simulation("search commanded", commanded, {"seed": n})
    for n in range(2):
        yield Simulation("search, later run", searched, {"seed": n}, prior=BASE * 10**n)
        yield Simulation("search interrupted", interrupted, {"seed": n})
        yield Simulation("observed", guarded, {"edge": 0.05 / 2**n, "mode": Mode.OBSERVE})
    for n in range(2):
        yield Simulation("search, killed", searched, {"seed": n}, deaths=range(4 + n, 1000, 9))


def simulate(one: Simulation, storage: Path) -> Recorded:
    """Record a simulated run."""
    daemon = Journaled(storage, one.prior, one.deaths)
    try:
        one.play(daemon, **one.options)
    finally:
        daemon.close()
    return Recorded(one.kind, storage, daemon.key)


# -- real trainings and a real daemon


def trained(daemon: Daemon, name: str, *, factor: float = 1.0, **options: Any) -> None:
    """A small regression, with a validation loss now and then."""
    one = job(factor)
    with attach(one, daemon.address, name, **options) as pilot:
        for _ in range(10):
            train(one, pilot, range(30), pause_s=0.001)
            pilot.validate(one.loss())


def killed(daemon: Daemon, name: str, *, settings: str = "") -> None:
    """The daemon is killed while a run goes on that blows up again; the next has these settings."""
    one = job(50)
    config = daemon.folder / "lrpilot.toml"
    config.write_text(settings)
    with attach(one, daemon.address, name) as pilot:
        train_until(one, pilot, lambda: rollbacks(pilot) > 0)
        for _ in range(2):
            train(one, pilot, range(40), pause_s=0.001)
            seen = rollbacks(pilot)  # before: the rollback may be quicker than the kill
            one.spoil()
            train(one, pilot, range(2))
            daemon.kill()
            daemon.start("--config", str(config))
            train_until(one, pilot, lambda seen=seen: rollbacks(pilot) > seen)  # type: ignore[misc]
        train(one, pilot, range(60), pause_s=0.001)
        until(lambda: pilot.summary().connected)


def came_back(daemon: Daemon, name: str) -> None:
    """A second process goes on from the first one's checkpoint."""
    one = job(50)
    with attach(one, daemon.address, name) as pilot:
        train_until(one, pilot, lambda: rollbacks(pilot) > 0)
        train(one, pilot, range(60), pause_s=0.001)
        state = pilot.state_dict()
    with attach(one, daemon.address, name) as pilot:
        pilot.load_state_dict(state)
        train(one, pilot, range(60), pause_s=0.001)


def found(daemon: Daemon, name: str, *, factor: float, person: bool = False) -> None:
    """The LR is searched: from the start, or when a person asks for it."""
    one = digits.digits(factor)
    env = environment(LRPILOT_ADDRESS=daemon.address)
    ask = threading.Thread(target=lambda: cli("search", name, env=env))

    def after_step(step: int) -> None:
        if person and step == 50:
            ask.start()
            until(lambda: pilot.searching or not ask.is_alive())

    pilot: Pilot
    with digits.attach(one, daemon.address, name, search=not person, max_lr=30.0) as pilot:
        digits.train(one, pilot, after_step=after_step)


def trainings() -> Iterator[tuple[str, Callable[..., None], dict[str, Any]]]:
    """Ten real runs."""
    yield "training", trained, {"mode": "observe", "factor": 50}
    yield "training", trained, {"total_steps": 300, "steps_per_epoch": 30}
    yield "training, diverging", trained, {"factor": 30}
    yield "training, diverging", trained, {"factor": 100}
    yield "training, daemon killed", killed, {}
    yield "training, resumed", came_back, {}
    yield "training, searching", found, {"factor": 100.0}
    yield "training, searching", found, {"factor": 1e-3}
    yield "training, search asked for", found, {"factor": 1e-2, "person": True}
    yield "training, settings changed", killed, {"settings": "[guard]\nfactor = 0.2"}


def replayed(run: Recorded) -> Check:
    """A recorded run, checked."""
    journal = SqlJournal.open(run.storage / "journal.db", readonly=True)
    try:
        return check(run.key, journal.records(run.key))
    finally:
        journal.close()


def record_all(folder: Path) -> Iterator[Recorded]:
    """Record all of it in directories in `folder`, each run as it is done."""
    with ThreadPoolExecutor(8) as pool:  # each waits for its journal most of the time
        ones = list(simulations())
        yield from pool.map(simulate, ones, (folder / f"s{n}" for n in range(len(ones))))
    daemon = Daemon(folder)
    daemon.start()
    try:
        for n, (kind, play, options) in enumerate(trainings()):
            play(daemon, f"run-{n}", **options)
            yield Recorded(kind, daemon.storage, RunKey(PROJECT, f"run-{n}"))
    finally:
        daemon.kill()
