"""A clean slate for a project: what was learned of it counts no more.

Its studies are marked, not deleted: a trial that is there is never written again from the journal,
and what a reviewer reads stays. What comes after goes into new parts of them.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning import contents, studies
from lrpilot_controller.tuning.faults import words_of
from lrpilot_controller.tuning.places import TrialsUnavailable, place_of

LOCK_S = 10.0
LEARNT = ("interventions", "runs")  # of a run's probes nothing is learned


@dataclass(frozen=True, slots=True)
class Slate:
    """What was learned of one project, in trials that count.

    Attributes:
        interventions: decisions about signals.
        runs: what whole runs found.
        others: the projects of which something was learned; to name where this one has nothing.
    """

    interventions: int
    runs: int
    others: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.interventions or self.runs)


def look(storage: Storage, project: str) -> Slate:
    """What there is to forget.

    Raises:
        TrialsUnavailable: the trials cannot be read now.
        ImportError: Optuna is not installed.
    """
    return _slate(storage, project, forget=False)


def forget(storage: Storage, project: str) -> Slate:
    """Let nothing of it count from now on, beside a running daemon or without one.

    Returns:
        What is forgotten.

    Raises:
        TrialsUnavailable: the trials cannot be written now.
        ImportError: Optuna is not installed.
    """
    return _slate(storage, project, forget=True)


def _slate(storage: Storage, project: str, *, forget: bool) -> Slate:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = place_of(storage)
    if place.identity() is None:
        return Slate(0, 0)
    counts = dict.fromkeys(LEARNT, 0)
    others = set()
    with ExitStack() as opened:
        trials = place.open(LOCK_S, create=False)
        opened.callback(trials.engine.dispose)
        opened.callback(trials.remove_session)
        try:
            for study in contents.studies_in(trials.engine):
                kind, whose = studies.kind_of(study.attributes), study.name.split("/")[0]
                if kind not in LEARNT or studies.is_forgotten(study.attributes):
                    continue
                if whose != project:
                    others.add(whose)
                    continue
                counts[kind] += trials.get_n_trials(study.id)
                if forget:
                    trials.set_study_user_attr(study.id, studies.FORGOTTEN, time.time())
        except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
            raise TrialsUnavailable(words_of(error, place)) from error
    return Slate(counts["interventions"], counts["runs"], tuple(sorted(others)))
