"""Ranks over gloo, late in turns: a search, then weights that are lost, under one daemon.

Arguments: address, run, folder, how many ranks, whose loss counts, `ddp` or `fsdp`, and the steps
at which rank 0 waits until the test has done something to the daemon.

Each rank saves `<rank>.pt`: the LR and its own loss of every step, its weights, and what was
decided.
"""

import gc
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from support import parts
from support.daemon import until
from support.training import BATCH, ROWS, Job, attach, job, quiet_threads

STEPS = 400
SPOILED = 300


def main(
    rank: int,
    address: str,
    run: str,
    folder: Path,
    world: int,
    loss_of: str,
    how: str,
    stops: set[int],
) -> None:
    """One rank."""
    quiet_threads()
    rendezvous = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    if how == "fsdp":
        parts.check()
    torch.save(trained(rank, address, run, folder, loss_of, how, stops), folder / f"{rank}.pt")
    gc.collect()  # a reducer that outlives its process group ends the process with SIGABRT
    dist.barrier()
    dist.destroy_process_group()


def trained(
    rank: int, address: str, run: str, folder: Path, loss_of: str, how: str, stops: set[int]
) -> dict[str, Any]:
    """What this rank has to tell of its run."""
    one = job(50)
    if how == "ddp":
        one.model = DistributedDataParallel(one.model)
    else:
        from torch.distributed.fsdp import fully_shard  # not in the oldest torch

        one.model = fully_shard(one.model)
        lr = one.optimizer.defaults["lr"]
        one.optimizer = torch.optim.SGD(one.model.parameters(), lr=lr, momentum=0.5)
    one.order.manual_seed(rank)
    lrs: list[float] = []
    losses: list[float] = []
    options = {"search": True, "total_steps": STEPS, "connect_timeout": 60, "loss_of": loss_of}
    with attach(one, address, run, **options) as pilot:
        for k, (inputs, targets) in enumerate(pilot.batches(batches(one))):
            if k == SPOILED:
                one.spoil()
            loss = nn.functional.mse_loss(one.model(inputs), targets)
            one.optimizer.zero_grad()
            loss.backward()
            one.optimizer.step()
            lrs.append(one.optimizer.param_groups[0]["lr"])
            losses.append(loss.item())
            pilot.step(loss)
            if k % 50 == rank:  # whichever rank; rank 0's counts
                pilot.validate(k)
            if how == "fsdp" and k % 20 == 10:  # all ranks, since it gathers the parameters
                pilot.settle()
                one.loss()
            if rank == 0 and k in stops:
                (folder / f"at-{k}").touch()
                until((folder / f"on-{k}").exists, 60)
            if rank == 0 and k == SPOILED - 2:
                until(lambda: pilot.summary().connected, 60)
            time.sleep(0.02 if k % 11 == rank else 0.002)
        return {
            "lrs": lrs,
            "losses": losses,
            "weights": [whole(weight) for weight in one.weights()],
            "decisions": pilot.decisions,
            "summary": pilot.summary(),
        }


def whole(weight: Any) -> Tensor:
    """A weight that lies in parts on all ranks, or is whole already."""
    found: Tensor = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
    return found


def batches(one: Job) -> Iterator[tuple[Tensor, Tensor]]:
    """One for each step."""
    for _ in range(STEPS):
        rows = torch.randint(0, ROWS, (BATCH,), generator=one.order)
        yield one.inputs[rows], one.targets[rows]


if __name__ == "__main__":
    where, name, place, many, whose, way = sys.argv[1:7]
    at = {int(step) for step in sys.argv[7:]}
    arguments = (where, name, Path(place), int(many), whose, way, at)
    # Each has what this process has imported.
    torch.multiprocessing.start_processes(main, arguments, int(many), start_method="fork")
