"""The journal as far as a peer may look into it."""

from collections.abc import Collection, Iterator

from lrpilot_controller.journal.base import Reader, Record, RunKey
from lrpilot_controller.server.identity import Identity


class Visible:
    """A `Reader` of the runs of a peer's own projects.

    The others do not exist for them: no answer, and no hint at a similar name, tells a run of
    another project from one that never was.
    """

    def __init__(self, journal: Reader, identity: Identity) -> None:
        self._journal = journal
        self._identity = identity

    def runs(self) -> list[RunKey]:
        """Every run that may be seen, in order of its first appearance."""
        return [run for run in self._journal.runs() if self._identity.may_see(run.project)]

    def records(
        self, run: RunKey, *, after: int = 0, kinds: Collection[type] | None = None
    ) -> Iterator[Record]:
        """The records of a run; none where it may not be seen."""
        if not self._identity.may_see(run.project):
            return iter(())
        return self._journal.records(run, after=after, kinds=kinds)

    def across(
        self, kinds: Collection[type], newest_of: Collection[type], count: int
    ) -> Iterator[tuple[RunKey, list[Record]]]:
        """Some records of every run that may be seen."""
        found = self._journal.across(kinds, newest_of, count)
        return ((run, records) for run, records in found if self._identity.may_see(run.project))
