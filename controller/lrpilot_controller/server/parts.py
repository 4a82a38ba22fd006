"""The daemon's parts, and how they are put together."""

from contextlib import ExitStack
from dataclasses import dataclass

from lrpilot_controller.config import Config
from lrpilot_controller.journal.retention import Retention
from lrpilot_controller.journal.sql import SqlJournal
from lrpilot_controller.journal.writer import JournalWriter
from lrpilot_controller.server.asking import Asking
from lrpilot_controller.server.chronicle import Chronicle
from lrpilot_controller.server.intake import MIB, Intake, Room
from lrpilot_controller.server.limits import Door
from lrpilot_controller.server.pace import FlushPace
from lrpilot_controller.server.runs import Runs
from lrpilot_controller.server.sessions import SessionServicer
from lrpilot_controller.server.watching import Watching
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.advisor import InterventionAdvisor
from lrpilot_controller.tuning.priors import JobPriors
from lrpilot_controller.tuning.recorder import TrialRecorder


@dataclass(frozen=True, slots=True)
class Parts:
    """What a daemon consists of, apart from its lines to the outside."""

    journal: SqlJournal
    writer: JournalWriter
    recorder: TrialRecorder
    retention: Retention
    door: Door
    runs: Runs
    pace: FlushPace
    sessions: SessionServicer
    watching: Watching


def assemble(storage: Storage, config: Config, owned: ExitStack) -> Parts:
    """Open the journal in `storage`, and put together what serves it.

    Args:
        owned: closes again what has to be closed.

    Raises:
        JournalError: the journal cannot be used.
        DaemonExists: another daemon holds its database.
        ConfigError: the database needs a driver that is not installed.
    """
    journal = SqlJournal.open(storage.journal)
    owned.callback(journal.close)
    writer = JournalWriter(journal)
    owned.callback(writer.close)
    recorder = TrialRecorder(storage)
    owned.callback(recorder.close)
    priors = JobPriors(storage)
    owned.callback(priors.close)
    advisor = InterventionAdvisor(storage, config.sampler)
    owned.callback(advisor.close)
    limits = config.server
    intake = Intake(journal, limits, Room(journal.place, limits))
    retention = Retention(journal, writer, config.keep, limits.max_journal_mib * MIB)
    watching = Watching(journal)
    runs = Runs(journal, writer, config, priors, intake)
    runs.listeners += [recorder.record, Chronicle(journal).record, retention.heard, watching.record]
    runs.listeners.append(Asking(advisor, runs).record)
    runs.forgetters += [retention.forgotten, watching.forgotten]
    door, pace = Door(limits), FlushPace()
    sessions = SessionServicer(runs, door, pace)
    return Parts(journal, writer, recorder, retention, door, runs, pace, sessions, watching)
