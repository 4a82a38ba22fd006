"""A project whose factors are learnt: between real processes, from one run to the next."""

from lrpilot_controller.core.events import Answered, Asked, Decided
from lrpilot_controller.core.model import Decision
from lrpilot_controller.journal import SqlJournal
from lrpilot_controller.story.replay import check
from lrpilot_controller.tuning.advisor import earned
from lrpilot_controller.tuning.interventions import interventions_study
from lrpilot_controller.tuning.reading import TrialReader
from support.daemon import Daemon, until
from support.training import attach, job, train_until

RULE = 1 / 3


def blow_up(daemon: Daemon, name: str) -> None:
    """A run that is saved from far too high a rate."""
    one = job(200)
    with attach(one, daemon.address, name) as pilot:
        train_until(one, pilot, lambda: one.loss() < 0.1)


def records_of(daemon: Daemon, name: str) -> list[object]:
    """What its journal holds of a run of the project, which it also gives when replayed."""
    journal = SqlJournal.open(daemon.storage / "journal.db", readonly=True)
    try:
        (key,) = (run for run in journal.runs() if run.name == name)
        found = check(key, journal.records(key))
        assert found.difference is None
        assert found.missing == ()
        return [record.event for record in journal.records(key)]
    finally:
        journal.close()


def test_what_one_run_earned_is_asked_by_the_next_and_a_replay_asks_nobody(daemon: Daemon) -> None:
    config = daemon.folder / "lrpilot.toml"
    config.write_text("[tune]\nfactors = true\n")
    daemon.start("--config", str(config))
    blow_up(daemon, "first")
    first = records_of(daemon, "first")
    answers = [event for event in first if isinstance(event, Answered)]
    assert len([event for event in first if isinstance(event, Asked)]) >= len(answers) >= 4
    assert {"quadratic on 0 earlier" in event.reason for event in answers[:4]} == {True}
    cuts = tuned(first)
    assert cuts[0].factor == RULE, "the rule comes first"

    assert cuts[0].signal is not None
    trials = TrialReader(daemon.storage)
    study = interventions_study("default", cuts[0].signal.kind, "SGD")
    until(lambda: any(earned(trials.newest(study), RULE)), what="its trials")
    trials.close()
    blow_up(daemon, "second")
    second = records_of(daemon, "second")
    learnt = [event for event in second if isinstance(event, Answered)]
    assert any("on 0 earlier" not in event.reason for event in learnt)
    for decision in tuned(second):
        assert RULE / 3 <= decision.factor <= 0.9


def tuned(records: list[object]) -> list[Decision]:
    """The decisions whose factor might have been learnt."""
    made = [event.decision for event in records if isinstance(event, Decided)]
    return [decision for decision in made if decision.rule is not None]
