"""The training state in memory: copied into buffers that are allocated once, restored in place.

`optimizer.load_state_dict` is never used to restore: it re-allocates state tensors and LRs, which
breaks captured graphs and costs a copy more.
"""

import copy
import random
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

# Where a tensor lies: ("model", name), ("param", place) or ("state", place, name); a place is the
# number of an optimizer and that of a parameter in it.
Key = tuple[Any, ...]
Place = tuple[int, int]

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
        model: its parameters and buffers.
        optimizers: their state; parameters that the model does not list are covered as well.
        stateful: objects with `state_dict` and `load_state_dict`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        stateful: Sequence[Stateful] = (),
    ) -> None:
        self._model = model
        self._optimizers = optimizers
        self._stateful = stateful
        self._tensors: dict[Key, Tensor] = {}
        self._state: dict[Place, dict[str, Any]] = {}
        self._numbers: list[dict[str, Any]] = []
        self._others: list[dict[str, Any]] = []
        self._rng: dict[str, Any] = {}

    def save(self) -> None:
        """Copy the state as it is now over what this slot held."""
        live = self._live_tensors()
        kept = {key: held for key, held in self._tensors.items() if _fits(held, live.get(key))}
        self._tensors = {}  # what no longer fits is freed before more is asked for
        self._tensors = {
            key: kept[key] if key in kept else torch.empty_like(tensor)
            for key, tensor in live.items()
        }
        _copy(list(self._tensors.values()), list(live.values()))
        # Python numbers and the like; tensors are covered above.
        self._state = {
            place: {
                name: None if isinstance(value, Tensor) else copy.deepcopy(value)
                for name, value in state.items()
            }
            for place, state, _ in self._states()
        }
        self._numbers = [copy.deepcopy(_own_numbers(group)) for group in self._groups()]
        self._others = [copy.deepcopy(one.state_dict()) for one in self._stateful]
        self._rng = rng_state()

    def restore(self, *, rng: bool) -> None:
        """Put the state back in place; `rng` says whether the random generators too.

        Optimizer state that did not exist when the slot was saved is zeroed in place, which is how
        a first step finds it; where that is not so, it is removed. Gradients are zeroed as well,
        because they belong to the weights that were left.

        Raises:
            RuntimeError: nothing was saved, or a tensor is not what it was; nothing was touched.
        """
        if not self._tensors:
            raise RuntimeError("nothing was saved in this slot")
        live, parameters = self._live_tensors(), self._parameters()
        lost = (key for key in self._tensors if key[0] == "state" and key not in live)
        gone = {key for key in lost if key[1] in parameters}
        for key, tensor in self._tensors.items():
            if key not in gone and not _fits(tensor, live.get(key)):
                raise RuntimeError(f"{key} is not what it was when the snapshot was taken")
        live |= self._put_back(gone)
        for place, state, optimizer in self._states():
            held_state = self._state.get(place)
            if not held_state and not _begins_at_zero(optimizer):
                state.clear()
            else:
                self._restore_one(state, held_state or {})
        _copy([live[key] for key in self._tensors], list(self._tensors.values()))
        for group, held in zip(self._groups(), self._numbers, strict=False):
            _restore_numbers(group, held)
        for parameter in parameters.values():
            if parameter.grad is not None:
                parameter.grad.detach_().zero_()
        for one, held in zip(self._stateful, self._others, strict=True):
            one.load_state_dict(copy.deepcopy(held))
        if rng:
            set_rng_state(self._rng)

    def clear(self) -> None:
        """Hold nothing."""
        self._tensors, self._state, self._rng = {}, {}, {}
        self._numbers, self._others = [], []

    def _put_back(self, gone: set[Key]) -> dict[Key, Tensor]:
        """Make the state anew that an optimizer lost since: an older slot had none of it."""
        parameters = self._parameters()
        made = {key: self._tensors[key].clone() for key in gone}
        for (_, place, name), tensor in made.items():
            state = self._optimizers[place[0]].state[parameters[place]]
            state[name] = tensor
            for other, value in self._state[place].items():
                if other not in state and ("state", place, other) not in self._tensors:
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

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def _parameters(self) -> dict[Place, Tensor]:
        """The parameters of all optimizers."""
        return {
            (number, i): parameter
            for number, optimizer in enumerate(self._optimizers)
            for i, parameter in enumerate(p for g in optimizer.param_groups for p in g["params"])
        }

    def _states(self) -> Iterator[tuple[Place, dict[str, Any], torch.optim.Optimizer]]:
        """What each optimizer keeps for each parameter; several may train the same one."""
        places = {(at[0], id(p)): at for at, p in self._parameters().items()}
        for number, optimizer in enumerate(self._optimizers):
            for parameter, state in optimizer.state.items():
                known = (number, id(parameter))
                yield places.get(known, known), state, optimizer

    def _live_tensors(self) -> dict[Key, Tensor]:
        """By name, not by identity: code may put another tensor in a buffer's place."""
        model = self._model
        found: list[tuple[Key, Tensor]] = []
        found += ((("model", name), t) for name, t in model.named_parameters())
        found += ((("model", name), t) for name, t in model.named_buffers())
        found += ((("param", place), p) for place, p in self._parameters().items())
        for place, state, _ in self._states():
            found += ((("state", place, n), t) for n, t in state.items() if isinstance(t, Tensor))
        once = {id(t): (key, t) for key, t in reversed(found)}  # tied ones under their first name
        return {key: _dense(t) for key, t in reversed(once.values())}


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


def _fits(held: Tensor, live: Tensor | None) -> bool:
    return (
        live is not None
        and (held.shape, held.dtype) == (live.shape, live.dtype)
        and held.device == live.device
    )


def _dense(tensor: Tensor) -> Tensor:
    """The tensor without its expanded dimensions, which cannot be written to."""
    if tensor.layout is torch.strided:
        for dim, stride in enumerate(tensor.stride()):
            if stride == 0 and tensor.shape[dim] > 1:
                tensor = tensor.narrow(dim, 0, 1)
    return tensor


@torch.no_grad()
def _copy(to: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    """Copy lists of tensors, one kernel per device and type where the device has one."""
    if to:
        torch._foreach_copy_([t.detach() for t in to], [s.detach() for s in source])


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
