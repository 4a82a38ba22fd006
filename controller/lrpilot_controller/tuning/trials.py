"""Cases written as trials: each exactly once, whatever was written before."""

import math
import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrpilot_controller.tuning import studies
from lrpilot_controller.tuning.cases import Case
from lrpilot_controller.tuning.notes import trial_note, worth_a_note

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

Identity = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a decision's trial is."""

    study: "Study"
    number: int

    def trial(self) -> "FrozenTrial":
        """The trial as it is in the file now."""
        return self.study.get_trials(deepcopy=False)[self.number]


class TrialBook:
    """The open file of trials, for one thread.

    Args:
        directory: The storage directory.
        timeout_s: The longest wait for a lock that another process holds.

    Raises:
        TrialsUnavailable: It cannot be opened or written now.
        ImportError: Optuna is not installed.
    """

    def __init__(self, directory: Path, timeout_s: float) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.path = directory / studies.TRIALS
        self._timeout_s = timeout_s
        self._places: dict[Identity, Place] = {}
        self._settled: set[Identity] = set()  # finished, and nothing of it is missing
        self._studies: dict[str, Study] = {}
        with ExitStack() as opening:
            opening.enter_context(studies.sole_writer(directory, timeout_s))
            storage = studies.open_file(self.path, timeout_s, create=True)
            opening.callback(storage.engine.dispose)
            opening.callback(storage.remove_session)
            self._inode = self.path.stat().st_ino
            self._storage = optuna.storages.get_storage(storage)
            for study in studies.our_studies(self._storage):
                self._read(study)
            self._closing = opening.pop_all()

    def close(self) -> None:
        """Lets go of the file; closing twice is harmless."""
        self._closing.close()

    def check(self) -> None:
        """Makes sure that what is written now arrives in the file of that name.

        Raises:
            TrialsUnavailable: It was removed or replaced, or cannot be written.
        """
        try:
            if self.path.stat().st_ino != self._inode:
                raise studies.TrialsUnavailable(f"{self.path} was replaced: it is opened anew")
            studies.check_writable(self.path, self._timeout_s)
        except (OSError, sqlite3.Error) as error:
            raise studies.TrialsUnavailable(studies.explain(self.path, error)) from error

    def put(self, case: Case, curve: Callable[[], Mapping[int, float]]) -> None:
        """Writes what is missing of a case; what is there already is left as it is.

        Args:
            case: As the journal knows it now.
            curve: Reads the intermediate values; called only where they are written.
        """
        identity = case.identity
        if identity in self._settled:
            return
        place = self._places.get(identity)
        if place is None:
            place = self._places[identity] = self._add(case, curve)
        elif not place.trial().state.is_finished():
            self._update(place, case, curve)
        elif worth_a_note(case, place.number) and not _has_note(place):
            _note(place, case)
        if not case.pending:
            self._settled.add(identity)

    def fail_strays(self, pending: Collection[Identity]) -> None:
        """Ends the trials that are still open though no decision in the journal is."""
        from optuna.trial import TrialState

        for identity in self._places.keys() - self._settled - set(pending):
            place = self._places[identity]
            trial = place.trial()
            if not trial.state.is_finished():
                live = _live(place, trial)
                live.set_user_attr("outcome", "unknown")
                place.study.tell(place.number, state=TrialState.FAIL, skip_if_finished=True)

    def _read(self, study: "Study") -> None:
        """Learns which decisions a study holds."""
        identity = None
        for trial in study.get_trials(deepcopy=False):
            identity = identity_of(trial.user_attrs)
            self._places[identity] = Place(study, trial.number)
            if trial.state.is_finished():
                self._settled.add(identity)
        if identity is not None:
            # Its writer may have died between this trial and its note.
            self._settled.discard(identity)

    def _add(self, case: Case, curve: Callable[[], Mapping[int, float]]) -> Place:
        from optuna.trial import TrialState, create_trial

        study = self._study(case)
        factor = case.decision.factor
        known = math.isfinite(factor) and factor > 0
        state = TrialState.RUNNING
        if not case.pending:
            state = TrialState.FAIL if case.gain is None else TrialState.COMPLETE
        trial = create_trial(
            state=state,
            value=case.gain,
            params={"factor": factor} if known else {},
            distributions={"factor": studies.factor_range(factor)} if known else {},
            user_attrs=attributes(case),
            intermediate_values=dict(curve()),
        )
        trial.datetime_start = datetime.fromtimestamp(case.decided_at)
        if not case.pending:
            trial.datetime_complete = datetime.fromtimestamp(case.ended_at or case.decided_at)
        study.add_trial(trial)
        added = study.get_trials(deepcopy=False)[-1]
        place = Place(study, added.number)
        if worth_a_note(case, place.number):
            _note(place, case)
        return place

    def _update(self, place: Place, case: Case, curve: Callable[[], Mapping[int, float]]) -> None:
        from optuna.trial import TrialState

        trial = place.trial()
        live = _live(place, trial)
        changed = False
        for key, value in attributes(case).items():
            if trial.user_attrs.get(key) != value:
                live.set_user_attr(key, value)
                changed = True
        for step, loss in curve().items():
            live.report(loss, step)
        if changed and worth_a_note(case, place.number):
            _note(place, case)
        if case.pending:
            return
        state = TrialState.FAIL if case.gain is None else TrialState.COMPLETE
        place.study.tell(place.number, case.gain, state=state, skip_if_finished=True)

    def _study(self, case: Case) -> "Study":
        signal = case.decision.signal.kind.value if case.decision.signal else "none"
        family = studies.optimizer_family(case.attempt.optimizer if case.attempt else "")
        name = studies.study_name(case.run.project, signal, family)
        study = self._studies.get(name)
        if study is None or len(study.get_trials(deepcopy=False)) >= studies.TRIALS_PER_STUDY:
            study = studies.open_study(self._storage, case.run.project, signal, family)
            self._studies[name] = study
        return study


