"""One run's state machine: events in, signals and decisions out.

The watch sees the run's own samples, a search its programs; both propose, and the desk decides.
Between a decision and its receipt nothing else is decided. Feeding the same events again gives
the same outputs, however the samples were batched.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lrpilot_controller.core.attempt import LiveAttempt
from lrpilot_controller.core.desk import Desk
from lrpilot_controller.core.detectors import Detectors
from lrpilot_controller.core.events import (
    Commanded,
    Configured,
    Event,
    Input,
    Noticed,
    Output,
    Requested,
    SessionOpened,
)
from lrpilot_controller.core.model import Attempt, Question
from lrpilot_controller.core.plain import from_plain, to_plain
from lrpilot_controller.core.policies.base import Policy
from lrpilot_controller.core.policies.guard import GuardPolicy
from lrpilot_controller.core.settings import CoreSettings
from lrpilot_controller.core.view import RunView
from lrpilot_controller.core.watch import MakeDetectors, Watch

PolicyFactory = Callable[[CoreSettings], Policy]

STATE = 1
"""The version of what an engine's state means: one more where an older one cannot go on from it.
A state that lacks something, or has more, is refused in any case."""


class OtherFormat(ValueError):
    """A state that another version, or one with other detectors, wrote."""


def guard_policy(settings: CoreSettings) -> Policy:
    """The policy that runs unless another one is named."""
    return GuardPolicy(settings.guard)


class Engine:
    """Decides for one run.

    Args:
        settings: what a person may set, until the first `Configured`.
        policy: makes the policy; the guard unless given.
        make_detectors: makes a run's detectors; the built-in ones unless given.
    """

    def __init__(
        self,
        settings: CoreSettings | None = None,
        policy: PolicyFactory = guard_policy,
        make_detectors: MakeDetectors = Detectors,
    ) -> None:
        self._make_detectors = make_detectors
        self._settings = settings or CoreSettings()
        self._make_policy = policy
        self._policy = policy(self._settings)
        self._desk = Desk(self._settings.limits)
        self._live: LiveAttempt | None = None

    @property
    def view(self) -> RunView | None:
        """What is known of the run now; None before its first session."""
        return self._live.view if self._live else None

    @property
    def will_search(self) -> bool:
        """Whether a search is due or under way for this attempt, and needs nobody's approval."""
        return self._live is not None and self._live.searches.promised

    @property
    def questions(self) -> Sequence[Question]:
        """What it would know of earlier interventions, and is not told yet."""
        return self._live.questions.open if self._live is not None else ()

    def why_not(self, command: Commanded) -> str | None:
        """Why what a person asks for cannot be done now; None where it can."""
        return self._live.commands.why_not(command) if self._live else "it has no trainer"

    def skip_decisions(self, up_to: int) -> None:
        """Never use a decision id up to this one: the journal holds them already."""
        self._desk.skip(up_to)

    def feed(self, event: Input) -> list[Output]:
        """Take the next event and say what follows from it."""
        out: list[Output] = []
        if isinstance(event, Configured):
            self._configure(event.settings)
        elif isinstance(event, SessionOpened):
            self._open(event.attempt, out)
        elif self._live is not None and self._live.concerns(event):
            self._live.take(event, out)
        return out

    def recall(self, event: Event) -> None:
        """Follow the next record of a run of which not all telemetry is left; see `Recall`."""
        if isinstance(event, Configured):
            self._configure(event.settings)
        elif isinstance(event, SessionOpened):
            self._open(event.attempt, [])
        elif self._live is not None and self._live.concerns(event):
            if isinstance(event, Noticed) or (
                isinstance(event, Requested) and event.kind == "finish"
            ):
                self._live.take(event, [])  # the trainer's own doing
            else:
                self._live.recall.take(event)

    def recalled(self) -> list[Output]:
        """There are no more records; what cannot be gone on with, and is over."""
        return self._live.recall.end() if self._live else []

    def _configure(self, settings: CoreSettings) -> None:
        self._settings, self._policy = settings, self._make_policy(settings)
        self._desk.configure(settings.limits)
        if self._live is not None:
            self._live.configure(self._policy, settings)

    def _open(self, attempt: Attempt, out: list[Output]) -> None:
        # A trainer may know more than a journal that was put back or moved away; it would take a
        # number that it has seen for the same decision, sent again.
        self._desk.skip(attempt.last_decision)
        last = self._live
        if last is not None:
            known = last.view.attempt
            if (known.id, known.resumes) == (attempt.id, attempt.resumes):
                last.reopened(attempt, out)
                last.questions.ask(out)
                return
            last.end(out)
        # Another process: what the old one held in memory is gone, and where it resumed from an
        # older checkpoint the loss may rightly be higher than it was.
        view = RunView(attempt, step=attempt.start_step, branch=attempt.branch, plan=attempt.plan)
        view.lr = attempt.groups[0].base_lr * attempt.scale
        if last is not None:
            view.rollbacks = last.view.rollbacks
            view.rolled_back_steps = last.view.rolled_back_steps
            view.frozen = last.view.frozen
        self._live = self._begin(view)
        self._live.questions.ask(out)

    def _begin(self, view: RunView) -> LiveAttempt:
        watch = Watch(view, self._policy, self._desk, self._settings, self._make_detectors)
        return LiveAttempt(view, watch, self._desk, self._settings)

    @property
    def format(self) -> str:
        """What a state must be of to be used by this engine: its version, and its detectors."""
        return " ".join([str(STATE), *sorted(self._make_detectors(None, None).names)])

    def state(self) -> dict[str, Any] | None:
        """Everything that what follows depends on, as plain JSON values; a copy.

        None while a search is under way: it is a generator, and only its inputs lead to it.
        """
        live = self._live
        if live is not None and live.searches.under_way:
            return None
        return {
            "format": self.format,
            "settings": to_plain(self._settings),
            "desk": self._desk.state_dict(),
            "live": live and live.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Stand where an engine stood that gave this state; for one that was fed nothing.

        Raises:
            OtherFormat: another version, or one with other detectors, gave it.
            ValueError: it is damaged. This engine is of no use then.
        """
        if (found := state.get("format")) != self.format:
            raise OtherFormat(f"a state of format {found!r}, this version's is {self.format!r}")
        try:
            self._configure(from_plain(CoreSettings, state["settings"]))
            self._desk.load_state_dict(state["desk"])
            if (live := state["live"]) is not None:
                self._live = self._begin(RunView(from_plain(Attempt, live["view"]["attempt"])))
                self._live.load_state_dict(live)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a state of an engine: {error!r}") from error
