"""A trainer port over weights that lie in parts on several ranks (FSDP2)."""

import torch
from torch import nn

from lrpilot.torch.trainer import TorchTrainer


def check() -> None:
    """What is restored, is what trains on: to be called on all ranks of a process group."""
    from torch.distributed.fsdp import fully_shard  # not in the oldest torch

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
