"""Two ranks of DDP over gloo, with pilots and then without. Arguments: address, run, folder.

Each rank saves its weights as `<rank>.pt`: {"watched": [...], "alone": [...]}.
"""

import gc
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from support.training import attach, job, quiet_threads, train

RANKS = 2
STEPS = 120


def trained(rank: int, address: str | None, run: str) -> list[Tensor]:
    """The weights after a run at a rate that is far too high."""
    one = job(50)
    one.model = DistributedDataParallel(one.model)
    one.order.manual_seed(rank)
    if address is None:
        train(one, None, range(STEPS))
    else:
        with attach(one, address, run) as pilot:
            train(one, pilot, range(STEPS), pause_s=0.001)
    return one.weights()


def main(rank: int, address: str, run: str, folder: Path) -> None:
    """One rank."""
    quiet_threads()
    rendezvous = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=RANKS)
    weights = {"watched": trained(rank, address, run), "alone": trained(rank, None, run)}
    torch.save(weights, folder / f"{rank}.pt")
    gc.collect()  # a reducer that outlives its process group ends the process with SIGABRT
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(main, (sys.argv[1], sys.argv[2], Path(sys.argv[3])), nprocs=RANKS)
