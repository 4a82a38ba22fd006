"""Batches of a search: kept on the host, served again as fresh copies, freed at its end."""

import dataclasses
import itertools
import threading
from collections import UserDict, namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lrpilot.copies import CannotKeep, first_dimension, keep
from lrpilot.replay import MOST_STEPS, Replay

ROOM = 2**20
Pair = namedtuple("Pair", "x y")


@dataclasses.dataclass(frozen=True)
class Sample:
    x: torch.Tensor
    name: str
    more: dict[str, Any] = dataclasses.field(default_factory=dict)


class Bag:
    """An object of a library of its own."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x


def copies_of(batch: Any) -> Callable[[], Any]:
    kept = keep(batch, ROOM)
    assert kept is not None
    return kept[0]


def flat(value: Any) -> Any:
    """A batch as something that can be compared."""
    if isinstance(value, torch.Tensor):
        return ("tensor", value.dtype, value.requires_grad, value.tolist())
    if isinstance(value, np.ndarray):
        return ("array", value.dtype, value.tolist())
    if isinstance(value, (UserDict, dict)):
        return (type(value), [(k, flat(v)) for k, v in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value), [flat(item) for item in value])
    if dataclasses.is_dataclass(value) or isinstance(value, Bag):
        return (type(value), [(k, flat(v)) for k, v in vars(value).items()])
    return value


def spoil(value: Any) -> None:
    """Change everything in place, as a careless training step might."""
    if isinstance(value, torch.Tensor):
        value.detach().fill_(0)
    elif isinstance(value, np.ndarray):
        value.fill(0)
    elif isinstance(value, (dict, UserDict)):
        for item in value.values():
            spoil(item)
        value.clear()
    elif isinstance(value, (list, tuple)):
        for item in value:
            spoil(item)
        if isinstance(value, list):
            value.clear()
    elif dataclasses.is_dataclass(value) or isinstance(value, Bag):
        for item in vars(value).values():
            spoil(item)


def tensor() -> torch.Tensor:
    return torch.arange(6.0).reshape(3, 2)


BATCHES: dict[str, Callable[[], Any]] = {
    "a tensor": tensor,
    "integers": lambda: torch.arange(5),
    "booleans": lambda: torch.tensor([True, False]),
    "one that learns": lambda: tensor().requires_grad_(),
    "a transposed one": lambda: tensor().t(),
    "an array": lambda: np.arange(4),
    "an array of text": lambda: np.array(["a", "b"]),
    "a list": lambda: [tensor(), tensor()],
    "a tuple": lambda: (tensor(), 3, None),
    "a named tuple": lambda: Pair(tensor(), torch.ones(3)),
    "a dict": lambda: {"x": tensor(), "n": {"deep": [tensor()]}, 7: "text"},
    "a dict of its own": lambda: UserDict(x=tensor()),
    "a dataclass": lambda: Sample(tensor(), "a", {"y": tensor()}),
    "an object": lambda: Bag(tensor()),
    "a number": lambda: 2.5,
    "text": lambda: "text",
    "nothing": lambda: None,
    "all of it": lambda: [Pair({"x": tensor()}, (1, b"2")), Sample(tensor(), "b"), np.ones(2)],
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_copy_is_like_the_batch_and_shares_nothing_with_it(name: str) -> None:
    batch = BATCHES[name]()
    expected = flat(batch)
    make = copies_of(batch)
    spoil(batch)
    for _ in range(2):
        copy = make()
        assert flat(copy) == expected
        spoil(copy)


leaves = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=3),
    st.floats(allow_nan=False),
    st.lists(st.floats(-9, 9), max_size=3).map(torch.tensor),
    st.lists(st.floats(-9, 9), max_size=3).map(np.array),
)
structures = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=12,
)


@given(structures)
def test_any_structure_is_copied(batch: Any) -> None:
    expected = flat(batch)
    make = copies_of(batch)
    spoil(batch)
    assert flat(make()) == expected


@pytest.mark.parametrize(
    ("batch", "where"),
    [
        ((i for i in range(3)), r"^batch: generator"),
        ([1, {"x": (i for i in range(3))}], r"batch\[1\]\['x'\]: generator"),
        ({"lock": threading.Lock()}, r"batch\['lock'\]: lock"),
        (Sample(tensor(), "a", {"y": threading.Lock()}), r"batch.more\['y'\]: lock"),
        ((Bag(threading.Lock()),), r"batch\[0\]: Bag"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_kept_is_named_with_its_place(batch: Any, where: str) -> None:
    with pytest.raises(CannotKeep, match=where):
        keep(batch, ROOM)


def test_a_file_cannot_be_kept(tmp_path: Any) -> None:
    with (tmp_path / "f").open("w") as file, pytest.raises(CannotKeep, match="TextIOWrapper"):
        keep([file], ROOM)


@pytest.mark.parametrize(
    "batch", [torch.ones(100), [np.ones(60), torch.ones(30)], Bag(torch.ones(100))]
)
def test_what_does_not_fit_is_not_kept(batch: Any) -> None:
    assert keep(batch, 399) is None
    kept = keep(batch, 1000)
    assert kept is not None
    assert kept[1] >= 400


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (tensor(), 3),
        ({"a": 1, "b": [torch.tensor(2.0), tensor()]}, 3),
        (Bag(np.ones((7, 2))), 7),  # type: ignore[arg-type]
        (["text", 4], None),
        ((i for i in range(3)), None),
    ],
)
def test_the_batch_size_is_the_first_dimension_of_the_first_tensor(
    batch: Any, size: int | None
) -> None:
    assert first_dimension(batch) == size


# -- the cache


class Bench:
    """A replay with a loader that counts."""

    def __init__(self) -> None:
        self.warned: list[str] = []
        self.replay = Replay(self.warned.append)
        self.loader: Iterator[Any] = itertools.count()

    def train(self, steps: int) -> list[Any]:
        out = []
        for _ in range(steps):
            out.append(self.replay.serve(next(self.loader)))
            self.replay.stepped()
        return out


def test_each_program_trains_on_the_batches_since_the_search_began() -> None:
    bench = Bench()
    bench.replay.record()
    first = bench.replay.serve(next(bench.loader))  # before step 0
    bench.replay.begin(again=True, goes_on=True)
    bench.replay.stepped()
    assert [first, *bench.train(3)] == [0, 1, 2, 3]
    bench.replay.begin(again=True, goes_on=False)
    assert bench.train(6) == [0, 1, 2, 3, 8, 9]  # a longer one goes on with fresh batches
    bench.replay.begin(again=True, goes_on=False)
    assert bench.train(7) == [0, 1, 2, 3, 8, 9, 16]


def test_a_program_may_want_fresh_batches() -> None:
    bench = Bench()
    bench.replay.begin(again=True, goes_on=False)
    bench.train(3)
    bench.replay.begin(again=False, goes_on=False)
    assert bench.train(3) == [3, 4, 5]


def test_a_program_may_go_on_with_the_batch_after_the_last_one() -> None:
    bench = Bench()
    bench.replay.begin(again=True, goes_on=False)
    bench.train(6)
    bench.replay.begin(again=True, goes_on=False)
    bench.train(2)
    bench.replay.begin(again=True, goes_on=True)
    assert bench.train(5) == [2, 3, 4, 5, 12]


def test_several_batches_may_make_a_step() -> None:
    bench = Bench()
    bench.replay.begin(again=True, goes_on=False)
    served = [bench.replay.serve(next(bench.loader)) for _ in range(6)]
    bench.replay.begin(again=True, goes_on=False)
    assert [bench.replay.serve(next(bench.loader)) for _ in range(6)] == served


def test_a_step_of_several_batches_gets_the_same_ones_after_a_shorter_step() -> None:
    bench = Bench()

    def program(*windows: int) -> list[list[Any]]:
        bench.replay.begin(again=True, goes_on=False)
        out = []
        for window in windows:
            out.append([bench.replay.serve(next(bench.loader)) for _ in range(window)])
            bench.replay.stepped()
        return out

    assert program(2, 1, 2) == [[0, 1], [2], [3, 4]]
    assert program(2, 2, 1) == [[0, 1], [2, 8], [3]]
    assert program(1, 2, 2) == [[0], [2, 8], [3, 4]]


def test_outside_of_a_search_batches_are_the_loaders_own() -> None:
    bench = Bench()
    assert bench.train(3) == [0, 1, 2]
    bench.replay.begin(again=True, goes_on=False)
    bench.train(2)
    bench.replay.stop()
    assert bench.train(3) == [5, 6, 7]


def test_after_a_search_nothing_is_held() -> None:
    bench = Bench()
    bench.replay.begin(again=True, goes_on=False)
    bench.train(2)
    bench.replay.stop()
    bench.replay.begin(again=True, goes_on=False)
    assert bench.train(2) == [2, 3]  # a search of its own begins anew


def test_no_more_steps_are_kept_than_the_longest_program_has() -> None:
    bench = Bench()
    bench.replay.begin(again=True, goes_on=False)
    bench.train(MOST_STEPS + 5)
    bench.replay.begin(again=True, goes_on=False)
    again = bench.train(MOST_STEPS + 5)
    assert again[:MOST_STEPS] == list(range(MOST_STEPS))
    assert again[MOST_STEPS] > MOST_STEPS + 5


def test_no_more_memory_is_held_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrpilot.replay.MOST_BYTES", 100)
    bench = Bench()
    bench.loader = (torch.full((8,), float(i)) for i in itertools.count())  # 32 bytes each
    for _ in range(2):
        bench.replay.begin(again=True, goes_on=False)
        served = [batch[0].item() for batch in bench.train(5)]
    assert served == [0, 1, 2, 8, 9]
    assert bench.warned == []


def test_what_cannot_be_kept_is_told_once_and_training_goes_on() -> None:
    bench = Bench()
    bench.loader = ({"x": (i for i in range(3))} for _ in itertools.count())
    bench.replay.record()
    for _ in range(2):
        bench.replay.begin(again=True, goes_on=False)
        assert all(list(batch["x"]) == [0, 1, 2] for batch in bench.train(3))
    (text,) = bench.warned
    assert "batch['x']: generator cannot be copied" in text
    assert not bench.replay.works


def test_a_loader_of_what_cannot_be_kept_is_no_matter_without_a_search() -> None:
    bench = Bench()
    bench.loader = ((i for i in range(3)) for _ in itertools.count())
    bench.train(2)
    assert bench.warned == []
    assert not bench.replay.works


def test_that_batches_can_be_kept_is_known_from_the_first_one() -> None:
    bench = Bench()
    assert not bench.replay.works
    bench.train(1)
    assert bench.replay.works


def test_batches_of_before_the_search_are_not_counted() -> None:
    bench = Bench()
    bench.replay.record()
    bench.replay.serve(next(bench.loader))  # as to look at its shape
    bench.replay.restart()
    bench.replay.serve(next(bench.loader))
    bench.replay.begin(again=True, goes_on=True)
    bench.replay.begin(again=True, goes_on=False)
    assert bench.train(1) == [1]
