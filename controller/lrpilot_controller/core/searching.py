"""Between a search and the run: its probes as proposals, the trainer's results back to it."""

from dataclasses import replace

from lrpilot_controller.core.events import ProgramEnded
from lrpilot_controller.core.findings import Known, SearchEnd, SearchResult
from lrpilot_controller.core.model import Action, Attempt, Proposal
from lrpilot_controller.core.plans import Batches, Plan, PlanKind, Program
from lrpilot_controller.core.search.horizon import UNKNOWN, main_plan
from lrpilot_controller.core.search.job import Family, Job, Prober
from lrpilot_controller.core.search.probe import Origin, Probe, Probing, Result
from lrpilot_controller.core.search.search import Found, check, search
from lrpilot_controller.core.search.trial import trial
from lrpilot_controller.core.settings import CoreSettings, Reuse
from lrpilot_controller.core.view import RunView

# A program that is interrupted is run again, so often in all.
MAX_INTERRUPTIONS = 5
# Without a horizon, or with one that is over, a fallback that decays would end the run.
NATIVE = Plan(PlanKind.SCALE, ())


def can_search(attempt: Attempt) -> bool:
    """Whether this trainer can carry out a search, and may."""
    able = attempt.can_snapshot and attempt.can_program
    return able and attempt.mode.acts


