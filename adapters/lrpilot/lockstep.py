"""Several ranks act as one: at the same step all of them know the same, because rank 0 said so.

In normal life rank 0 says every `WINDOW` steps what counts one window later, so that nobody waits
for it. In a search, and before step 0, it says there and then. A note is never replaced: a rank
that waited too long, or failed, leaves one of its own where rank 0's would come next, and then all
ranks read that one.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from lrpilot.client.base import Message, Transport
from lrpilot.ranks import Ranks, Word

# Steps between two words of rank 0, and between two looks at a program's stop rule.
WINDOW, PROGRAM_WINDOW = 16, 4
# How long a rank that has not attached yet is waited for, before the first step.
JOIN_S = 30.0
HERE, AWAY = "here", "off"


T = TypeVar("T")


class Together(Protocol):
    """Does something that may fail, on all ranks or on none, and returns what it does."""

    def __call__(self, action: Callable[[], T], /) -> T:
        """Do it."""
        ...


def alone(action: Callable[[], T]) -> T:
    """`Together` of one process."""
    return action()


class Elsewhere(RuntimeError):
    """Something failed on another rank, and so counts as failed on this one."""


class Lockstep:
    """One rank's share in what all of them agree on.

    Every method but `veto` is called by all ranks, at the same step and in the same order.

    Args:
        ranks: carries the notes.
        agent: the line to the daemon, of rank 0; nobody listens to that of the others.
        waited: is told the seconds of each wait.

    Attributes:
        agent: as given.
        inbox: what the daemon said, as far as all ranks know it.
        next_step: when `meet` is due; infinite before `join`.
        why: why the ranks no longer act together; empty while they do.
    """

    def __init__(
        self,
        ranks: Ranks,
        agent: Transport,
        waited: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._ranks = ranks
        self.agent = agent
        self._waited = waited
        self._agreed = 0  # so often there and then
        self._ahead: int | None = None  # the window whose word was said, and not yet read
        self._asked: list[Message] = []  # by the training code of rank 0
        self._objection = ""
        self.inbox: deque[Message] = deque()
        self.next_step = float("inf")
        self.why = ""
        self._put(f"{HERE}/{ranks.rank}", HERE)

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which talks to the daemon."""
        return self._ranks.rank == 0

    # -- before the first step

    def join(self, facts: Mapping[str, Any], step: int) -> bool:
        """See that all ranks are there, and were told the same; else `why` says what is wrong.

        Args:
            facts: what must be the same on all ranks. Only `batches` may differ.
            step: the step that comes next.

        Returns:
            Whether the batches of all ranks can be served again.
        """
        me = self._ranks.rank
        self._put(f"facts/{me}", json.dumps(facts))
        others = range(1, self._ranks.world) if self.leads else [0]
        here = self._get([f"{HERE}/{rank}" for rank in others], JOIN_S)
        if self.leads:
            self._say("start", self._compared(facts, here))
        elif here is None:
            self._put("start", Word(apart="rank 0 has not attached").encode())
        elif AWAY in here:
            self._put("start", Word(apart="it is off on rank 0").encode())
        self.next_step = step - step % WINDOW + WINDOW
        return self._read("start").heard

    def _compared(self, facts: Mapping[str, Any], here: list[str] | None) -> Word:
        """Rank 0's word on whether all can act together."""
        others = range(1, self._ranks.world)
        if here is None:
            return Word(apart=f"not every rank called lrpilot.attach within {JOIN_S:g} s")
        if AWAY in here:
            return Word(apart=f"it is off on rank {1 + here.index(AWAY)}")
        told = self._get([f"facts/{rank}" for rank in others], self._ranks.timeout_s)
        if told is None:
            return Word(apart="not every rank made a first step")
        batches = facts["batches"]
        for rank, text in zip(others, told, strict=True):
            theirs = json.loads(text)
            batches = batches and theirs["batches"]
            for name, value in json.loads(json.dumps(facts)).items():
                if name != "batches" and theirs[name] != value:
                    said = f"rank {rank} has {name}={theirs[name]!r}, rank 0 has {value!r}"
                    return Word(apart=f"{said}: attach alike on all ranks")
        return Word(heard=batches)

    # -- at step boundaries

    def meet(self, step: int, *, searching: bool, snapshot_due: float) -> bool:
        """The end of a window: read what rank 0 said one window ago; it says what comes next.

        Args:
            step: the step that comes next.
            searching: whether a search is under way, in which rank 0 speaks at other times.
            snapshot_due: the step at which rank 0 wants to take a snapshot.

        Returns:
            Whether all ranks take a snapshot at this boundary.
        """
        self.next_step = step - step % WINDOW + WINDOW
        take = self._catch_up().take
        if not searching and not self.why:
            self._ahead = int(self.next_step)
            if self.leads:
                word = Word(self._news(), take=snapshot_due <= self._ahead)
                self._say(f"window/{self._ahead}", word)
        return take

    def agree(self, say: Callable[[], Word]) -> Word:
        """Rank 0 says something there and then, with all news; the others wait for it."""
        if not self.why:
            self._catch_up()
        if self.why:
            return Word()
        self._agreed += 1
        if self.leads:
            word = say()
            word.says = self._news()
            self._say(f"agreed/{self._agreed}", word)
        return self._read(f"agreed/{self._agreed}")

    def looks(self, made: int, length: int) -> bool:
        """Whether rank 0 says after so many steps of a program whether it goes on."""
        return not self.why and (made % PROGRAM_WINDOW == 0 or made >= length)

    def together(self, action: Callable[[], T]) -> T:
        """Do something that may fail, on all ranks or as good as on none; returns what it does.

        Raises:
            Exception: it failed here.
            Elsewhere: it failed on another rank.
        """
        failed: Exception | None = None
        try:
            made = action()
        except Exception as error:
            failed = error
        if not self.why:
            self._agreed += 1
            count, me = self._agreed, self._ranks.rank
            self._put(f"done/{count}/{me}", f"rank {me}: {failed!r}" if failed else HERE)
            if self.leads:
                self._say(f"agreed/{count}", self._outcome(count))
            word = self._read(f"agreed/{count}")
            if word.end and failed is None:
                raise Elsewhere(word.end)
        if failed is not None:
            raise failed
        return made

    def _outcome(self, count: int) -> Word:
        keys = [f"done/{count}/{rank}" for rank in range(self._ranks.world)]
        done = self._get(keys, self._ranks.timeout_s)
        if done is None:
            return Word(apart=self._late())
        return Word(end=next((one for one in done if one != HERE), ""))

    # -- from one rank

    def ask(self, message: Message) -> None:
        """Let all ranks hear something from rank 0's training code with the next word."""
        self._asked.append(message)

    def veto(self, why: str) -> bool:
        """This rank cannot go on as the others do: let all of them stop acting alike.

        They hear of it where rank 0 would speak next; until then this rank goes on as before.

        Returns:
            Whether it is news.
        """
        if self._objection or self.why:
            return False
        self._objection = why
        self._object()
        return True

    def _object(self) -> None:
        """Be where rank 0 would speak next; again after each word that it had said before."""
        word = Word(apart=self._objection).encode()
        self._put(f"done/{self._agreed + 1}/{self._ranks.rank}", self._objection)
        self._put(f"agreed/{self._agreed + 1}", word)
        if self.next_step == float("inf"):
            self._put("start", word)
        else:
            window = self._ahead or int(self.next_step)
            while not self.why and self._put(f"window/{window}", word) != word:
                window += WINDOW

    def leave(self, why: str) -> None:
        """This rank acts alone from here on, and tells the others where it can say why."""
        if why:
            self.veto(why)
        self.why = self.why or "left"

    # -- notes

    def _news(self) -> list[Message]:
        """What rank 0 alone knows so far."""
        inbox, news = self.agent.inbox, self._asked
        self._asked = []
        for _ in range(len(inbox)):
            news.append(inbox.popleft())
        return news

    def _catch_up(self) -> Word:
        """Read what was said ahead, so that nothing is heard out of order."""
        window, self._ahead = self._ahead, None
        return Word() if window is None else self._read(f"window/{window}")

    def _say(self, key: str, word: Word) -> None:
        text = word.encode()
        if self._put(key, text) != text:  # another rank was faster: nobody will hear this
            self.agent.inbox.extendleft(reversed(word.says))

    def _read(self, key: str) -> Word:
        """What stands there; one that does not come in time is replaced by our own."""
        found = self._get([key], self._ranks.timeout_s)
        text = found[0] if found else self._put(key, Word(apart=self._late()).encode())
        word = Word(apart=self.why) if self.why else Word.decode(text)
        self.why = self.why or word.apart
        self.inbox.extend(word.says)
        if self._objection and not self.why:
            self._object()
        return word

    def _late(self) -> str:
        return (
            f"rank {self._ranks.rank} waited {self._ranks.timeout_s:g} s for another at step "
            "boundaries"
        )

    def _put(self, key: str, value: str) -> str:
        try:
            return self._ranks.put(key, value)
        except Exception as error:
            self._broken(error)
            return ""

    def _get(self, keys: list[str], timeout_s: float) -> list[str] | None:
        before = time.perf_counter()
        try:
            return self._ranks.get(keys, timeout_s)
        except Exception as error:
            self._broken(error)
            return None
        finally:
            self._waited(time.perf_counter() - before)

    def _broken(self, error: Exception) -> None:
        self.why = self.why or f"the store of the process group failed: {error!r}"
