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
        model: its parameters and buffers.
        optimizer: its state; parameters that the model does not list are covered as well.
        stateful: objects with `state_dict` and `load_state_dict`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        stateful: Sequence[Stateful] = (),
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._stateful = stateful
        self._tensors: dict[int, tuple[Tensor, Tensor]] = {}
        self._state: dict[int, dict[str, Any]] = {}
        self._others: list[dict[str, Any]] = []
        self._rng: dict[str, Any] = {}

    def save(self) -> None:
        """Copy the state as it is now over what this slot held."""
        live = self._live_tensors()
        kept = {key: self._tensors[key][1] for key in live if key in self._tensors}
        self._tensors = {
            key: (tensor, kept[key] if key in kept else torch.empty_like(tensor))
            for key, tensor in live.items()
        }
        _copy([pair[1] for pair in self._tensors.values()], list(live.values()))
        # Python numbers and the like; tensors are covered above, by identity.
        self._state = {
            id(parameter): {
                name: value if isinstance(value, Tensor) else copy.deepcopy(value)
                for name, value in state.items()
            }
            for parameter, state in self._optimizer.state.items()
        }
        self._others = [copy.deepcopy(one.state_dict()) for one in self._stateful]
        self._rng = _rng_state()

    def restore(self, *, rng: bool) -> None:
        """Put the state back in place; `rng` says whether the random generators too.

        Optimizer state that did not exist when the slot was saved is zeroed in place: for every
        optimizer of torch that is how its first step finds it. Gradients are zeroed as well,
        because they belong to the weights that were left.
        """
        for parameter, state in self._optimizer.state.items():
            self._restore_one(state, self._state.get(id(parameter), {}))
        _copy(
            [tensor for tensor, _ in self._tensors.values()],
            [held for _, held in self._tensors.values()],
        )
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.detach_().zero_()
        for one, held in zip(self._stateful, self._others, strict=True):
            one.load_state_dict(copy.deepcopy(held))
        if rng:
            _set_rng_state(self._rng)

    def _restore_one(self, state: dict[str, Any], held: dict[str, Any]) -> None:
        for name, value in state.items():
            if not isinstance(value, Tensor):
                if name in held:
                    state[name] = copy.deepcopy(held[name])
                elif isinstance(value, (int, float)):
                    state[name] = type(value)(0)
            elif held.get(name) is not value:
                with torch.no_grad():
                    value.zero_()

    def _live_tensors(self) -> dict[int, Tensor]:
        tensors: dict[int, Tensor] = {}
        for tensor in (*self._model.parameters(), *self._model.buffers()):
            tensors[id(tensor)] = tensor
        for group in self._optimizer.param_groups:
            tensors.update((id(parameter), parameter) for parameter in group["params"])
        for state in self._optimizer.state.values():
            tensors.update((id(t), t) for t in state.values() if isinstance(t, Tensor))
        return tensors


@torch.no_grad()
def _copy(to: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    """Copy lists of tensors, one kernel per device and type where the device has one."""
    if to:
        torch._foreach_copy_([t.detach() for t in to], [s.detach() for s in source])


def _rng_state() -> dict[str, Any]:
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    if (numpy := sys.modules.get("numpy")) is not None:
        state["numpy"] = numpy.random.get_state()
    return state


def _set_rng_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
    if "numpy" in state and (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.set_state(state["numpy"])
