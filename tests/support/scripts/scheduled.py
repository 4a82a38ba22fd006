"""A trainer that knows LRPilot only as a scheduler, and never closes it. Arguments: address, run,
and `fail` for one that ends by an exception."""

import sys

import torch

from lrpilot.torch import PilotLR
from support.training import job, quiet_threads

STEPS = 20


def main(address: str, run: str, how: str) -> None:
    quiet_threads()
    one = job()
    scheduler = PilotLR(one.optimizer, model=one.model, address=address, run=run)
    for k in range(STEPS):
        loss = torch.nn.functional.mse_loss(one.model(one.inputs), one.targets)
        one.optimizer.zero_grad()
        loss.backward()
        scheduler.observe(loss)
        one.optimizer.step()
        scheduler.step()
        if how == "fail" and k == STEPS - 1:
            raise RuntimeError("the loop's own")


if __name__ == "__main__":
    main(*sys.argv[1:])
