"""What LRPilot promises on a device, each as a function that gives figures or fails.

All of them run on the CPU as well, where they mean something: so they are known to work before
there is a device.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from tests.gpu.rig import LR, Rig, same
from torch._dynamo.testing import CompileCounterWithBackend
from torch.profiler import ProfilerActivity, profile

from lrpilot.torch.memory import size_of

SYNCHRONIZING = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "hipStreamSynchronize",
    "hipDeviceSynchronize",
    "hipEventSynchronize",
)
# What reads a number out of a tensor. On a device it waits, which the calls above tell; on the
# CPU it stands in for them.
READING = ("aten::_local_scalar_dense",)
COPIES = 7


def lr_under_replay(device: str) -> dict[str, Any]:
    """An LR that we write is the one at which a captured step runs when it is replayed next."""
    rig = Rig(device)
    assert rig.pilot is not None
    step = rig.captured()
    moved, factors = [], (1.0, 0.5, 0.0, 0.25)
    address = rig.optimizer.param_groups[0]["lr"].data_ptr()
    for factor in factors:
        rig.scale(factor, factor, 1)
        rig.pilot.step(step())
        before = rig.weights()
        rig.wait()
        step()
        moved.append(_distance(before, rig.weights()))
        assert math.isclose(rig.pilot.lrs[0], LR * factor, rel_tol=1e-6), rig.pilot.lrs
    assert rig.optimizer.param_groups[0]["lr"].data_ptr() == address, "the LR's tensor was replaced"
    rig.close()
    assert moved[2] == 0.0, f"at LR 0 the weights moved by {moved[2]}"
    # AdamW moves each weight by about its LR: the ratios say whether it is ours.
    for factor, far in zip(factors, moved, strict=True):
        assert abs(far / moved[0] - factor) < 0.3 * factor + 1e-6, (factors, moved)
    return {"lr_factors": factors, "weights_moved": [round(far, 9) for far in moved]}


def recompilations(device: str, backend: str = "inductor") -> dict[str, Any]:
    """A compiled step is not compiled again, however often the LR is written."""
    torch._dynamo.reset()
    rig = Rig(device)
    assert rig.pilot is not None
    counter = CompileCounterWithBackend(backend)
    rig.compile(counter)
    for _ in range(3):
        rig.pilot.step(rig.train())
    before = counter.frame_count
    rig.scale(1.0, 0.1, 20)
    seen = set()
    for _ in range(20):
        rig.pilot.step(rig.train())
        seen.add(rig.pilot.lrs[0])
    rig.close()
    assert len(seen) == 20, f"the LR did not move at every step: {sorted(seen)}"
    assert before > 0, "nothing was compiled"
    assert counter.frame_count == before, f"compiled again: {counter.frame_count} after {before}"
    return {"compiled": before, "compiled_after_20_lrs": counter.frame_count, "backend": backend}


def synchronizations(device: str, steps: int = 30) -> dict[str, Any]:
    """What the host waited for, in steps with a pilot and in as many without.

    The LR moves at every step, losses are fetched, and a snapshot is taken in the middle.
    """
    counts, waits = {}, SYNCHRONIZING if device == "cuda" else READING
    for name, piloted in (("without", False), ("with", True)):
        rig = Rig(device, piloted=piloted, tensor_lr=device != "cpu")
        for _ in range(5):
            loss = rig.train()
            if rig.pilot is not None:
                rig.pilot.step(loss)
        if rig.pilot is not None:
            rig.scale(1.0, 0.1, steps)
        rig.wait()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if rig.cuda else [])]
        with profile(activities=activities) as profiler:
            _train_with_a_snapshot(rig, steps)
        events = profiler.key_averages()
        counts[name] = {e.key: e.count for e in events if e.key in waits}
        if rig.pilot is not None:
            rig.pilot.validate(0.0)  # which may wait: all losses are there
            arrived = len(rig.daemon.losses)
            assert arrived == steps + 5, f"{arrived} of {steps + 5} losses arrived"
            assert len(set(rig.daemon.losses)) > steps // 2
        rig.close()
    ours = {
        name: counts["with"].get(name, 0) - counts["without"].get(name, 0)
        for name in counts["with"].keys() | counts["without"].keys()
    }
    assert not any(count > 0 for count in ours.values()), f"waits that are ours: {ours}"
    return {"steps": steps, **counts, "ours": ours}


def _train_with_a_snapshot(rig: Rig, steps: int) -> None:
    strict = rig.cuda and rig.pilot is not None
    for k in range(steps):
        loss = rig.train()
        if rig.pilot is None or rig.trainer is None:
            continue
        if strict:  # torch itself raises where one of its calls would wait
            torch.cuda.set_sync_debug_mode("error")
        try:
            rig.pilot.step(loss)
            if k == steps // 2:
                rig.trainer.snapshot(0)  # into memory that it has from the start
        finally:
            if strict:
                torch.cuda.set_sync_debug_mode("default")


def snapshots(device: str, place: str, width: int = 64, depth: int = 3) -> dict[str, Any]:
    """A snapshot is exact though training goes on beside it; its time against a plain copy's."""
    rig = Rig(device, place=place, width=width, depth=depth)
    trainer = rig.trainer
    assert trainer is not None
    rig.train()
    rig.train()
    trainer.snapshot(0)
    expected = rig.weights()
    first = [rig.train().detach().clone() for _ in range(3)]
    trainer.restore(0, rng=True)
    assert same(rig.weights(), expected), "a snapshot is not what was saved"
    again = [rig.train().detach().clone() for _ in range(3)]
    assert same(first, again), "training from a restored snapshot is another one"
    tensors = [*rig.model.state_dict().values()]
    tensors += [t for s in rig.optimizer.state.values() for t in s.values()]
    size = size_of(tensors)
    source = torch.ones(size // 4, device=device)
    to = torch.empty_like(source, device=device if place == "device" else "cpu")
    if rig.cuda and place == "host":
        to = to.pin_memory()
    times: dict[str, list[float]] = {"plain": [], "save": [], "restore": [], "host": []}
    for number in range(COPIES + 1):
        plain = _timed(rig, lambda: to.copy_(source, non_blocking=True))[1]
        host, save = _timed(rig, lambda: trainer.snapshot(0))
        restore = _timed(rig, lambda: trainer.restore(0, rng=True))[1]
        if number:
            for name, took in zip(times, (plain, save, restore, host), strict=True):
                times[name].append(1000 * took)
    rig.close()
    found = {name: round(statistics.median(values), 3) for name, values in times.items()}
    return {
        "place": place,
        "mib": round(size / (1 << 20), 1),
        "plain_copy_ms": found["plain"],
        "save_ms": found["save"],
        "restore_ms": found["restore"],
        "save_host_ms": found["host"],
        "save_over_plain": round(found["save"] / found["plain"], 2),
        "restore_over_plain": round(found["restore"] / found["plain"], 2),
    }


def _timed(rig: Rig, call: Callable[[], object]) -> tuple[float, float]:
    """Seconds until a call returned, and until the device was through with it."""
    rig.wait()
    begin = time.perf_counter()
    call()
    returned = time.perf_counter() - begin
    rig.wait()
    return returned, time.perf_counter() - begin


def _distance(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """The mean distance between parameters; buffers move at any LR."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.dim() == 2]
    return float(sum((a - b).abs().mean() for a, b in pairs)) / len(pairs)
