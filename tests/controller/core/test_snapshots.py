"""Which of the trainer's snapshots is proven."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.snapshots import Snapshot, Snapshots


def snapshot(number: int) -> Snapshot:
    return Snapshot(number, 10 * number, {"name": {"number": number}})


def feed(snapshots: Snapshots, healthy: Sequence[bool], first: int = 1000) -> list[int]:
    """The snapshots that the losses from step `first` on prove."""
    found = (snapshots.update(step, h) for step, h in enumerate(healthy, first))
    return [one for one in found if one is not None]


def test_the_start_state_is_proven_by_definition() -> None:
    snapshots = Snapshots(proof_steps=5)
    snapshots.taken(snapshot(1), proven=True)
    assert snapshots.proven == snapshot(1)
    assert feed(snapshots, [True] * 10) == []


def test_another_one_needs_healthy_samples_without_a_break() -> None:
    snapshots = Snapshots(proof_steps=3)
    snapshots.taken(snapshot(1), proven=True)
    snapshots.taken(snapshot(2), proven=False)
    assert feed(snapshots, [True, True, False, True, True]) == []
    assert snapshots.proven == snapshot(1)
    assert feed(snapshots, [True]) == [2]
    assert snapshots.proven == snapshot(2)
    assert feed(snapshots, [True] * 9) == []


def test_samples_before_it_prove_nothing() -> None:
    snapshots = Snapshots(proof_steps=3)
    feed(snapshots, [True] * 9, first=1)
    snapshots.taken(snapshot(1), proven=False)
    assert feed(snapshots, [True] * 9, first=1) == [], "they came late"
    assert feed(snapshots, [True, True], first=10) == []
    assert feed(snapshots, [True], first=12) == [1]


def test_a_newer_one_starts_anew() -> None:
    snapshots = Snapshots(proof_steps=3)
    snapshots.taken(snapshot(1), proven=False)
    feed(snapshots, [True, True])
    snapshots.taken(snapshot(2), proven=False)
    assert feed(snapshots, [True, True]) == []
    assert feed(snapshots, [True]) == [2]


def test_after_a_rollback_nothing_waits_any_more() -> None:
    snapshots = Snapshots(proof_steps=3)
    snapshots.taken(snapshot(1), proven=True)
    snapshots.taken(snapshot(2), proven=False)
    snapshots.rolled_back()
    assert feed(snapshots, [True] * 9) == []
    assert snapshots.proven == snapshot(1)


@given(st.lists(st.booleans() | st.none() | st.just("taken"), max_size=60))
def test_only_what_was_healthy_long_enough_is_ever_proven(
    events: list[bool | str | None],
) -> None:
    snapshots, number, run = Snapshots(proof_steps=4), 1, 0
    snapshots.taken(snapshot(1), proven=True)
    for event in events:
        match event:
            case "taken":
                number, run = number + 1, 0
                snapshots.taken(snapshot(number), proven=False)
            case bool():
                run = run + 1 if event else 0
                found = snapshots.update(10 * number, event)
                if found is not None:
                    assert run >= 4
                    assert found == number
                    assert snapshots.proven == snapshot(number)
            case _:
                snapshots.rolled_back()
    assert snapshots.proven is not None
