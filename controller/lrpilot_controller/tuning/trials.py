"""Entries written as trials: each exactly once, whatever was written before."""

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lrpilot_controller.tuning import contents, shown, studies
from lrpilot_controller.tuning.entries import VERDICT, Entry, Home, Identity
from lrpilot_controller.tuning.places import Place, TrialsUnavailable

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an entry's trial is."""

    study: "Study"
    number: int

    def trial(self) -> "FrozenTrial":
        """The trial as it is in the file now."""
        return self.study.get_trials(deepcopy=False)[self.number]


class TrialBook:
    """The open trials, for one thread.

    Args:
        place: Where the trials are.
        timeout_s: The longest wait for a lock that another process holds.

    Raises:
        TrialsUnavailable: It cannot be opened or written now.
        ImportError: Optuna is not installed.
    """

    def __init__(self, place: Place, timeout_s: float) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._place = place
        self._timeout_s = timeout_s
        self._places: dict[Identity, tuple[str, int]] = {}  # a study, and a number in it
        self._settled: set[Identity] = set()  # finished, and nothing of it is missing
        self._open: set[Identity] = set()  # not finished
        self._judged: dict[Identity, str] = {}
        self._studies: dict[str, Study] = {}  # the newest parts
        self._by_name: dict[str, Study] = {}
        with ExitStack() as opening:
            opening.enter_context(place.sole_writer(timeout_s))
            storage = place.open(timeout_s, create=True)
            opening.callback(storage.engine.dispose)
            opening.callback(storage.remove_session)
            self._identity = place.identity()
            self.storage = optuna.storages.get_storage(storage)
            self._learn(storage.engine)
            self._closing = opening.pop_all()

    def close(self) -> None:
        """Lets go of the file; closing twice is harmless."""
        self._closing.close()

    def check(self) -> None:
        """Makes sure that what is written now arrives in the place of that name.

        Raises:
            TrialsUnavailable: It was removed or replaced, or cannot be written.
        """
        self._place.check_writable(self._timeout_s)
        if self._place.identity() != self._identity:
            raise TrialsUnavailable(f"{self._place.name} was replaced: it is opened anew")

    def put(self, entry: Entry) -> None:
        """Writes what is missing of an entry; what is there already is left as it is."""
        identity = entry.identity
        if identity not in self._settled:
            self._settle(entry)
        if entry.verdict and self._judged.get(identity) != entry.verdict:
            self._judge(entry)

    def _settle(self, entry: Entry) -> None:
        identity = entry.identity
        place = self._spot(identity)
        if place is None:
            place = self._add(entry.measured(entry))
            self._places[identity] = place.study.study_name, place.number
        elif not place.trial().state.is_finished():
            self._update(place, entry.measured(entry))
        elif not shown.is_written(place.study, place.number):
            self._note(place, entry)
        if entry.pending:
            self._open.add(identity)
        else:
            self._open.discard(identity)
            self._settled.add(identity)

    def _judge(self, entry: Entry) -> None:
        """Writes down what a person said of it, with its study and in its note."""
        place = self._spot(entry.identity)
        assert place is not None
        key = f"{VERDICT}{place.number}"
        if place.study.user_attrs.get(key) != entry.verdict:
            place.study.set_user_attr(key, entry.verdict)
            self._note(place, entry)
        self._judged[entry.identity] = entry.verdict

    def fail_strays(self, pending: Collection[Identity]) -> None:
        """Ends the trials that are still open though nothing in the journal is."""
        from optuna.trial import TrialState

        for identity in self._open - set(pending):
            place = self._spot(identity)
            assert place is not None
            trial = place.trial()
            if not trial.state.is_finished():
                live = shown.live(place.study, trial)
                live.set_user_attr("outcome", "unknown")
                place.study.tell(place.number, state=TrialState.FAIL, skip_if_finished=True)

    def _learn(self, engine: "Engine") -> None:
        """Remembers which entries have a trial, and where; no trial is held in memory for it."""
        newest = -1
        for held in contents.trials_in(engine):
            kind = studies.kind_of({} if held.kind is None else {"kind": held.kind})
            identity = identity_of(kind, held.attributes)
            self._places[identity] = held.study, held.number
            (self._settled if held.finished else self._open).add(identity)
            if held.id > newest:
                newest, last = held.id, identity
        if newest >= 0:
            self._settled.discard(last)  # its writer may have died between it and its note

    def _spot(self, identity: Identity) -> Spot | None:
        """Where an entry's trial is; None where it has none yet."""
        import optuna

        if (found := self._places.get(identity)) is None:
            return None
        name, number = found
        if name not in self._by_name:
            sampler = optuna.samplers.RandomSampler()
            self._by_name[name] = optuna.load_study(
                study_name=name, storage=self.storage, sampler=sampler
            )
        return Spot(self._by_name[name], number)

    def _add(self, entry: Entry) -> Spot:
        from optuna.distributions import FloatDistribution
        from optuna.trial import TrialState, create_trial

        study = self._study(entry.home)
        trial = create_trial(
            state=TrialState[entry.state],
            value=entry.value,
            params={name: param.value for name, param in entry.params.items()},
            distributions={
                name: FloatDistribution(param.low, param.high, log=True)
                for name, param in entry.params.items()
            },
            user_attrs=dict(entry.attributes),
            intermediate_values=dict(entry.curve()),
        )
        trial.datetime_start = datetime.fromtimestamp(entry.started)
        if entry.ended is not None:
            trial.datetime_complete = datetime.fromtimestamp(entry.ended)
        study.add_trial(trial)
        place = Spot(study, study.get_trials(deepcopy=False)[-1].number)
        self._note(place, entry)
        return place

    def _update(self, place: Spot, entry: Entry) -> None:
        from optuna.trial import TrialState

        trial = place.trial()
        live = shown.live(place.study, trial)
        changed = False
        for key, value in entry.attributes.items():
            if trial.user_attrs.get(key) != value:
                live.set_user_attr(key, value)
                changed = True
        for step, loss in entry.curve().items():
            live.report(loss, step)
        if changed:
            self._note(place, entry)
        if not entry.pending:
            state = TrialState[entry.state]
            place.study.tell(place.number, entry.value, state=state, skip_if_finished=True)

    def _note(self, place: Spot, entry: Entry) -> None:
        if note := entry.note():
            if entry.page is not None:
                note += f"\n\n{shown.link_to(self._study(entry.page))}"
            shown.write(place.study, place.number, note)

    def _study(self, home: Home) -> "Study":
        study = self._studies.get(home.name)
        if study is None or not studies.has_room(study):
            study = self._studies[home.name] = studies.open_study(self.storage, home)
        return study


def identity_of(kind: str, attributes: Mapping[str, Any]) -> Identity:
    """Which entry a trial with these user attributes is of, in a study of this kind."""
    return (
        kind,
        str(attributes.get("run", "")),
        str(attributes.get("attempt", "")),
        int(attributes.get("decision_id", attributes.get("search", 0))),
    )
