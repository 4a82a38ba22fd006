"""A trainer whose batches come from forked DataLoader workers. Arguments: address, run."""

import sys

import torch
from torch.utils.data import DataLoader, TensorDataset

from support.training import attach, job, quiet_threads

EPOCHS = 4


def main(address: str, run: str) -> None:
    """Fork while the agent is streaming: the workers start anew in every epoch."""
    quiet_threads()
    one = job()
    data = TensorDataset(one.inputs, one.targets)
    loader = DataLoader(data, batch_size=8, num_workers=2, multiprocessing_context="fork")
    with attach(one, address, run) as pilot:
        for _ in range(EPOCHS):
            for inputs, targets in pilot.batches(loader):
                loss = torch.nn.functional.mse_loss(one.model(inputs), targets)
                one.optimizer.zero_grad()
                loss.backward()
                one.optimizer.step()
                pilot.step(loss)
        print(pilot.step_count)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
