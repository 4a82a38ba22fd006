"""A trainer that saves a checkpoint every few steps, and trains until it is killed.

Arguments: address, run, checkpoint file.
"""

import itertools
import os
import sys
from pathlib import Path

import torch

from support.training import attach, job, quiet_threads, train


def main(address: str, run: str, checkpoint: Path) -> None:
    """Train at a rate that is far too high."""
    quiet_threads()
    one = job(50)
    with attach(one, address, run) as pilot:
        for _ in itertools.count():
            train(one, pilot, range(10), pause_s=0.002)
            state = {
                "model": one.model.state_dict(),
                "optimizer": one.optimizer.state_dict(),
                "pilot": pilot.state_dict(),
            }
            torch.save(state, checkpoint.with_suffix(".new"))
            os.replace(checkpoint.with_suffix(".new"), checkpoint)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
