"""A trainer port over weights that lie in parts on two ranks (FSDP2): what is restored, is seen.

Argument: a folder. Each rank ends with 0 where three ways to the same state give the same losses.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

from lrpilot.torch.trainer import TorchTrainer
from support.training import quiet_threads


def main(rank: int, folder: Path) -> None:
    """One rank."""
    quiet_threads()
    rendezvous = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 1))
    fully_shard(model[0])
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    trainer = TorchTrainer(optimizer, model)
    inputs = torch.randn(4, 8)

    def train() -> list[float]:
        losses = []
        for _ in range(3):
            loss = model(inputs).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    trainer.snapshot(0)
    first = train()
    with torch.no_grad():
        model(inputs)  # the root keeps its whole weights after this
    trainer.restore(0, rng=True)
    assert train() == first
    trainer.restore(0, rng=True)
    assert train() == first
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(main, (Path(sys.argv[1]),), nprocs=2)