class Searching:
    """One search of one attempt.

    Args:
        view: the run as it stands; the horizon, bounds and step are read from it.
        settings: what a person may set.
        home: the snapshot of the state that the search begins from; None: its first program
            takes it.
        known: what earlier runs of the same job found, if any.
    """

    anew = True
    """Whether training goes on from another state than the one that was watched before."""

    def __init__(
        self, view: RunView, settings: CoreSettings, home: int | None, known: Known | None
    ) -> None:
        attempt = view.attempt
        self.home = home
        self.result: SearchResult | None = None
        self.references: tuple[float, ...] = ()
        self._view = view
        self._kept: int | None = None
        self._kept_asked = False
        self._interruptions = 0
        self._sequence: list[Probe] = []  # since the last restore: what an interruption undoes
        self._again: list[Probe] = []
        self._probe: Probe | None = None
        # What was in force before, for a search that begins in mid-run.
        self._before = view.plan
        self._before_lr = view.lr if view.lr > 0 else attempt.groups[0].base_lr
        self._fallback = self._before or NATIVE
        left = None if attempt.total_steps is None else attempt.total_steps - view.step
        share = settings.limits.max_probed_fraction
        self._prober = Prober(
            Job(
                base_lr=self._before_lr,
                low=attempt.min_lr,
                high=attempt.max_lr,
                family=Family.of(attempt.optimizer),
                steps=left,
                replay=attempt.can_replay,
                budget=int(share * (UNKNOWN if left is None else left)),
            )
        )
        reuse = settings.search.reuse
        self._trusted = known.lr if known is not None and reuse is Reuse.TRUST else None
        self._probes = self._begin(None if reuse is Reuse.NEVER else known)

    def _begin(self, known: Known | None) -> Probing[Found]:
        return search(self._prober) if known is None else check(self._prober, known)

    def begin(self) -> Proposal:
        """The first program, or the plan at once where an earlier run's LR is trusted."""
        if self._trusted is not None:
            lr = self._prober.within(self._trusted)
            found = Found(lr, "an earlier run of the same job found it")
            return self._conclude(found, SearchEnd.REUSED)
        try:
            return self._propose(next(self._probes))
        except StopIteration as stop:
            return self._conclude(stop.value)

    def saved(self, snapshot: int) -> bool:
        """The trainer kept the state that a decision of this search told it to; whether it is the
        one that the search began from."""
        if self.home is None:
            self.home = snapshot
            return True
        if self._kept_asked:
            self._kept, self._kept_asked = snapshot, False
        return False

    def ended(self, event: ProgramEnded) -> Proposal:
        """A program ended: the next one, or the plan for the rest of the run."""
        assert self._probe is not None
        if event.stop_reason == "interrupted":
            return self._resume(event)
        if self._again:
            self._prober.spent += len(event.losses)
            return self._propose(self._again.pop(0), again=True)
        self.references = self.references or event.losses
        try:
            probe = self._probes.send(Result(event.losses, event.stop_reason))
        except StopIteration as stop:
            found: Found = stop.value
            return self._conclude(found)
        return self._propose(probe)

    def give_up(self, reason: str) -> None:
        """The search is over without a conclusion of its own."""
        safe = self._prober.safe
        lr = self._before_lr if safe is None else safe
        self.result = SearchResult(SearchEnd.ABANDONED, lr, self._prober.spent, reason)

    def fell_back(self, plan: Plan, reason: str) -> None:
        """The trainer follows this fallback; without segments, the native LRs."""
        base = self._view.attempt.groups[0].base_lr
        lr = plan.segments[0].start_value if plan.segments else base
        if plan.segments and plan.kind is PlanKind.SCALE:
            lr *= base
        self.result = SearchResult(SearchEnd.FELL_BACK, lr, self._prober.spent, reason)

    def _resume(self, event: ProgramEnded) -> Proposal:
        """Back to the last restore, and through the same programs again."""
        self._interruptions += 1
        self._prober.spent += len(event.losses)
        if self._interruptions > MAX_INTERRUPTIONS:
            return self.settle(f"interrupted {self._interruptions} times")
        # On the way back already, there are some that were not reached again.
        first, *again = [*self._sequence, *self._again]
        self._sequence, self._again = [], again
        return self._propose(replace(first, keep=False), again=True)

    def settle(self, why: str) -> Proposal:
        """The end before a conclusion: on the best LR that is known to be healthy, if any."""
        self.give_up(why)
        reason = f"the search ends early: {why}"
        if self._prober.safe is None:
            return self._as_it_was(reason, self.home)
        plan = self._main_plan(self._prober.safe)
        return Proposal(Action.PLAN, reason, plan=plan, snapshot=self._kept or self.home)

    def release(self, why: str) -> Proposal:
        """The end before a conclusion: the native LR, and the state before the search."""
        self.give_up(why)
        return Proposal(Action.RELEASE, f"the search ends early: {why}", snapshot=self.home)

    def _propose(self, probe: Probe, *, again: bool = False) -> Proposal:
        begins = probe.origin is Origin.START
        if begins:
            self._sequence = []
        self._sequence.append(probe)
        self._probe = probe
        self._kept_asked = probe.keep
        first = self._prober.spent == 0 and self.home is None
        prober = self._prober
        if prober.safe is not None:
            self._fallback = self._main_plan(prober.safe)
        program = Program(
            id=0,
            segments=probe.segments,
            length=probe.length,
            stop=probe.stop,
            restore_snapshot=self.home if begins else None,
            batches=Batches.REPLAYED if self._prober.job.replay else Batches.FRESH,
            fallback=self._fallback,
            # The kept state is being replaced just now where one is to be kept.
            fallback_snapshot=self.home if probe.keep or self._kept is None else self._kept,
            phase=probe.phase,
            lr=probe.lr,
            share=min(prober.spent / max(prober.job.budget, 1), 1.0),
        )
        reason = f"search, {probe.phase}: LR {probe.lr:.3g} for {probe.length} steps"
        return Proposal(
            Action.PROGRAM,
            f"{reason} again, it was interrupted" if again else reason,
            program=program,
            # Where training stands at this very state nothing has to be restored.
            snapshot=self.home if begins and (prober.spent or self._interruptions) else None,
            save=probe.keep or first,
        )

    def _conclude(self, found: Found, end: SearchEnd = SearchEnd.FOUND) -> Proposal:
        spent = self._prober.spent
        told = (
            spent, found.reason, found.reference, found.candidates, found.sweep, found.progress
        )  # fmt: skip
        if found.lr is None:
            self.result = SearchResult(SearchEnd.DECLINED, self._before_lr, *told)
            return self._decline(found.reason, self.home if spent else None)
        self.result = SearchResult(end, found.lr, *told)
        state = self._kept if found.kept else self.home
        return Proposal(
            Action.PLAN,
            f"LR {found.lr:.3g} after {spent} steps of search: {found.reason}",
            plan=self._main_plan(found.lr),
            snapshot=None if found.live or not spent else state,
        )

    def _decline(self, why: str, home: int | None) -> Proposal:
        reason = f"the search declines: {why}; LR {self._before_lr:.3g} stands"
        attempt = self._view.attempt
        if self._before or attempt.scheduled or attempt.total_steps is None:
            return self._as_it_was(reason, home)
        # Nothing better than the user's LR is known, but any constant LR gains by a decay.
        plan = self._main_plan(self._before_lr)
        return Proposal(Action.PLAN, f"{reason}, with a decay", plan=plan, snapshot=home)

    def _as_it_was(self, reason: str, home: int | None) -> Proposal:
        """Back to what was in force before the search."""
        if self._before is None:
            return Proposal(Action.RELEASE, reason, snapshot=home)
        return Proposal(Action.PLAN, reason, plan=self._before, snapshot=home)

    def _main_plan(self, lr: float) -> Plan:
        attempt = self._view.attempt
        if attempt.scheduled:  # the user's shape stays: one factor on it
            return Plan.scale(lr / attempt.groups[0].base_lr, self._view.step)
        return main_plan(lr, self._view.step, attempt.total_steps)


class Trying(Searching):
    """A trial of some factors on the LR in force, in mid-run.

    Args:
        view: the run as it stands.
        settings: what a person may set.
        factors: to be tried; 1 is among them.
    """

    anew = False

    def __init__(self, view: RunView, settings: CoreSettings, factors: tuple[float, ...]) -> None:
        self._factors = factors
        super().__init__(view, settings, None, None)

    def _begin(self, known: Known | None) -> Probing[Found]:
        return trial(self._prober, self._factors)

    def _conclude(self, found: Found, end: SearchEnd = SearchEnd.TRIED) -> Proposal:
        return super()._conclude(found, SearchEnd.TRIED)

    def _decline(self, why: str, home: int | None) -> Proposal:
        return self._as_it_was(f"a trial: {why}; LR {self._before_lr:.3g} stands", home)

    def _main_plan(self, lr: float) -> Plan:
        """The curve in force, by another factor."""
        before = self._before or Plan.scale(1.0, self._view.step)
        return before.times(lr / self._before_lr)
