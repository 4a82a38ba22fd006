"""When a search begins, what the trainer answers to it, and what its end means for the run."""

from dataclasses import replace

from lrpilot_controller.core.desk import Desk
from lrpilot_controller.core.events import (
    FellBack,
    Output,
    ProgramEnded,
    SearchEnded,
    SnapshotProven,
    SnapshotTaken,
)
from lrpilot_controller.core.findings import Known
from lrpilot_controller.core.guardrails import Refusal
from lrpilot_controller.core.model import Decision, DecisionStatus, Mode, Proposal, Receipt
from lrpilot_controller.core.plans import Plan, PlanKind, Program
from lrpilot_controller.core.searching import NATIVE, Searching, Trying, can_search
from lrpilot_controller.core.settings import CoreSettings
from lrpilot_controller.core.state import Stateful
from lrpilot_controller.core.view import RunView
from lrpilot_controller.core.watch import Watch


class Searches(Stateful):
    """The searches of one attempt, one at a time.

    Args:
        view: the run as it stands, which this keeps up to date.
        watch: begins anew after each search.
        desk: decides.
        settings: what a person may set.

    Attributes:
        known: what earlier runs of the same job found, if any.
    """

    # A search under way is none of the state: it is a generator, and cannot be saved.
    known: Known | None
    _due: bool
    _taken: SnapshotTaken | None  # the newest that is not proven
    _opened: Program | None  # the newest that the trainer began
    _ending: str | None  # why it ends at its next boundary
    _native: bool  # and that the native LR is to follow

    def __init__(self, view: RunView, watch: Watch, desk: Desk, settings: CoreSettings) -> None:
        attempt = view.attempt
        self.known = None
        self._view = view
        self._watch = watch
        self._desk = desk
        self._settings = settings
        self._search: Searching | None = None
        self._taken = None
        self._opened = None
        self._ending = None
        self._native = False
        # One that the training code asked for begins with the start snapshot.
        due = attempt.search and attempt.resumes is None and can_search(attempt)
        self._due = due and not view.frozen

    @property
    def wanted(self) -> bool:
        """Whether a search is due or under way."""
        return self._due or self._search is not None

    @property
    def under_way(self) -> bool:
        """Whether a search is."""
        return self._search is not None

    @property
    def promised(self) -> bool:
        """Whether a program follows without a person's doing."""
        due = self._due and self._view.attempt.mode is Mode.AUTO
        return due or self._search is not None

    def configure(self, settings: CoreSettings) -> None:
        """A person set something anew; a search under way goes on as it began."""
        self._settings = settings

    def why_not(self) -> str | None:
        """Why a search cannot begin now; None where it can."""
        view = self._view
        if self.wanted:
            return "the run is searching already"
        if view.frozen:
            return "the run is frozen"
        if not view.attempt.mode.acts:
            return f"the run's mode is {view.attempt.mode}: nothing is probed"
        if not can_search(view.attempt):
            return "its trainer cannot run programs: no snapshots, or ranks without pilot.batches"
        if view.in_flight is not None:
            return f"decision {view.in_flight.id} has not been answered yet"
        return None

    def begin(
        self, home: int | None, out: list[Output], *, why: str = "", approved: bool = False
    ) -> None:
        """Begin one, where that is possible, from the snapshot `home`; None: from now.

        In mode advise its first decision waits for a person, unless one has `approved` it. `why`
        is what it answers, for that decision's reason.
        """
        self._due = False
        if self.why_not() is not None:
            return
        if self._view.attempt.mode is Mode.ADVISE and not approved:
            # Whenever it is approved, the search begins from then.
            self._desk.decide(self._view, _because(why, self._first(None)[1]), out)
            return
        self._search, first = self._first(home)
        self._under_way()
        self._propose(_because(why, first), out)

    def try_out(self, factors: tuple[float, ...], why: str, out: list[Output]) -> str | None:
        """Begin a trial of these factors on the LR in force; why not, where it cannot begin.

        It begins in mode auto alone: what it would find cannot wait for a person.
        """
        if self._view.attempt.mode is not Mode.AUTO:
            return f"the run's mode is {self._view.attempt.mode}: nothing is tried by itself"
        if (reason := self.why_not()) is not None:
            return reason
        trying = Trying(self._view, self._settings, factors)
        first = trying.begin()
        if first.program is None:
            return first.reason
        if isinstance(verdict := self._desk.judge(self._view, first), Refusal):
            return verdict.reason
        self._search = trying
        self._under_way()
        self._propose(_because(why, first), out)
        return None

    def why_not_approved(self) -> str | None:
        """Why the search that waits for approval cannot begin now; None where it can."""
        if (reason := self.why_not()) is not None:
            return reason
        verdict = self._desk.judge(self._view, replace(self._first(None)[1], approved=True))
        return verdict.reason if isinstance(verdict, Refusal) else None

    def approve(self, who: str, out: list[Output]) -> None:
        """Begin the search that waits for approval; all that follows in it is approved."""
        search, first = self._first(None)
        first = replace(first, reason=self._desk.waiting().reason)  # it tells why as well
        if isinstance(self._desk.approve(self._view, first, who, out), Decision):
            self._search = search
            self._under_way()

    def _first(self, home: int | None) -> tuple[Searching, Proposal]:
        """A search from this state, and its first proposal."""
        search = Searching(self._view, self._settings, home, self.known)
        return search, search.begin()

    def _under_way(self) -> None:
        self._opened, self._ending, self._native = None, None, False
        self._view.searching = True

    def end_early(self, why: str, *, native: bool = False) -> None:
        """Begin none that is due; one under way ends when its open program does.

        It leads to the best LR that it knows to be healthy, or to the native one.
        """
        self.forget()
        if self._search is not None:
            self._ending, self._native = why, native

    def forget(self) -> None:
        """Begin none that is due."""
        self._due = False

    def kept(self, event: SnapshotTaken, out: list[Output]) -> None:
        """The trainer holds a snapshot."""
        if event.proven:
            if self._due:
                self.begin(event.snapshot, out)
        else:
            self._taken = event

    def owns(self, decision: Decision) -> bool:
        """Whether a decision is one of the search under way."""
        return self._search is not None and decision.signal is None and decision.who is None

    def answered(self, decision: Decision, receipt: Receipt, out: list[Output]) -> None:
        """The trainer answered a decision of the search."""
        assert self._search is not None
        view = self._view
        view.branch = receipt.branch_after
        if receipt.status is not DecisionStatus.APPLIED:
            why = f"decision {decision.id} was {receipt.status}: {receipt.detail}"
            rejected = receipt.status is DecisionStatus.REJECTED
            if rejected and self._search.result is None:  # the trainer waits for another word
                self._propose(self._search.settle(why), out)
            else:
                self.abandon(why, out)
            return
        if decision.save_snapshot:
            self._saved(out)
        if decision.program is not None:
            view.program = self._opened = decision.program
        else:
            view.plan = decision.plan
            if receipt.lrs_after:
                view.lr = receipt.lrs_after[0]
            view.last_change_step = receipt.applied_step
            self._end(out)

    def late(self, decision: Decision, receipt: Receipt) -> None:
        """The trainer answered a program of a search that is over; it may run it all the same."""
        self._view.branch = receipt.branch_after
        if receipt.status is DecisionStatus.APPLIED:
            self._view.program = self._opened = decision.program

    def _saved(self, out: list[Output]) -> None:
        """The trainer kept its state, and told of it just before its receipt.

        One that it took by itself may have been on its way when it was asked to.
        """
        taken = self._taken
        assert self._search is not None
        if taken is not None and self._search.saved(taken.snapshot):
            self._watch.kept(taken, proven=True)  # else a program would take its place
            out.append(SnapshotProven(taken.attempt, taken.snapshot))

    def ended(self, event: ProgramEnded, out: list[Output]) -> None:
        """A program ended."""
        view = self._view
        view.step = max(view.step, event.first_step + len(event.losses))
        view.branch = event.branch
        view.probe_steps += len(event.losses)
        mine = view.program is not None and view.program.id == event.program
        view.program = None
        if self._search is not None and mine:
            self._propose(self._early_end() or self._search.ended(event), out)

    def _early_end(self) -> Proposal | None:
        if self._ending is None or self._search is None:
            return None
        end = self._search.release if self._native else self._search.settle
        return end(self._ending)

    def fell_back(self, event: FellBack, out: list[Output]) -> None:
        """The trainer heard nothing in time: it goes on by itself, and the search is over."""
        view = self._view
        view.step, view.branch, view.program = max(view.step, event.step), event.branch, None
        opened = self._opened
        mine = opened is not None and opened.id == event.program
        plan = opened.fallback if opened is not None and mine else NATIVE
        if self._search is not None or mine:
            self._follow(plan)
        if self._search is not None:
            # What was sent meanwhile is stale, and its fallback another one than is followed now.
            view.in_flight = None
            self._search.fell_back(plan, event.reason)
            self._end(out)

    def finish(self, out: list[Output]) -> None:
        """The trainer ends its run by itself; an open program was left for its fallback."""
        if self._search is not None:
            if self._opened is not None:
                self._follow(self._opened.fallback)
            self.abandon("the run is being finished", out)

    def abandon(self, reason: str, out: list[Output]) -> None:
        """End a search that is under way, without another word to the trainer."""
        if self._search is not None:
            self._search.give_up(reason)
            self._end(out)

    def _follow(self, fallback: Plan) -> None:
        """The trainer is under this plan now, or without segments under its native LRs."""
        view = self._view
        plan = fallback if fallback.segments else None
        if plan is not None and plan != view.plan and plan.kind is PlanKind.REPLACE:
            view.lr = plan.segments[0].start_value
        view.plan = plan

    def _propose(self, proposal: Proposal, out: list[Output]) -> None:
        """Carry the search on; where the guardrails refuse a program it ends."""
        assert self._search is not None
        verdict = self._decide(proposal, out)
        if isinstance(verdict, Refusal) and proposal.program is not None:
            verdict = self._decide(self._search.settle(verdict.reason), out)
        if isinstance(verdict, Refusal):
            self.abandon(verdict.reason, out)

    def _decide(self, proposal: Proposal, out: list[Output]) -> Decision | Refusal:
        """A person who lets a search begin lets all of it pass."""
        return self._desk.decide(self._view, replace(proposal, approved=True), out)

    def _end(self, out: list[Output]) -> None:
        assert self._search is not None
        assert self._search.result is not None
        out.append(SearchEnded(self._view.attempt.id, self._search.result))
        if self._search.anew:
            self._watch.begin_anew(self._search.references, out)
        else:
            self._watch.end(out)  # what a decision did to the loss cannot be told any more
        self._search, self._view.searching = None, False


def _because(why: str, proposal: Proposal) -> Proposal:
    """A search's first proposal, with what the search answers."""
    return replace(proposal, reason=f"{why}; {proposal.reason}") if why else proposal
