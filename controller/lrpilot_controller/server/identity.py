"""Who asks: the name, role and projects of the peer that a call comes from."""

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a peer may do; each role is for one kind of peer, none includes another by itself."""

    TRAINER = "trainer"
    """A training process: holds sessions of runs in its own projects."""
    VIEWER = "viewer"
    """A person who may look, and nothing else."""
    OPERATOR = "operator"
    """A person who may look at, and ask anything of, the runs of their projects."""
    LOCAL = "local"
    """The owner of the daemon, through its own socket: everything."""
    NOBODY = "nobody"
    """Who has not been let in: nothing."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A peer that was let in.

    Attributes:
        name: for limits, logs and the journal; never a secret.
        role: what it may do.
        projects: the projects it may speak for, or look at; None: all.
    """

    name: str
    role: Role
    projects: frozenset[str] | None = None

    def may_see(self, project: str) -> bool:
        """Whether a project is one of its own."""
        return self.projects is None or project in self.projects


LOCAL = Identity("local", Role.LOCAL)
"""Whoever can open the daemon's own unix socket (mode 0600)."""

NOBODY = Identity("nobody", Role.NOBODY, frozenset())
"""Whoever the gate (`access/gate.py`) has not let in."""

current: ContextVar[Identity] = ContextVar("identity", default=NOBODY)
"""The peer of the call that is being served."""
