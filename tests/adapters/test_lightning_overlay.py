"""One batch laid over another, whatever it is made of."""

import dataclasses
from collections import UserDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lrpilot.lightning.overlay import Overlay

Pair = namedtuple("Pair", "x y")


@dataclasses.dataclass
class Loose:
    x: torch.Tensor
    name: str


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: torch.Tensor
    name: str


class Bag:
    def __init__(self, x: torch.Tensor, name: str) -> None:
        self.x, self.name = x, name


Make = Callable[[torch.Tensor, str], Any]
STRUCTURES: dict[str, tuple[Make, Callable[[Any], Any], Callable[[Any], Any] | None]] = {
    "a tensor": (lambda x, _: x, lambda b: b, None),
    "a list": (lambda x, n: [x, n], lambda b: b[0], lambda b: b[1]),
    "a tuple": (lambda x, n: (x, n), lambda b: b[0], None),
    "a named tuple": (Pair, lambda b: b.x, None),
    "a dict": (lambda x, n: {"x": x, "n": n}, lambda b: b["x"], lambda b: b["n"]),
    "a dict of its own": (lambda x, n: UserDict(x=x, n=n), lambda b: b["x"], lambda b: b["n"]),
    "a dataclass": (Loose, lambda b: b.x, lambda b: b.name),
    "a frozen one": (Frozen, lambda b: b.x, None),
    "an object": (Bag, lambda b: b.x, lambda b: b.name),
    "nested": (lambda x, n: ({"a": [x, n]}, 3), lambda b: b[0]["a"][0], lambda b: b[0]["a"][1]),
    "names beside": (lambda x, n: [x, list(n)], lambda b: b[0], lambda b: "".join(b[1])),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_kept_batch_is_laid_over_and_lifted(name: str) -> None:
    make, x, label = STRUCTURES[name]
    data = torch.zeros(4, 3)
    batch, overlay = make(data[:2], "own"), Overlay()
    assert overlay.lay(batch, make(torch.ones(2, 3), "kept"))
    assert x(batch).tolist() == [[1.0] * 3] * 2
    assert label is None or label(batch) == "kept"
    assert not data.any()  # the data set's memory is not written to
    overlay.lift()
    overlay.lift()
    assert not x(batch).any()
    assert x(batch).data_ptr() == data.data_ptr()
    assert label is None or label(batch) == "own"


@pytest.mark.parametrize(
    "kept",
    [
        [torch.ones(2), torch.ones(3)],
        [torch.ones(2), torch.ones(4, dtype=torch.int64)],
        [torch.ones(2)],
        (torch.ones(2), torch.ones(4)),
        [torch.ones(2), "text"],
        {"x": torch.ones(2)},
    ],
)
def test_a_batch_of_another_kind_is_left_as_it_is(kept: Any) -> None:
    batch, overlay = [torch.zeros(2), torch.zeros(4)], Overlay()
    assert not overlay.lay(batch, kept)
    assert not any(part.any() for part in batch)
