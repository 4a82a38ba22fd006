"""The training state in memory: copied into buffers that are allocated once, restored in place.

`optimizer.load_state_dict` is never used to restore: it re-allocates state tensors and LRs, which
breaks captured graphs and costs a copy more.
"""

import copy
import random
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from lrpilot.copies import is_tensor, parts_of
from lrpilot.torch.buffers import Buffers, Key, fits
from lrpilot.torch.copying import Copier
from lrpilot.torch.live import LiveTensors, Place
from lrpilot.torch.memory import SnapshotMemory, size_of, size_to_come

# What is a setting in a param group, its user's or a scheduler's: a restore leaves it alone. Other
# numbers there are the optimizer's own, such as a count of steps or an estimate of a distance.
SETTINGS = {
    *("lr", "initial_lr", "max_lr", "min_lr", "swa_lr", "lr_decay", "lr_scale", "weight_decay"),
    *("momentum", "base_momentum", "max_momentum", "dampening", "betas", "alpha", "rho", "eps"),
    *("nesterov", "amsgrad", "centered", "maximize", "foreach", "fused", "capturable"),
    "differentiable",
}


class Stateful(Protocol):
    """Anything else that belongs to the training state, such as an EMA of the weights."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Put a state back."""
        ...


class TrainingState:
    """One slot: a copy of everything that a training step changes, LRs and schedulers apart.

    Args:
        slot: its number.
        live: the tensors that training changes.
        stateful: objects with `state_dict` and `load_state_dict`, whose copies lie beside them.
        memory: where copies may lie, and how much they may take.
        copier: copies.
        buffers: where to.
    """

    def __init__(
        self,
        slot: int,
        live: LiveTensors,
        stateful: Sequence[Stateful],
        memory: SnapshotMemory,
        copier: Copier,
        buffers: Buffers,
    ) -> None:
        self._slot = slot
        self._live = live
        self._stateful = stateful
        self._memory = memory
        self._copier = copier
        self._buffers = buffers
        self._devices: dict[Key, torch.device] = {}
        self._state: dict[Place, dict[str, Any]] = {}
        self._numbers: list[dict[str, Any]] = []
        self._others: list[dict[str, Any]] = []
        self._rng: dict[str, Any] = {}

    def save(self) -> None:
        """Copy the state as it is now over what this slot held.

        Raises:
            NoRoom: it would take more memory than it may; the slot is as it was.
        """
        live, others = self._live.tensors(), [one.state_dict() for one in self._stateful]
        devices = {key: tensor.device for key, tensor in live.items()}
        now = size_of([*live.values(), *filter(is_tensor, parts_of(others))])
        later = now + size_to_come(self._live.optimizers)
        self._memory.reserve(self._slot, now, later, devices.values())
        self._devices = devices
        self._buffers.fit(live, self._memory.moves)
        self._copier.save(live, self._buffers, self._live.stepped)
        # Python numbers and the like; tensors are covered above.
        self._state = {
            place: {
                name: None if isinstance(value, Tensor) else copy.deepcopy(value)
                for name, value in state.items()
            }
            for place, state, _ in self._live.states()
        }
        self._numbers = [copy.deepcopy(_own_numbers(group)) for group in self._live.groups()]
        self._others = copy.deepcopy(others)
        self._rng = rng_state()

    def restore(self, *, rng: bool) -> None:
        """Put the state back in place; `rng` says whether the random generators too.

        Optimizer state that did not exist when the slot was saved is zeroed in place, which is how
        a first step finds it; where that is not so, it is removed. Gradients are zeroed as well,
        because they belong to the weights that were left.

        Raises:
            RuntimeError: nothing was saved, or a tensor is not what it was; nothing was touched.
        """
        held = self._buffers.tensors
        if not held:
            raise RuntimeError("nothing was saved in this slot")
        live, parameters = self._live.tensors(), self._live.parameters()
        lost = (key for key in held if key[0] == "state" and key not in live)
        gone = {key for key in lost if key[1] in parameters}
        for key, tensor in held.items():
            if key not in gone and not fits(tensor, live.get(key)):
                raise RuntimeError(f"{key} is not what it was when the snapshot was taken")
        live |= self._put_back(gone, parameters)
        for place, state, optimizer in self._live.states():
            held_state = self._state.get(place)
            if not held_state and not _begins_at_zero(optimizer):
                state.clear()
            else:
                self._restore_one(state, held_state or {})
        self._copier.restore(live, self._buffers)
        for group, numbers in zip(self._live.groups(), self._numbers, strict=False):
            _restore_numbers(group, numbers)
        for parameter in parameters.values():
            if parameter.grad is not None:
                parameter.grad.detach_().zero_()
        for one, other in zip(self._stateful, self._others, strict=True):
            one.load_state_dict(copy.deepcopy(other))
        if rng:
            set_rng_state(self._rng)

    def clear(self) -> None:
        """Hold nothing."""
        self._buffers.clear()
        self._memory.free(self._slot)
        self._devices, self._state, self._rng = {}, {}, {}
        self._numbers, self._others = [], []

    def _put_back(self, gone: set[Key], parameters: dict[Place, Tensor]) -> dict[Key, Tensor]:
        """Make the state anew that an optimizer lost since: an older slot had none of it."""
        held = self._buffers.tensors
        made = {key: torch.empty_like(held[key], device=self._devices[key]) for key in gone}
        for (_, place, name), tensor in made.items():
            state = self._live.optimizers[place[0]].state[parameters[place]]
            state[name] = tensor
            for other, value in self._state[place].items():
                if other not in state and ("state", place, other) not in held:
                    state[other] = copy.deepcopy(value)
        return made

    def _restore_one(self, state: dict[str, Any], held: dict[str, Any]) -> None:
        for name, value in state.items():
            if not isinstance(value, Tensor):
                if name in held:
                    state[name] = copy.deepcopy(held[name])
                elif isinstance(value, (int, float)):
                    state[name] = type(value)(0)
            elif name not in held:
                with torch.no_grad():
                    value.zero_()


def _begins_at_zero(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a first step on zeroed state is the same as one on none: NAdam's product of betas
    begins at one, the first step of SGD knows no dampening, and what an optimizer of another
    package begins with is its own affair."""
    known = type(optimizer).__module__.startswith("torch.optim")
    dampened = any(group.get("dampening") for group in optimizer.param_groups)
    return known and not dampened and not isinstance(optimizer, torch.optim.NAdam)


def _own_numbers(group: dict[str, Any]) -> dict[str, Any]:
    """What an optimizer counts or estimates in a param group."""
    return {
        name: value
        for name, value in group.items()
        if name not in SETTINGS and isinstance(value, (int, float, Tensor))
    }


def _restore_numbers(group: dict[str, Any], held: dict[str, Any]) -> None:
    for name in _own_numbers(group).keys() - held.keys():
        del group[name]
    for name, value in held.items():
        live = group.get(name)
        if isinstance(value, Tensor) and isinstance(live, Tensor):
            live.copy_(value)
        else:
            group[name] = copy.deepcopy(value)


def rng_state() -> dict[str, Any]:
    """The random generators of this process, as they are."""
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    if (numpy := sys.modules.get("numpy")) is not None:
        state["numpy"] = numpy.random.get_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Put them back."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
    if "numpy" in state and (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.set_state(state["numpy"])
