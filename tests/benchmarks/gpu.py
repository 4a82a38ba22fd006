"""What LRPilot costs on a GPU, and the checks that need one: `make gpu`.

Zero synchronisations, an overhead of .3 % at most (median of paired, interleaved blocks, with its
95 % interval), LRs in captured and compiled steps, and snapshots on the host and on the device
against a plain copy of the same bytes. The figures go to `results/gpu.json`, with the device's
name. Without a device it says so and measures nothing; the exit status is then 3.
"""

import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.benchmarks._fleet import pinned
from tests.benchmarks._report import save, table
from tests.benchmarks.overhead import ROUNDS, calls_for, measure
from tests.gpu import checks
from tests.gpu.rig import Rig

import lrpilot
from support.daemon import Daemon

NO_DEVICE = 3
STEP_MS = 10.0
LIMIT_PCT = 0.3
ROWS, WIDTH, DEPTH = 4096, 2048, 12  # about 50 M parameters


def main() -> dict[str, Any]:
    """Run it: three minutes on a device; nothing without one."""
    if not torch.cuda.is_available():
        print(
            "gpu: no CUDA device, or a torch without CUDA: nothing is measured, and "
            "results/gpu.json stays as it is"
        )
        return {}
    device, failed = "cuda", list[str]()
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    parts: dict[str, Callable[[], Any]] = {
        "lr_under_replay": lambda: checks.lr_under_replay(device),
        "recompilations": lambda: checks.recompilations(device),
        "synchronizations": lambda: checks.synchronizations(device),
        "snapshots_host": lambda: checks.snapshots(device, "host", WIDTH, DEPTH),
        "snapshots_device": lambda: checks.snapshots(device, "device", WIDTH, DEPTH),
        "overhead": overhead,
    }
    for name, part in parts.items():
        try:
            figures[name] = part()
        except Exception as error:  # the others are measured all the same
            figures[name] = {"failed": f"{type(error).__name__}: {error}"}
            failed.append(name)
    table(
        f"on {figures['device']}",
        ("check", "figures"),
        [(name, str(figures[name])[:150]) for name in parts],
    )
    save("gpu", figures)
    if failed:
        sys.exit(f"failed on {figures['device']}: {', '.join(failed)}")
    return figures


def overhead() -> dict[str, Any]:
    """A guarded loop against a lone one, with a real daemon."""
    logging.getLogger("lrpilot").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        daemon = Daemon(Path(folder))
        with pinned(1):
            daemon.start()
        try:
            return _overhead(daemon.address)
        finally:
            daemon.kill()


def _overhead(address: str) -> dict[str, Any]:
    depth = _depth_for(STEP_MS)
    rigs = {name: _rig(depth) for name in ("alone", "again", "pilot")}
    one = rigs["pilot"]
    pilot = lrpilot.attach(
        one.optimizer, model=one.model, address=address, project="bench", run="overhead-gpu"
    )
    calls = calls_for(STEP_MS)

    def block(name: str) -> float:
        rig = rigs[name]
        begin = time.perf_counter()
        for _ in range(calls):
            loss = rig.train()
            if name == "pilot":
                pilot.step(loss)
        rig.wait()
        return time.perf_counter() - begin

    blocks: dict[str, Callable[[], float]] = {
        name: lambda name=name: block(name)  # type: ignore[misc]
        for name in rigs
    }
    found = measure("raw on the GPU", blocks, calls, lambda: pilot)
    pilot.close()
    low = found["pilot"]["median_95_pct"][1]
    if low > LIMIT_PCT:
        raise AssertionError(f"LRPilot costs more than {LIMIT_PCT} %: {found['pilot']}")
    return {"rounds": ROUNDS, **found}


def _rig(depth: int) -> Rig:
    return Rig("cuda", width=WIDTH, depth=depth, rows=ROWS, piloted=False)


def _depth_for(target_ms: float) -> int:
    """The number of layers at which a step takes about so long on this device."""
    for depth in range(2, 200, 4):
        rig = _rig(depth)
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            rig.train()
            rig.wait()
            times.append(time.perf_counter() - begin)
        if 1000 * min(times) >= target_ms:
            return depth
    return 200


if __name__ == "__main__":
    sys.exit(0 if main() else NO_DEVICE)
