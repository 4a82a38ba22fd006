"""The streams that `too_high` is judged on: kept exactly, and scored as they should be."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.detection import too_high, too_high_streams
from benchmarks.detection.too_high_tasks import DESIGN, TEST, job
from lrpilot_controller.core.model import SignalKind


def stream(multiple: float, train: list[float], val: dict[int, float]) -> dict[str, Any]:
    return {
        "task": "digits_mlp",
        "optimizer": "sgdm",
        "multiple": multiple,
        "seed": 1,
        "peak_lr": 0.5 * multiple,
        "schedule": "constant",
        "uninformed": 2.0,
        "lr": np.full(len(train), 0.5 * multiple),
        "train": train,
        "val": val,
    }


def test_an_archive_keeps_every_loss_and_what_is_not_finite(tmp_path: Path) -> None:
    kept = [
        stream(1.0, [2.0, 1.5, 1.25], {}),
        stream(10.0, [2.0] + [math.nan] * 59 + [math.inf], {50: math.nan}),
        stream(3.0, [0.5] * 100, {50: 0.75, 100: 0.5}),
    ]
    path = tmp_path / "streams.npz"
    too_high_streams.save(too_high_streams.Archive({"digits_mlp": {}}, kept), path)

    again = too_high_streams.load(path)

    for was, now in zip(kept, again, strict=True):
        assert now.keys() == was.keys()
        np.testing.assert_array_equal(now["train"], was["train"])
        np.testing.assert_array_equal(now["lr"], was["lr"])
        np.testing.assert_array_equal([*now["val"]], [*was["val"]])
        np.testing.assert_array_equal([*now["val"].values()], [*was["val"].values()])


def test_a_stream_is_the_same_each_time_and_ends_when_it_is_lost() -> None:
    def record(lr: float) -> tuple[list[float], list[float]]:
        made = job("matrix_factorization", "sgdm", 1, 500)
        return too_high_streams.train(made, lr, "constant", 60)

    losses, held_out = record(0.1)
    assert (losses, held_out) == record(0.1)
    assert (len(losses), len(held_out)) == (60, 1)
    lost, _ = record(1e3)
    assert len(lost) < 60
    assert not any(map(math.isfinite, lost[-too_high_streams.LOST_AFTER :]))


def test_no_model_is_on_both_sides() -> None:
    shapes = {
        name: [tuple(p.shape) for p in job(name, "adam", 1, 500).model.parameters()]
        for name in DESIGN + TEST
    }
    assert not [a for a in DESIGN for b in TEST if shapes[a] == shapes[b]]


def test_a_run_is_worse_by_what_it_has_not_learnt_of_the_right_one() -> None:
    right = stream(1.0, [2.0] * 100, {50: 1.2, 100: 1.0})
    assert not too_high.worse(stream(3.0, [2.0] * 50, {50: 1.25}), right)
    assert too_high.worse(stream(3.0, [2.0] * 50, {50: 1.35}), right)
    assert too_high.worse(stream(3.0, [2.0] * 50, {50: math.nan}), right)
    assert too_high.worse(stream(3.0, [math.nan] * 20, {}), right)


def test_the_tables_tell_what_the_detectors_say() -> None:
    learning = [2 * 0.98**k + 0.01 * (-1) ** k for k in range(200)]
    lost = [*learning[:60], *[math.nan] * 20]
    judged = too_high.judge([stream(1.0, learning, {50: 0.7}), stream(30.0, lost, {50: 0.7})])
    assert judged[0].first == {}
    assert judged[1].first[SignalKind.NONFINITE] == 60
    caught, worse, false = too_high.report(judged).split("**\n\n")[1:]
    none, every = "0 % (0 % to 79 %)", "100 % (21 % to 100 %)"
    assert f"| design | sgdm | x30 | 1 | {every} | {none} | {every} | {every} |" in caught
    assert f"| design | sgdm | x30 | 1 | {none} | {every} | {every} |" in worse
    assert f"| design | sgdm | x1 | 1 | {none} | {none} |" in false


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_holds_the_share(counts: tuple[int, int]) -> None:
    hits, total = counts
    low, high = too_high.wilson(hits, total)
    assert 0 <= low <= hits / total + 1e-12
    assert hits / total - 1e-12 <= high <= 1
    mirrored = too_high.wilson(total - hits, total)
    assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]), abs=1e-12)
