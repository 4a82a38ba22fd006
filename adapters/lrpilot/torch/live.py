"""The tensors that training changes, by where they lie."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lrpilot.torch.buffers import Key

# The number of an optimizer, and that of a parameter in it.
Place = tuple[int, int]


class LiveTensors:
    """Those of a model and of its optimizers' state.

    Args:
        model: its parameters and buffers.
        optimizers: their state; parameters that the model does not list are covered as well.
    """

    def __init__(self, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._model = model
        self.optimizers = optimizers

    def groups(self) -> list[dict[str, Any]]:
        """The param groups of all optimizers."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def parameters(self) -> dict[Place, Tensor]:
        """The parameters of all optimizers."""
        return {
            (number, i): parameter
            for number, optimizer in enumerate(self.optimizers)
            for i, parameter in enumerate(p for g in optimizer.param_groups for p in g["params"])
        }

    def states(self) -> Iterator[tuple[Place, dict[str, Any], torch.optim.Optimizer]]:
        """What each optimizer keeps for each parameter; several may train the same one."""
        places = {(at[0], id(p)): at for at, p in self.parameters().items()}
        for number, optimizer in enumerate(self.optimizers):
            for parameter, state in optimizer.state.items():
                known = (number, id(parameter))
                yield places.get(known, known), state, optimizer

    def tensors(self) -> dict[Key, Tensor]:
        """By name, not by identity: code may put another tensor in a buffer's place."""
        _shard(self._model)
        found: list[tuple[Key, Tensor]] = []
        found += ((("model", name), t) for name, t in self._model.named_parameters())
        found += ((("model", name), t) for name, t in self._model.named_buffers())
        found += ((("param", place), p) for place, p in self.parameters().items())
        for place, state, _ in self.states():
            found += ((("state", place, n), t) for n, t in state.items() if isinstance(t, Tensor))
        once = {id(t): (key, t) for key, t in reversed(found)}  # tied ones under their first name
        return {key: _writable(t) for key, t in reversed(once.values())}

    def stepped(self) -> set[Key]:
        """Those that only the optimizers' steps change; a forward pass changes buffers."""
        trained = {id(p) for p in self.parameters().values()}
        named = self._model.named_parameters()
        keys: set[Key] = {("model", name) for name, p in named if id(p) in trained}
        keys |= {("param", place) for place in self.parameters()}
        for place, state, _ in self.states():
            keys |= {("state", place, name) for name in state}
        return keys


def _shard(model: torch.nn.Module) -> None:
    """Let go of whole parameters that FSDP2 has gathered, as its root keeps them after a forward
    pass without a backward one: what is written to the parts would not be seen in them."""
    for module in model.modules():
        reshard = getattr(module, "reshard", None)
        if callable(reshard) and hasattr(module, "unshard"):
            reshard()


def _writable(tensor: Tensor) -> Tensor:
    """What of a tensor can be written to: its part on this rank, without expanded dimensions."""
    if hasattr(tensor, "to_local"):  # a DTensor, as FSDP2 makes them
        with torch.no_grad():
            tensor = tensor.to_local()
    if tensor.layout is torch.strided:
        for dim, stride in enumerate(tensor.stride()):
            if stride == 0 and tensor.shape[dim] > 1:
                tensor = tensor.narrow(dim, 0, 1)
    return tensor
