"""What a story tells of searches: how far one is, what they found and what they cost."""

from lrpilot_controller.core.events import FellBack, ProgramEnded
from lrpilot_controller.core.findings import SearchResult
from lrpilot_controller.core.model import Action, Decision, DecisionStatus, Receipt
from lrpilot_controller.story.model import Progress


class SearchFold:
    """What a run's searches are and were, program by program.

    Attributes:
        results: Of every search that is over, in order.
        probe_steps: Steps that programs ran.
        steps: The same by the id of the decision that brought the program.
        active: A search is under way: between its first program's receipt and its end.
    """

    def __init__(self) -> None:
        self.results: list[SearchResult] = []
        self.probe_steps = 0
        self.steps: dict[int, int] = {}
        self.active = False
        self._newest: Progress | None = None
        self._waits: dict[int, float] = {}
        self._waited_in_vain = 0.0

    @property
    def wait_seconds(self) -> float:
        """What training waited for decisions, and for some that did not come in time."""
        return sum(self._waits.values()) + self._waited_in_vain

    @property
    def progress(self) -> Progress | None:
        """How far the search under way is; None while there is none."""
        return self._newest if self.active else None

    def opened(self) -> None:
        """Another attempt: no search is under way in it yet."""
        self.active = False

    def decided(self, decision: Decision) -> None:
        """A program was sent."""
        if (program := decision.program) is not None:
            self._newest = Progress(program.phase, program.lr, program.share)

    def answered(self, decision: Decision, receipt: Receipt) -> None:
        """The trainer answered a decision; a program that it took begins."""
        self._wait(decision.id, receipt.wait_seconds)
        if decision.program is not None and receipt.status is DecisionStatus.APPLIED:
            self.active = True

    def program_ended(self, event: ProgramEnded) -> None:
        """A program ran, each once."""
        if event.program not in self.steps:
            self.steps[event.program] = len(event.losses)
            self.probe_steps += len(event.losses)
            self._wait(event.program, event.wait_seconds)

    def fell_back(self, event: FellBack) -> None:
        """No word came: the trainer goes on by itself."""
        self.active = False
        self._waited_in_vain += event.wait_seconds

    def ended(self, result: SearchResult) -> None:
        """A search is over."""
        self.active = False
        self.results.append(result)

    def _wait(self, decision: int, seconds: float) -> None:
        # A program's receipt and its result tell the same wait.
        self._waits[decision] = max(self._waits.get(decision, 0.0), seconds)


def is_of_search(decision: Decision) -> bool:
    """Whether a search made it: from its second decision on it undoes the search's own steps;
    nothing measures it."""
    searches = (Action.PROGRAM, Action.PLAN, Action.RELEASE)
    by_itself = decision.signal is None and decision.who is None
    return by_itself and decision.action in searches


def restored_by(decision: Decision) -> int | None:
    """The snapshot that a decision goes back to, by itself or by its program."""
    if decision.restore_snapshot is None and decision.program is not None:
        return decision.program.restore_snapshot
    return decision.restore_snapshot
