"""The port of an adapter: what a pilot needs of the thing that trains."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

# Two for snapshots; beside them, while a program is open, one for the run's own state where no
# snapshot holds it, and one for the program's state while it is set aside.
SLOTS = 4
OWN_SLOT, ASIDE_SLOT = 2, 3


class NoRoom(MemoryError):
    """A snapshot would take more memory than it may; none was taken. The text is for the user."""


class TrainerPort(Protocol):
    """One optimizer, or several that are controlled as one, and the model; at a step boundary.

    LRs are one float per param group, in the optimizers' order. The *native* LR of a group is
    what the user's own optimizer and scheduler would use now; it always keeps advancing. Methods
    are called from the training thread alone.
    """

    @property
    def group_names(self) -> Sequence[str]:
        """A name per param group."""
        ...

    @property
    def base_lrs(self) -> Sequence[float]:
        """The LR that each group's native curve is relative to."""
        ...

    @property
    def optimizer_name(self) -> str:
        """The optimizer's class name; of several, each class once, with `+` between them."""
        ...

    @property
    def can_snapshot(self) -> bool:
        """Whether `snapshot` and `restore` work."""
        ...

    def get_lrs(self) -> list[float]:
        """The LRs that the optimizers really have now."""
        ...

    @property
    def used_lrs(self) -> list[float] | None:
        """The LRs that the last optimizer step ran at, where a scheduler may have moved them
        since; None where they are those of `get_lrs`."""
        ...

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Write the LRs, in place where they are tensors."""
        ...

    def get_native_lrs(self) -> list[float]:
        """The native LRs."""
        ...

    def set_native_lrs(self, lrs: Sequence[float]) -> None:
        """Correct the native LRs: a foreign writer moved them, or a state was loaded."""
        ...

    def restrict(self, names: Sequence[str]) -> None:
        """Control only the groups of these names from here on; the others keep their own LRs."""
        ...

    def add_scheduler(self, scheduler: Any) -> None:
        """Keep the native curve of one more scheduler of the user's, made since the attempt began.

        Raises:
            ValueError: it drives none of the optimizers.
        """
        ...

    def on_native_change(self, write: Callable[[int, float], float]) -> None:
        """Have `write(group, native)` say which LR to apply whenever the scheduler moves one."""
        ...

    def snapshot(self, slot: int) -> float | None:
        """Copy the whole training state into `slot`, replacing what it held.

        Parameters, buffers, optimizer state, `stateful` objects and random number generators.
        Slots are numbered from 0 to `SLOTS` - 1, and take memory from their first use on.

        Returns:
            The seconds that a copy takes a device beside this call, as far as they are known.

        Raises:
            NoRoom: the copy would take more memory than it may.
        """
        ...

    def restore(self, slot: int, *, rng: bool) -> None:
        """Put the state in `slot` back, in place; `rng` says whether the generators too.

        LRs, schedulers and scaler stay as they are. State that the snapshot lacks is zeroed.
        """
        ...

    def settle(self) -> None:
        """Others than the optimizers may write to the weights from here on: a copy of them that a
        device still makes comes first."""
        ...

    def discard(self, slot: int) -> None:
        """Free the memory of a slot; it may be used again."""
        ...

    def request_stop(self) -> None:
        """Ask the training loop to end at its next chance."""
        ...

    def detach(self) -> None:
        """Let go: schedulers drive the optimizer again, from the LRs as they are."""
        ...