def identity_of(attributes: Mapping[str, Any]) -> Identity:
    """Which decision a trial with these user attributes is of."""
    return (
        str(attributes.get("run", "")),
        str(attributes.get("attempt", "")),
        int(attributes.get("decision_id", 0)),
    )


def attributes(case: Case) -> dict[str, Any]:
    """Everything that a reviewer may want to sort or filter by; what is not known is left out."""
    decision, receipt, outcome = case.decision, case.receipt, case.outcome
    run, attempt, number = case.identity
    found: dict[str, Any] = {
        "run": run,
        "attempt": attempt,
        "decision_id": number,
        "action": decision.action.value,
        "status": case.status.value,
        "outcome": str(case.end),
        "reason": decision.reason,
        "step": decision.step,
        "branch": decision.branch,
        "optimizer": case.attempt.optimizer if case.attempt else None,
    }
    if signal := decision.signal:
        found |= {
            "signal": signal.kind.value,
            "signal_step": signal.step,
            "signal_since": signal.since,
            "severity": signal.severity,
        }
        found |= {f"evidence.{name}": value for name, value in signal.evidence.items()}
    if receipt is not None:
        found |= {
            "lrs_before": list(receipt.lrs_before),
            "lrs_after": list(receipt.lrs_after),
            "wait_seconds": receipt.wait_seconds,
            "detail": receipt.detail or None,
        }
        if case.status.value == "applied":
            found |= {
                "applied_step": receipt.applied_step,
                "rolled_back_steps": case.undone_steps,
            }
    if outcome is not None:
        found |= {
            "steps": outcome.steps,
            "loss_before": outcome.loss_before,
            "loss_after": outcome.loss_after,
        }
    return {key: _plain(value) for key, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    """A value that strict JSON can hold: the dashboard's page cannot read a bare NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _live(place: Place, trial: "FrozenTrial") -> "Trial":
    from optuna.trial import Trial

    # What ask() would have returned; notes and attributes need it, and these trials were added.
    return Trial(place.study, trial._trial_id)


def _note(place: Place, case: Case) -> None:
    try:
        from optuna_dashboard import save_note
    except ImportError:  # the trials are worth having without the dashboard
        return
    save_note(_live(place, place.trial()), trial_note(case))


def _has_note(place: Place) -> bool:
    try:
        from optuna_dashboard import get_note
    except ImportError:
        return True
    return bool(get_note(_live(place, place.trial())))
